"""Files that are whole or not there: written beside their place, made safe, then renamed."""

from __future__ import annotations

import errno
import os
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

if sys.platform == "win32":
    import msvcrt
else:
    import fcntl


@contextmanager
def whole_file(path: Path) -> Iterator[Path]:
    """Give the block a path to write to; afterwards the file appears at ``path`` in one step.

    If the block or the disk fails, ``path`` is what it was before and nothing is left behind.  If
    the machine fails, at any moment, ``path`` is the old file or the new one, whole.  A
    process that is killed leaves its part behind, ``.NAME.XXXXXXXX.part``.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(prefix=f".{path.name}.", suffix=".part", dir=path.parent)
    os.close(handle)
    part = Path(name)
    try:
        yield part
        part.chmod(0o666 & ~umask())
        with naming(path), open(part, "rb") as file:
            os.fsync(file.fileno())
        os.replace(part, path)
    finally:
        part.unlink(missing_ok=True)
    sync_folder(path.parent)


def check_place(path: Path) -> None:
    """Raise OSError unless `whole_file` could write to ``path``; its folder is made."""
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.is_dir():
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(path))
    try:
        tempfile.TemporaryFile(dir=path.parent).close()
    except OSError as error:  # which names a file of no interest
        raise OSError(error.errno, error.strerror, str(path)) from error


@contextmanager
def naming(path: Path) -> Iterator[None]:
    """Give errors of the system that don't say which file it was about the name ``path``."""
    try:
        yield
    except OSError as error:
        if error.filename is None and error.errno is not None:
            error.filename = str(path)
        raise


def sync_folder(folder: Path) -> None:
    """Make the names in a folder safe on the disk, where the system has such a thing."""
    if sys.platform != "win32":
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


def umask() -> int:
    """Return the permissions that new files of this process are denied."""
    mask = os.umask(0o077)
    os.umask(mask)
    return mask


@contextmanager
def take_lock(path: Path) -> Iterator[bool]:
    """Hold the lock that is the file ``path`` while the block runs; give False if another has it.

    It is a lock of the operating system and ends with the process that holds it, however that
    ends: nothing is left to be cleaned up.  The file itself stays, empty.
    """
    with open(path, "ab") as file:
        yield lock(file)


def lock(file: IO[Any]) -> bool:
    """Lock an open file, without waiting; return False if another process holds it."""
    try:
        if sys.platform == "win32":
            msvcrt.locking(file.fileno(), msvcrt.LK_NBLCK, 1)
        else:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except (BlockingIOError, PermissionError):  # what it is called here, what on Windows
        return False
    return True
