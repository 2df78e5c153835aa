"""Script: calls written down once, with all their memory, and run as often as one likes.

What a layer does to a batch depends on shapes only, and so do all views, chunks and buffers.  A
kernel therefore doesn't compute: it writes down which array functions are to be called on which
arrays.

    script = Script(np.float32)
    y = script.new((n, O))
    script(np.matmul, x, w, y)        # written down, with x, w and y as they lie in memory
    script.run()                      # done; again after x or w have got other contents

A script runs from top to bottom in one thread.  So memory whose last call has been written down
can be given to the calls that come after: `free` hands it on, and `new` takes what is free.  The
peak of memory is what a careful programmer would need who knew the whole program.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from math import prod
from typing import Any

import numpy as np

from ...backend import Shape

ALIGNMENT = 64  # bytes, a cache line and a wide vector register

Call = tuple[Callable[..., Any], tuple[Any, ...]]
Room = Callable[[int], np.ndarray]


class Memory:
    """Blocks of memory that are handed from one use to the next.

    Every array that `new` returns has one holder.  `hold` adds one, `free` takes one away, and
    what nobody holds is given out again.  Views count as the array that they look at.

    room: where it is from, such as `aligned`: a function from a number of bytes to so many.
    """

    def __init__(self, room: Room | None = None) -> None:
        self.room = room or aligned
        self.holders: dict[int, int] = {}  # by the address of the block
        self.blocks: dict[int, np.ndarray] = {}
        self.free_blocks: list[np.ndarray] = []

    def new(self, shape: Shape, dtype: Any) -> np.ndarray:
        """Return an array of undefined contents: the smallest free block, or a new one."""
        size = prod(shape) * np.dtype(dtype).itemsize
        fitting = [block for block in self.free_blocks if block.nbytes >= size]
        if fitting:
            block = min(fitting, key=lambda block: block.nbytes)
            self.free_blocks = [other for other in self.free_blocks if other is not block]
        else:
            block = self.room(size)
            self.blocks[place_of(block)] = block
        self.holders[place_of(block)] = 1
        return block[:size].view(dtype).reshape(shape)

    def lasting(self, shape: Shape, dtype: Any) -> np.ndarray:
        """Return an array that is never handed on: for what one slice writes and others read."""
        size = prod(shape) * np.dtype(dtype).itemsize
        return self.room(size)[:size].view(dtype).reshape(shape)

    def hold(self, array: np.ndarray) -> np.ndarray:
        """Count one more who needs the array; return it."""
        block = self.block_of(array)
        if block is not None:
            self.holders[place_of(block)] += 1
        return array

    def free(self, *arrays: np.ndarray | None) -> None:
        """Count one less who needs each array; None and memory from elsewhere don't matter."""
        for array in arrays:
            block = None if array is None else self.block_of(array)
            if block is None:
                continue
            place = place_of(block)
            self.holders[place] -= 1
            if self.holders[place] == 0:
                self.free_blocks.append(block)
            elif self.holders[place] < 0:
                raise RuntimeError("a planner freed an array twice")

    def alone(self, array: np.ndarray) -> bool:
        """Whether the array has one holder, who may then overwrite it."""
        block = self.block_of(array)
        return block is not None and self.holders[place_of(block)] == 1

    def block_of(self, array: np.ndarray) -> np.ndarray | None:
        """Return the block that an array lies in; None if it isn't from here."""
        first, owner = array, array.base
        while owner is not None:  # at last there may be a mapping, which is no array
            first = owner if isinstance(owner, np.ndarray) else first
            owner = getattr(owner, "base", None)
        return self.blocks.get(address(first))

    @property
    def nbytes(self) -> int:
        """All memory that was taken."""
        return sum(block.nbytes for block in self.blocks.values())


class Script:
    """Calls in order, and the memory that they work on; see above.

    dtype: of the arrays that `new` makes where nothing else is said.  room: see `Memory`.
    """

    def __init__(self, dtype: Any, room: Room | None = None) -> None:
        self.dtype = np.dtype(dtype)
        self.memory = Memory(room)
        self.constants: dict[Any, np.ndarray] = {}
        self.calls: list[Call] = []
        self.labels: list[str] = []
        self.label = ""
        """Whose calls come next, for `profile`."""

    def __call__(self, function: Callable[..., Any], *arguments: Any) -> None:
        """Write down a call; an array function gets its ``out`` last."""
        self.calls.append((function, arguments))
        self.labels.append(self.label)

    def new(self, shape: Sequence[int], dtype: Any = None) -> np.ndarray:
        """Return an array for the calls to come, of undefined contents."""
        return self.memory.new(tuple(shape), dtype or self.dtype)

    def like(self, array: np.ndarray) -> np.ndarray:
        """Return a new array in the shape and dtype of another."""
        return self.memory.new(array.shape, array.dtype)

    def free(self, *arrays: np.ndarray | None) -> None:
        """Say that no call to come needs these arrays, as far as the caller is concerned."""
        self.memory.free(*arrays)

    def hold(self, array: np.ndarray) -> np.ndarray:
        """Say that one more needs the array; return it."""
        return self.memory.hold(array)

    def reuse(self, array: np.ndarray) -> np.ndarray:
        """Take over an array: return it if nobody else needs it, or else a new one like it.

        For results that go where an operand was.
        """
        if self.memory.alone(array):
            return array
        self.free(array)
        return self.like(array)

    def zeros(self, *shape: int) -> np.ndarray:
        """Return zeros that nobody may write."""
        return self.constant("zeros", shape, 0)

    def ones(self, size: int) -> np.ndarray:
        """Return a vector of ones: a sum over rows is a product with it, done by BLAS."""
        return self.constant("ones", (size,), 1)

    def constant(self, use: Any, shape: Shape, value: float) -> np.ndarray:
        """Return the array of this use and shape, filled with a value when it is first asked for.

        A padded picture is one, whose margins stay zero: uses with other margins are other uses.
        """
        if (use, shape) not in self.constants:
            array = self.memory.lasting(shape, self.dtype)
            array.fill(value)
            self.constants[use, shape] = array
        return self.constants[use, shape]

    def run(self) -> None:
        """Do all that was written down."""
        play(self.calls)


def play(calls: Sequence[Call]) -> None:
    """Do the calls, one after the other."""
    for function, arguments in calls:
        function(*arguments)


def maximum(a: np.ndarray, b: np.ndarray, out: np.ndarray) -> None:
    """Do ``np.maximum``, which wants its ``out`` by name."""
    np.maximum(a, b, out=out)


def aligned(size: int) -> np.ndarray:
    """Return ``size`` bytes, beginning at a multiple of `ALIGNMENT`."""
    raw = np.empty(size + ALIGNMENT, np.uint8)
    start = -address(raw) % ALIGNMENT
    return raw[start : start + size]


def place_of(block: np.ndarray) -> int:
    """Return the number by which a block is known: where what it was cut from begins."""
    return address(block.base if isinstance(block.base, np.ndarray) else block)


def address(array: np.ndarray) -> int:
    """Return where an array begins in memory."""
    return int(array.__array_interface__["data"][0])
