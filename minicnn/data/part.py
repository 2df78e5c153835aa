"""A file on its way: what has arrived, and which version of the source it is a part of."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from ..files import sync_folder


@dataclass(frozen=True)
class Part:
    """The first bytes of a file, and beside them a note on where they are from."""

    target: Path  # the name of the whole file
    size: int  # of the whole file, in bytes
    sha256: str  # of the whole file

    @property
    def path(self) -> Path:
        """Return where the bytes lie until they are all there."""
        return self.target.with_name(self.target.name + ".part")

    @property
    def note(self) -> Path:
        """Return the path of the note: the address of a source, and its validator."""
        return self.path.with_name(self.path.name + ".source")

    def got(self) -> int:
        """Return how many bytes have arrived."""
        return self.path.stat().st_size if self.path.is_file() else 0

    def validator(self, url: str) -> str:
        """Return what names the version that the last bytes are of, if they are from ``url``.

        Empty if they are from elsewhere, or if nothing is known.
        """
        try:
            source, validator = self.note.read_text("utf-8").splitlines()
        except (FileNotFoundError, ValueError):
            return ""
        return validator if source == url else ""

    @contextmanager
    def writer(self, start: int, url: str, validator: str) -> Iterator[BinaryIO]:
        """Open the file to be written from byte ``start`` on, and note the source.

        What lies behind ``start`` is cut off first: bytes of one version never stand under the
        note of another for long, and if they do, after a crash, the checksum will tell.
        """
        with open(self.path, "ab") as file:
            file.truncate(start)
            self.note.write_text(f"{url}\n{validator}\n", "utf-8")
            yield file

    def drop(self) -> None:
        """Forget what has arrived."""
        self.path.unlink(missing_ok=True)
        self.note.unlink(missing_ok=True)

    def finish(self) -> None:
        """Give the file its name, once its bytes are safe on the disk."""
        with open(self.path, "r+b") as file:
            os.fsync(file.fileno())
        os.replace(self.path, self.target)
        self.note.unlink(missing_ok=True)
        sync_folder(self.target.parent)


def checksum(path: Path) -> str:
    """Return the SHA-256 of a file."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
