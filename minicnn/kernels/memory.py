"""Memory: blocks that are cut into pieces, and handed from one use to the next."""

from __future__ import annotations

from bisect import bisect_right, insort
from collections.abc import Callable, Sequence
from math import prod
from typing import Any

import numpy as np
from numpy.lib.stride_tricks import as_strided

from ..backend import Shape
from .packing import Layout, Life, pack

ALIGNMENT = 64  # bytes, a cache line and a wide vector register

REST = 1 << 20  # bytes that are worth cutting off.  Chunks' buffers are smaller: they stay in place

Room = Callable[[int], np.ndarray]


class Memory:
    """Blocks of memory, of which arrays get pieces.

    Every array that `new` returns has one holder.  `hold` adds one, `free` takes one away, and
    what nobody holds is given out again.  Views count as the array that they look at.

    room: where blocks are from, such as `aligned`: a function from a number of bytes to so many.

    What is asked for is given the smallest gap, or a new block.  Gaps that are apart are lost to
    large arrays: `wasted` says how much, and a second memory may `follow` a better layout, `packed`
    for what the first one was asked for, if it is asked for the same.
    """

    def __init__(self, room: Room | None = None) -> None:
        self.room = room or aligned
        self.blocks: dict[int, np.ndarray] = {}  # by address
        self.used: set[int] = set()  # blocks of which a piece was given out
        self.gaps: dict[int, int] = {}  # what nobody holds, from where to where
        self.pieces: dict[int, int] = {}  # what somebody holds
        self.holders: dict[int, int] = {}  # by where the piece begins
        self.places: list[int] = []  # where blocks begin, and where pieces do, in order
        self.starts: list[int] = []
        self.lent: dict[int, int] = {}  # borrowed: where blocks begin, and their bytes
        self.lives: list[Life] = []  # of all pieces, in the order of `new`
        self.live: dict[int, Life] = {}  # of what somebody holds
        self.now = self.most = 0  # bytes that are held, and the most that ever were
        self.foreseen: list[tuple[int, int]] = []  # bytes and place of what comes, the next last

    def new(self, shape: Shape, dtype: Any) -> np.ndarray:
        """Return an array of undefined contents, where it was foreseen or else where it fits."""
        bytes_wanted = prod(shape) * np.dtype(dtype).itemsize
        size = max(1, -(-bytes_wanted // ALIGNMENT)) * ALIGNMENT
        start, end = self.next(size) or self.gap(size)
        self.pieces[start], self.holders[start] = end, 1
        self.live[start] = Life(size, born=len(self.lives))
        self.lives.append(self.live[start])
        self.now += size
        self.most = max(self.most, self.now)
        insort(self.starts, start)
        place = self.places[bisect_right(self.places, start) - 1]
        self.used.add(place)
        whole = self.blocks[place][start - place :]
        return whole[:bytes_wanted].view(dtype).reshape(shape)

    def gap(self, size: int) -> tuple[int, int]:
        """Take a piece of the smallest gap, or of a new block; return from where to where."""
        fitting = [(end - start, start) for start, end in self.gaps.items() if end - start >= size]
        start = min(fitting)[1] if fitting else self.add(self.room(size))
        end = self.gaps.pop(start)
        if end - start >= size + REST:
            self.gaps[start + size], end = end, start + size
        return start, end

    def next(self, size: int) -> tuple[int, int] | None:
        """Return from where to where it was foreseen; None if it wasn't, and from then on."""
        if not self.foreseen:
            return None
        wanted, start = self.foreseen.pop()
        before = last_of(self.starts, start + size - 1)
        if wanted == size and (before is None or self.pieces[before] <= start):
            return start, start + size
        self.foreseen = []
        return None

    @property
    def wasted(self) -> int:
        """The bytes that were never held at the same time as all others, about."""
        return max(0, self.nbytes - max(self.most, sum(self.lent.values())))

    def follow(self, layout: Layout) -> None:
        """Lay out like this what will be asked for; what isn't as foreseen gets other memory."""
        places = [*layout.lent, *([self.add(self.room(layout.size))] if layout.size else [])]
        self.foreseen = [(size, places[k] + at) for size, k, at in reversed(layout.pieces)]
        self.gaps = {}

    def add(self, block: np.ndarray) -> int:
        """Take a block to give out; return where it begins."""
        place = address(block)
        self.blocks[place] = block
        self.gaps[place] = place + block.nbytes
        insort(self.places, place)
        return place

    def lasting(self, shape: Shape, dtype: Any) -> np.ndarray:
        """Return an array that is never handed on: for what one slice writes and others read."""
        size = prod(shape) * np.dtype(dtype).itemsize
        return self.room(size)[:size].view(dtype).reshape(shape)

    def hold(self, array: np.ndarray) -> np.ndarray:
        """Count one more who needs the array; return it."""
        start = self.start_of(array, held=True)
        if start is not None:
            self.holders[start] += 1
        return array

    def free(self, *arrays: np.ndarray | None) -> None:
        """Count one less who needs each array; None and memory from elsewhere don't matter."""
        for array in arrays:
            start = None if array is None else self.start_of(array, held=True)
            if start is not None:
                self.holders[start] -= 1
                if self.holders[start] == 0:
                    self.release(start)

    def release(self, start: int) -> None:
        """Make a gap of a piece, one with the gaps beside it, but not beyond its block."""
        del self.holders[start]
        self.starts.remove(start)
        end = self.pieces.pop(start)
        life = self.live.pop(start)
        life.died = len(self.lives)
        self.now -= life.size
        if self.foreseen:
            return
        if end in self.gaps and end not in self.blocks:
            end = self.gaps.pop(end)
        if start not in self.blocks:
            start = next((first for first, last in self.gaps.items() if last == start), start)
        self.gaps[start] = end

    def alone(self, array: np.ndarray, but: int = 0) -> bool:
        """Whether the array has one holder, who may then overwrite it.

        but: so many more don't matter.
        """
        start = self.start_of(array)
        return start is not None and self.holders[start] == 1 + but

    def start_of(self, array: np.ndarray, held: bool = False) -> int | None:
        """Return where the piece begins that an array lies in; None if it isn't from here.

        held: whether somebody must hold it, if it is from here.
        """
        place = address(array)
        start = last_of(self.starts, place)
        if start is not None and place < self.pieces[start]:
            return start
        block = last_of(self.places, place)
        if held and block is not None and place < block + self.blocks[block].nbytes:
            raise RuntimeError("a planner freed an array that nobody holds, or wants to hold it")
        return None

    def borrow(self, lender: Memory) -> None:
        """Give out another's blocks, too; see `give_back`."""
        for place, block in lender.blocks.items():
            if place not in self.blocks:
                self.lent[self.add(block)] = block.nbytes

    def give_back(self) -> None:
        """Let go of the borrowed blocks of which nothing was given out; give out no more."""
        self.blocks = {place: self.blocks[place] for place in self.places if place in self.used}
        self.places, self.gaps = list(self.blocks), {}
        self.lives = []

    @property
    def nbytes(self) -> int:
        """All memory that was taken."""
        return sum(block.nbytes for block in self.blocks.values())


def packed(memories: Sequence[Memory]) -> list[Layout]:
    """Return how all pieces so far can be laid out if they are asked for once more."""
    layouts: list[Layout] = []
    before: Memory | None = None
    for memory in memories:
        same = before is not None and (before.lives, before.lent) == (memory.lives, memory.lent)
        layouts.append(layouts[-1] if same else pack(memory.lives, memory.lent))
        before = memory
    return layouts


def last_of(places: list[int], place: int) -> int | None:
    """Return the last of some sorted places that isn't beyond one; None if all are."""
    number = bisect_right(places, place)
    return places[number - 1] if number else None


def strided(x: np.ndarray, shape: Shape, strides: Shape) -> np.ndarray:
    """Return a view that begins where x does: NumPy's ``as_strided``, without its two helpers.

    These live as long as the view, and a plan has some ten thousand of them.
    """
    whole = x if x.base is None else x.base
    if not (isinstance(whole, np.ndarray) and whole.flags.c_contiguous):
        return as_strided(x, shape, strides)
    return np.ndarray(shape, x.dtype, whole, address(x) - address(whole), strides)


def aligned(size: int) -> np.ndarray:
    """Return ``size`` bytes, beginning at a multiple of `ALIGNMENT`."""
    raw = np.empty(size + ALIGNMENT, np.uint8)
    start = -address(raw) % ALIGNMENT
    return raw[start : start + size]


def address(array: np.ndarray) -> int:
    """Return where an array begins in memory, the host's or a GPU's."""
    if isinstance(array, np.ndarray):
        return int(array.__array_interface__["data"][0])
    return int(array.data.ptr)
