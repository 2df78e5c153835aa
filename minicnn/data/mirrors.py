"""Which of several sources to ask next."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from urllib.parse import urlsplit

from .transfer import SourceError, SourceRefused


@dataclass
class Source:
    """An address, and what came of it so far."""

    url: str
    failures: list[SourceError] = field(default_factory=list)
    rate: float | None = None  # bytes a second, where it was left because it crawled

    @property
    def host(self) -> str:
        """Return the short name."""
        try:
            return urlsplit(self.url).hostname or self.url
        except ValueError:
            return self.url

    def usable(self, tries: int) -> bool:
        """Tell whether it is worth another try."""
        refused = any(isinstance(failure, SourceRefused) for failure in self.failures)
        return len(self.failures) < tries and not refused

    def report(self) -> str:
        """Return its reasons, with how often each was met."""
        counts = Counter(map(str, self.failures))
        return "; ".join(
            f"{reason} ({n} times)" if n > 1 else reason for reason, n in counts.items()
        )


def best(sources: Sequence[Source], tries: int) -> Source | None:
    """Return the source to ask next, or None if there is no use.

    First those that aren't known to crawl, in turns; then those that crawl, the fastest first.
    """
    usable = [source for source in sources if source.usable(tries)]
    return min(
        usable,
        key=lambda s: (s.rate is not None, len(s.failures), -(s.rate or 0)),
        default=None,
    )


def better_is_left(than: Source, sources: Sequence[Source], tries: int) -> bool:
    """Tell whether there is another source that isn't known to crawl."""
    return any(s is not than and s.rate is None and s.usable(tries) for s in sources)
