"""Download one file whose size and SHA-256 are known, from the best of several sources.

The sources needn't be trusted: the checksum decides.  A file is written beside its final name and
gets that name only when it is whole, so whatever bears the name is right.  What has arrived is kept
when a download ends early, and the next one goes on from there, be it from another source.
"""

from __future__ import annotations

import shutil
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from .errors import DownloadError
from .lock import locked
from .mirrors import Source, best, better_is_left
from .part import Part, checksum
from .transfer import (
    CertificateError,
    Patience,
    SourceCrawls,
    SourceError,
    SourceRefused,
    transfer,
)

MARGIN = 64 << 20  # bytes that stay free on the disk

CERTIFICATES = (
    "A certificate couldn't be checked. See that this machine's clock is right, and renew its list "
    "of authorities (the system's package ca-certificates; on macOS 'Install Certificates.command' "
    "in Python's folder), or name a list that has yours, as of a company's proxy, in SSL_CERT_FILE."
)


def download(
    urls: Sequence[str],
    path: Path,
    size: int,
    sha256: str,
    progress: bool = True,
    patience: Patience | None = None,
) -> Path:
    """Fetch the file of ``size`` bytes and checksum ``sha256`` to ``path`` and return ``path``.

    urls: the sources, in order of preference.  One that fails is tried again after the others,
    after a pause; one that crawls is left for the next, and taken up again, the fastest first, if
    no other is left.  progress: say on stderr what goes on, with a bar if it is a terminal.

    Missing folders are made.  If another process fetches the file, wait for it.  Raises
    `DownloadError` if no source gives the right bytes, or if the disk can't take them; nothing is
    at ``path`` then that wasn't there before, and what can be continued stays at ``path``.part.
    """
    part = Part(path, size, sha256)
    say = print_to_stderr if progress else lambda line: None
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with locked(
            path.with_name(path.name + ".lock"),
            on_wait=lambda: say(f"{path.name}: another process fetches it; waiting for it"),
        ):
            if not right(path, part):
                check_room(part)
                collect(part, [Source(url) for url in urls], patience or Patience(), progress)
                part.finish()
    except OSError as error:
        raise DownloadError(
            f"{error.filename or part.path} can't be written: {error.strerror or error}. Make room "
            f"or get the right to write there, or name another folder (data_dir or MINICNN_HOME)."
            f"{kept(part)}"
        ) from error
    return path


def right(path: Path, part: Part) -> bool:
    """Tell whether ``path`` is the whole file that ``part`` is to become."""
    return path.is_file() and path.stat().st_size == part.size and checksum(path) == part.sha256


def collect(part: Part, sources: list[Source], patience: Patience, progress: bool) -> None:
    """Complete ``part``; raise `DownloadError` with the reasons of all sources if none can."""
    if right(part.path, part):  # the process that fetched it ended just before the last step
        return
    if part.got() >= part.size:
        part.drop()
    from tqdm import tqdm  # not at import time: few runs download anything

    pauses = 0
    with tqdm(
        total=part.size,
        initial=part.got(),
        desc=part.target.name,
        unit="B",
        unit_scale=True,
        leave=False,
        disable=None if progress else True,  # None: only on a terminal
    ) as bar:
        while source := best(sources, patience.tries):
            if len(source.failures) > pauses:
                time.sleep(patience.pause * 2**pauses)
                pauses += 1
            slow = patience.slow if better_is_left(source, sources, patience.tries) else 0
            try:
                bring(source.url, part, patience, slow, lambda got: bar.update(got - bar.n))
                return
            except SourceCrawls as error:
                source.rate, reason = error.rate, str(error)
            except SourceError as error:
                source.failures.append(error)
                reason = str(error)
            if progress:
                bar.write(f"{part.target.name}: {source.host}: {reason}", file=sys.stderr)
    if not part.got():
        part.drop()
    raise DownloadError(failure(part, sources))


def bring(
    url: str, part: Part, patience: Patience, slow: float, arrived: Callable[[int], object]
) -> None:
    """Complete ``part`` from one source, or raise `SourceError`.

    If the whole has the wrong checksum, none of it is kept.  The fault may be in what had arrived
    before, from another source or before a crash: then the source is asked for all of it.
    """
    while True:
        start = transfer(url, part, patience, slow, arrived)
        found = checksum(part.path)
        if found == part.sha256:
            return
        part.drop()
        if start == 0:
            raise SourceRefused(f"other bytes: SHA-256 {found}, expected {part.sha256}")


def check_room(part: Part) -> None:
    """Raise `DownloadError` unless the disk has room for what is missing, and some more."""
    folder = part.target.parent
    needed, free = part.size - part.got() + MARGIN, shutil.disk_usage(folder).free
    if free < needed:
        raise DownloadError(
            f"{folder} has {free:,} bytes free, but {part.target.name} needs {needed:,} (of which "
            f"{MARGIN:,} stay free). Make room, or name another folder (data_dir or MINICNN_HOME)."
        )


def failure(part: Part, sources: Sequence[Source]) -> str:
    """Return what to say when no source was of use."""
    tried = "".join(f"\n  {source.url}: {source.report()}" for source in sources) or " none"
    failures = [failure for source in sources for failure in source.failures]
    certificates = any(isinstance(failure, CertificateError) for failure in failures)
    return (
        f"{part.target.name} can't be downloaded. Sources tried:{tried}\n"
        + (f"{CERTIFICATES}\n" if certificates else "")
        + f"Get the file in another way ({part.size:,} bytes, SHA-256 {part.sha256}) and put it "
        f"at {part.target}, or try again later.{kept(part)}"
    )


def kept(part: Part) -> str:
    """Say what is there to be continued."""
    try:
        got = part.got()
    except OSError:
        got = 0
    where = f" {got:,} bytes are kept at {part.path}: the next download goes on from there."
    return where if got else ""


def print_to_stderr(line: str) -> None:
    """Say something while a download goes on."""
    print(line, file=sys.stderr)
