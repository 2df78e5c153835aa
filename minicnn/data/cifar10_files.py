"""CIFAR-10's files: two layouts, each as a folder or as a tar.gz of that folder.

Either layout has six files of 10,000 pictures.  A picture is 3,072 bytes, first all its red, then
all green, then all blue; here it becomes (32, 32, 3).  An archive is read as a stream, by the exact
names of its members: nothing is unpacked to disk.

Krizhevsky, "Learning multiple layers of features from tiny images", 2009,
https://www.cs.toronto.edu/~kriz/cifar.html
"""

from __future__ import annotations

import gzip
import hashlib
import stat
import tarfile
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

import numpy as np

from .cifar10_pickle import load_batch
from .errors import DatasetError

Split: TypeAlias = tuple[np.ndarray, np.ndarray]

PER_FILE = 10_000
PIXELS = 3 * 32 * 32
BATCHES = [f"data_batch_{i}" for i in range(1, 6)] + ["test_batch"]
LARGEST = 64 << 20  # bytes: a batch file has about 31 million
LARGEST_ARCHIVE = 256 << 20  # bytes once unpacked: an archive has about 185 million
CURE = "Delete it and fetch CIFAR-10 again (minicnn data fetch), or name another data_dir."


def parse_python(data: bytes) -> Split:
    """Return pixels, uint8 (10000, 3072), and labels, int64 (10000,), of a pickled batch."""
    pixels, labels = load_batch(data)
    if pixels.shape != (PER_FILE, PIXELS):
        raise DatasetError(f"its array is {pixels.shape}, expected {(PER_FILE, PIXELS)}")
    if len(labels) != PER_FILE or not all(type(label) is int for label in labels):
        raise DatasetError(f"it has {len(labels)} labels, expected {PER_FILE} integers")
    return pixels, checked_labels(labels)


def parse_binary(data: bytes) -> Split:
    """Return pixels, uint8 (10000, 3072), and labels, int64 (10000,), of a binary batch."""
    expected = PER_FILE * (1 + PIXELS)
    if len(data) != expected:
        raise DatasetError(f"it has {len(data):,} bytes, expected {expected:,}")
    rows = np.frombuffer(data, dtype=np.uint8).reshape(PER_FILE, 1 + PIXELS)
    return rows[:, 1:], checked_labels(rows[:, 0].tolist())


def checked_labels(labels: list[int]) -> np.ndarray:
    """Return the labels as int64; raise `DatasetError` unless all are 0 to 9."""
    low, high = min(labels), max(labels)
    if low < 0 or high > 9:
        raise DatasetError(f"its labels go from {low} to {high}, expected 0 to 9")
    return np.array(labels, dtype=np.int64)


@dataclass(frozen=True)
class Layout:
    """One of the two forms in which CIFAR-10 is given out."""

    folder: str
    archive: str
    size: int  # of the archive, in bytes
    sha256: str  # of the archive
    members: dict[str, str]  # name of each batch file -> its MD5, or "" where none is known
    parse: Callable[[bytes], Split]


PYTHON = Layout(
    folder="cifar-10-batches-py",
    archive="cifar-10-python.tar.gz",
    size=170_498_071,
    sha256="6d958be074577803d12ecdefd02955f39262c83c16fe9348329d7fe0b5c001ce",
    members=dict(
        zip(
            BATCHES,
            (
                "c99cafc152244af753f735de768cd75f",
                "d4bba439e000b95fd0a9bffe97cbabec",
                "54ebc095f3ab1f0389bbae665268c751",
                "634d18415352ddfa80567beed471001a",
                "482c414d41f54cd18b22e5b47cb7c3cb",
                "40351d587109b95175f43aff81a1287e",
            ),
            strict=True,
        )
    ),
    parse=parse_python,
)

BINARY = Layout(
    folder="cifar-10-batches-bin",
    archive="cifar-10-binary.tar.gz",
    size=170_052_171,
    sha256="c4a38c50a1bc5f3a1c5537f2155ab9d68f9f25eb1ed8d9ddda3db29a59bca1dd",
    members={f"{name}.bin": "" for name in BATCHES},
    parse=parse_binary,
)


@dataclass(frozen=True)
class Copy:
    """A copy of CIFAR-10 on this machine: ``path`` is a folder or an archive."""

    path: Path
    layout: Layout

    def read(self) -> tuple[Split, Split, list[str]]:
        """Return training set, test set, and the names of files that aren't the official ones.

        x: uint8 (N, 32, 32, 3), C-contiguous.  y: int64 (N,).  Raises `DatasetError` if a file
        can't be read as a batch of CIFAR-10, or an archive isn't an official one.
        """
        names = list(self.layout.members)
        x = np.empty((len(names), PER_FILE, 32, 32, 3), dtype=np.uint8)
        y = np.empty((len(names), PER_FILE), dtype=np.int64)
        foreign = []
        for name, data in self.files():
            try:
                pixels, labels = self.layout.parse(data)
            except DatasetError as error:
                raise DatasetError(f"{self.path / name}: {error}. {CURE}") from error
            if not official(data, self.layout.members[name]):
                foreign.append(name)
            k = names.index(name)
            for channel, plane in enumerate(np.split(pixels, 3, axis=1)):
                x[k, ..., channel] = plane.reshape(-1, 32, 32)
            y[k] = labels
        train = x[:5].reshape(-1, 32, 32, 3), y[:5].reshape(-1)
        return train, (x[5], y[5]), foreign

    def foreign_files(self) -> list[str]:
        """Return the names of files whose checksums aren't the official ones."""
        members = self.layout.members
        return [name for name, data in self.files() if not official(data, members[name])]

    def files(self) -> Iterator[tuple[str, bytes]]:
        """Yield the name and the bytes of the six batch files, in the order in which they lie."""
        return self.files_in_archive() if self.path.is_file() else self.files_in_folder()

    def files_in_folder(self) -> Iterator[tuple[str, bytes]]:
        """Yield the files of a folder; raise `DatasetError` if one is missing or far too large."""
        for name in self.layout.members:
            path = self.path / name
            try:
                found = path.stat()
                if not stat.S_ISREG(found.st_mode):  # a pipe or a device may never end
                    raise DatasetError(f"{path} isn't a plain file. {CURE}")
                if found.st_size > LARGEST:
                    raise DatasetError(
                        f"{path} has {found.st_size:,} bytes, expected 31 million. {CURE}"
                    )
                yield name, path.read_bytes()
            except OSError as error:
                raise DatasetError(
                    f"{path} can't be read ({error.strerror}); the folder should hold "
                    f"{', '.join(self.layout.members)}. {CURE}"
                ) from error

    def files_in_archive(self) -> Iterator[tuple[str, bytes]]:
        """Yield the files of an archive, once its bytes are known to be the official ones."""
        wanted = {f"{self.layout.folder}/{name}": name for name in self.layout.members}
        try:
            self.check_archive()
            with Unpacked(self.path) as stream, tarfile.open(fileobj=stream, mode="r|") as tar:
                for member in tar:
                    if member.name in wanted and member.isreg() and not member.issparse():
                        if member.size > LARGEST:
                            raise DatasetError(
                                f"{self.path}: {member.name} has {member.size:,} bytes, expected "
                                f"31 million. {CURE}"
                            )
                        file = tar.extractfile(member)
                        yield wanted.pop(member.name), file.read() if file else b""
        except (tarfile.TarError, EOFError, OSError, RecursionError, zlib.error) as error:
            raise DatasetError(f"{self.path} can't be unpacked ({error}). {CURE}") from error
        if wanted:
            raise DatasetError(f"{self.path} lacks {', '.join(wanted)}. {CURE}")

    def check_archive(self) -> None:
        """Raise `DatasetError` unless the archive has the official size and SHA-256."""
        size, expected = self.path.stat().st_size, self.layout
        if size != expected.size:
            raise DatasetError(
                f"{self.path} has {size:,} bytes, expected {expected.size:,} "
                f"({expected.archive}): it may be half a download. {CURE}"
            )
        with open(self.path, "rb") as file:
            sha256 = hashlib.file_digest(file, "sha256").hexdigest()
        if sha256 != expected.sha256:
            raise DatasetError(
                f"{self.path} has SHA-256 {sha256}, expected {expected.sha256} "
                f"({expected.archive}). {CURE}"
            )


class Unpacked(gzip.GzipFile):
    """What is in a gz file, up to `LARGEST_ARCHIVE` bytes: a few can unpack to very many."""

    def read(self, size: int | None = -1) -> bytes:
        """Return the next bytes; raise OSError if they are more than an archive has."""
        data = super().read(size)
        if self.tell() > LARGEST_ARCHIVE:
            raise OSError(f"it holds more than {LARGEST_ARCHIVE:,} bytes")
        return data


def official(data: bytes, md5: str) -> bool:
    """Tell whether ``data`` has this MD5; where none is known the answer is yes."""
    return not md5 or hashlib.md5(data, usedforsecurity=False).hexdigest() == md5
