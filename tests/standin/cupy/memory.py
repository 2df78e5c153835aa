"""Memory with guards around it, pools, and whose memory new arrays get."""

from __future__ import annotations

import math
import weakref
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np

GUARD = 1024
"""Bytes before and after each array that nobody may write: NaN, whatever is read from them."""
ALIGNED = 512  # as CuPy's


class Memory:
    """A piece of device memory."""

    def __init__(self, nbytes: int, pool: MemoryPool | None = None) -> None:
        self.nbytes, self.pool = nbytes, pool
        self.raw = np.empty(nbytes + 2 * GUARD + ALIGNED, np.uint8)
        self.start = GUARD + -(self.raw.ctypes.data + GUARD) % ALIGNED
        self.ptr = self.raw.ctypes.data + self.start
        self.raw[: self.start] = 0xFF
        self.raw[self.start + nbytes :] = 0xFF

    def array(self, shape: Any, dtype: Any) -> np.ndarray:
        """Return all of it as an array."""
        inside = self.raw[self.start : self.start + self.nbytes]
        return inside.view(dtype).reshape(shape)

    def overrun(self) -> str:
        """Say where somebody has written beyond it, and mend that; empty if nobody has."""
        after = self.raw[self.start + self.nbytes :]
        for where, guard in (("before", self.raw[: self.start]), ("behind", after)):
            if guard.min() != 255:
                guard.fill(0xFF)
                return where
        return ""


class OutOfMemoryError(MemoryError):
    """A pool may take no more; CuPy's text."""

    def __init__(self, size: int, total: int, limit: int) -> None:
        super().__init__(
            f"Out of memory allocating {size:,} bytes (allocated so far: {total:,} bytes, "
            f"limit set to: {limit:,} bytes)."
        )


class MemoryPool:
    """Memory that is kept when arrays are gone."""

    def __init__(self, allocator: Any = None) -> None:
        self.used = self.most = self.limit = 0

    def malloc(self, nbytes: int) -> Memory:
        size = -(-nbytes // ALIGNED) * ALIGNED
        if self.limit and self.used + size > self.limit:
            raise OutOfMemoryError(size, self.most, self.limit)
        memory = Memory(nbytes, self)
        self.used += size
        self.most = max(self.most, self.used)
        weakref.finalize(memory, self._back, size).atexit = False
        return memory

    def _back(self, size: int) -> None:
        self.used -= size

    def used_bytes(self) -> int:
        return self.used

    def total_bytes(self) -> int:
        return self.most

    def free_bytes(self) -> int:
        return self.most - self.used

    def free_all_blocks(self, stream: Any = None) -> None:
        self.most = self.used

    def set_limit(self, size: int | None = None) -> None:
        self.limit = size or 0

    def get_limit(self) -> int:
        return self.limit


default_pool = MemoryPool()
TOTAL = 16 << 30  # bytes that the device has


def info() -> tuple[int, int]:
    """What is free on the device, and all it has."""
    return TOTAL - default_pool.most, TOTAL


allocators: list[Callable[[int], Memory]] = [default_pool.malloc]


@contextmanager
def using_allocator(allocator: Callable[[int], Memory] | None = None) -> Iterator[None]:
    """Take memory from here while the block runs."""
    allocators.append(allocator or Memory)
    try:
        yield
    finally:
        allocators.pop()


def allocate(shape: Any, dtype: Any) -> tuple[Memory, np.ndarray]:
    """Return new memory, full of rubbish, and the array that it is: what isn't written shows."""
    dtype = np.dtype(dtype)
    shape = tuple(shape) if isinstance(shape, tuple | list) else (shape,)
    memory = allocators[-1](math.prod(shape) * dtype.itemsize)
    array = memory.array(shape, dtype)
    array.fill(np.nan if dtype.kind == "f" else 77)
    return memory, array
