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
from typing import Any

import numpy as np

from ..backend import Shape
from .memory import Memory, Room

Call = tuple[Callable[..., Any], tuple[Any, ...]]


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

    def insert(self, x: np.ndarray, y: np.ndarray, channels: slice) -> None:
        """Write y[..., channels] = x."""
        self(np.copyto, y[..., channels], x)

    def extract(self, y: np.ndarray, channels: slice, x: np.ndarray) -> None:
        """Write x = y[..., channels]."""
        self(np.copyto, x, y[..., channels])

    def fill(self, y: np.ndarray, value: float) -> None:
        """Write y = value."""
        self(np.copyto, y, self.dtype.type(value))

    def add(self, a: np.ndarray, b: np.ndarray, y: np.ndarray) -> None:
        """Write y = a + b."""
        self(np.add, a, b, y)

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
