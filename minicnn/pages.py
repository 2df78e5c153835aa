"""Pages: memory that a process gives back although it's held, as forked processes do.

Memory comes in pages.  A forked process has those of its parent, until one of both writes into a
page: then each has its own.  What the parent overwrites at every step, the child would keep as it
was, though it never reads it.
"""

from __future__ import annotations

import ctypes
import mmap
from collections.abc import Callable, Sequence
from mmap import PAGESIZE

import numpy as np


def letting_go(arrays: Sequence[np.ndarray]) -> Callable[[], None]:
    """Return what gives back the memory of some arrays, in the process that calls it.

    They are zeros there from then on.  What it calls is looked up here: a child process can't wait
    for the lock of a library that is being loaded.
    """
    spans = []
    for array in arrays:
        place = array.__array_interface__["data"][0]
        start, end = -(-place // PAGESIZE), (place + array.nbytes) // PAGESIZE
        if start < end:  # whole pages: the rest may have others' data
            spans.append((start * PAGESIZE, (end - start) * PAGESIZE))
    if not spans:
        return lambda: None
    advise = ctypes.PyDLL(None).madvise
    advise.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int]

    def let_go() -> None:
        for start, size in spans:
            advise(start, size, mmap.MADV_DONTNEED)

    return let_go
