"""The progress bar: on a terminal, and nowhere else."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from .metrics import Meter


class Bar:
    """A bar with running loss and accuracy, pictures per second and the time left."""

    def __init__(self, tqdm_bar: Any = None) -> None:
        self.bar, self.shown = tqdm_bar, 0.0

    def advance(self, pictures: int, meter: Meter) -> None:
        """Move on; figures are read a few times a second only, since a GPU has to wait for it."""
        if self.bar is None:
            return
        self.bar.update(pictures)
        if time.monotonic() - self.shown > 0.25:
            self.bar.set_postfix_str(f"loss {meter.loss:.4f}  accuracy {meter.accuracy:.4f}")
            self.shown = time.monotonic()


def check_show(show: str | bool) -> None:
    """Raise ValueError unless ``show`` is True, False or "auto"."""
    if show not in (True, False, "auto"):
        raise ValueError(f"progress {show!r}: expected 'auto', True or False")


@contextmanager
def progress_bar(total: int, title: str, show: str | bool = "auto", done: int = 0) -> Iterator[Bar]:
    """Open a bar over ``total`` pictures, ``done`` of them done before.

    show: True, False, or "auto" for terminals only.
    """
    check_show(show)
    terminal = sys.stderr is not None and sys.stderr.isatty()
    if not (terminal if show == "auto" else show):
        yield Bar()
        return
    from tqdm import tqdm

    options = {"unit": " images", "leave": False, "dynamic_ncols": True}
    with tqdm(total=total, desc=title, initial=done, **options) as bar:
        yield Bar(bar)
