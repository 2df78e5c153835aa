"""Let one process at a time work on a file.

The lock is one of the operating system, on a file beside the one that is worked on: it ends with
the process that holds it, however that ends.
"""

from __future__ import annotations

import os
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, Any

from ..files import lock
from .errors import DatasetWarning

POLL = 0.1  # seconds between two looks at a lock that another process holds


@contextmanager
def locked(path: Path, on_wait: Callable[[], object]) -> Iterator[None]:
    """Hold the lock that is the file ``path``; the file is there only as long as it is of use.

    While another process holds it, wait; ``on_wait`` is called once before that.  A file system
    that knows no locks gives a `DatasetWarning`, and the work goes on without.
    """
    waited = False
    while True:
        with open(path, "ab") as file:
            free = take(file, path)
            if free and still_at(file, path):
                try:
                    yield
                    return
                finally:
                    with suppress(OSError):  # Windows keeps what is open: an empty file, unlocked
                        path.unlink()
        if free:  # but its last holder has unlinked it meanwhile: there may be a new one
            continue
        if not waited:
            on_wait()
            waited = True
        time.sleep(POLL)


def take(file: IO[Any], path: Path) -> bool:
    """Lock an open file, without waiting; return False if another process holds it."""
    try:
        return lock(file)
    except OSError as error:
        warnings.warn(
            f"{path} can't be locked ({error.strerror}): start no second download meanwhile",
            DatasetWarning,
            stacklevel=2,
        )
    return True


def still_at(file: IO[Any], path: Path) -> bool:
    """Tell whether ``path`` still is this open file."""
    try:
        return os.path.samestat(os.fstat(file.fileno()), path.stat())
    except FileNotFoundError:
        return False
