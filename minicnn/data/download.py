"""Download one file whose size and SHA-256 are known, from the first source that has it.

The sources needn't be trusted: the checksum decides.  A file is written beside its final name and
gets that name only when it is whole, so whatever bears the name is right.
"""

from __future__ import annotations

import hashlib
import http.client
import os
import urllib.error
import urllib.request
from collections.abc import Iterator, Sequence
from pathlib import Path

from .errors import DownloadError

TIMEOUT = 20.0  # seconds without a byte
CHUNK = 1 << 18  # bytes


class SourceError(Exception):
    """One source failed; the text is the reason, and the next source may do better."""


def download(
    urls: Sequence[str], path: Path, size: int, sha256: str, progress: bool = True
) -> Path:
    """Fetch the file of ``size`` bytes and checksum ``sha256`` to ``path`` and return ``path``.

    urls: the sources, tried in this order.  progress: show a bar if stderr is a terminal.
    Missing folders are made.  Raises `DownloadError` if no source gives the right bytes, with
    nothing left behind, and OSError if the file can't be written.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(path.name + ".part")
    failures = []
    for url in urls:
        try:
            save(url, part, size, sha256, progress)
            os.replace(part, path)
            return path
        except SourceError as error:
            failures.append(f"\n  {url}: {error}")
        finally:
            part.unlink(missing_ok=True)
    raise DownloadError(
        f"{path.name} can't be downloaded. Sources tried:{''.join(failures) or ' none'}\n"
        f"Get the file in another way ({size:,} bytes, SHA-256 {sha256}) and put it at {path}, "
        "or try again later."
    )


def save(url: str, part: Path, size: int, sha256: str, progress: bool) -> None:
    """Write what ``url`` gives to ``part``; raise `SourceError` unless it is the file wanted."""
    from tqdm import tqdm  # not at import time: few runs download anything

    digest, got = hashlib.sha256(), 0
    with (
        open(part, "wb") as file,
        tqdm(
            total=size,
            desc=part.stem,
            unit="B",
            unit_scale=True,
            leave=False,
            disable=None if progress else True,  # None: only on a terminal
        ) as bar,
    ):
        for chunk in read(url, size):
            file.write(chunk)
            digest.update(chunk)
            got += len(chunk)
            bar.update(len(chunk))
        file.flush()
        os.fsync(file.fileno())
    if got != size:
        raise SourceError(f"it ended after {got:,} bytes, expected {size:,}")
    if digest.hexdigest() != sha256:
        raise SourceError(f"other bytes: SHA-256 {digest.hexdigest()}, expected {sha256}")


def read(url: str, size: int) -> Iterator[bytes]:
    """Yield the bytes behind ``url``, at most ``size``, in chunks.

    Every failure of the network is a `SourceError`; none of the disk is.
    """
    try:
        request = urllib.request.Request(url, headers={"User-Agent": "minicnn"})
        with urllib.request.urlopen(request, timeout=TIMEOUT) as response:
            offered = response.headers.get("Content-Length") or str(size)
            if offered != str(size):
                kind = response.headers.get("Content-Type", "unknown type")
                raise SourceError(f"it offers {offered} bytes ({kind}), expected {size}")
            got = 0
            while chunk := response.read(CHUNK):
                got += len(chunk)
                if got > size:
                    raise SourceError(f"it gives more than the {size:,} bytes expected")
                yield chunk
    except urllib.error.HTTPError as error:
        error.close()
        raise SourceError(f"HTTP {error.code} {error.reason}") from error
    except urllib.error.URLError as error:
        raise SourceError(str(error.reason)) from error
    except (OSError, ValueError, http.client.HTTPException) as error:
        raise SourceError(f"{type(error).__name__}: {error}") from error
