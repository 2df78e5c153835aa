"""Again: a layer's output that isn't kept, but made again, chunk by chunk, where it is read.

A BatchNorm with ReLU turns the output x of a convolution into y, a multiplication, an addition and
a cut at zero.  The backward pass needs both x and y: half of what a network holds are such y.  But
to make a chunk of y from one of x that is in the cache takes less time than to get it from memory.
So who makes y may `offer` it (`Slice.offer`): the next run, if it reads y in chunks and nobody else
needs it, takes the offer, and the whole of y is never stored.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from ..backend import Array

if TYPE_CHECKING:
    from .slices import Slice

Make = Callable[[slice, Array], None]
"""Writes the calls that make a part of an array, somewhere in the same shape."""


class Again:
    """Stands for an array (n, ...), stored or not: ``again[part]`` is a chunk of it.

    stored: the array.  It is held, and was made by the calls from number ``first`` on; `take`
    crosses them out.  From then on, a chunk that is asked for is made; it lasts until another one
    is, or until `free`.
    """

    def __init__(self, s: Slice, stored: Array, make: Make, first: int) -> None:
        self.s, self.stored, self.make = s, s.hold(stored), make
        self.calls = slice(first, len(s.calls))
        self.label = s.label
        self.taken = False
        self.part = slice(0)
        self.chunk: Array | None = None

    @property
    def untouched(self) -> bool:
        """Whether nobody else has the array, or could have read it."""
        s = self.s
        return len(s.calls) == self.calls.stop and s.memory.alone(self.stored, but=1)

    def take(self) -> Again:
        """Do without the array, also for the one that it was handed to; return this instead."""
        s = self.s
        del s.calls[self.calls], s.labels[self.calls]
        s.free(self.stored, self.stored)
        self.taken = True
        return self

    def __len__(self) -> int:
        return len(self.stored)

    def __getitem__(self, part: slice) -> Array:
        if not self.taken:
            return self.stored[part]
        if self.chunk is None or part != self.part:
            self.free()
            s = self.s
            self.part, self.chunk = part, s.new(self.stored[part].shape)
            label, way = s.label, s.label.partition(" ")[0]
            s.label = f"{way} {self.label.partition(' ')[2]}"
            self.make(part, self.chunk)
            s.label = label
        return self.chunk

    def free(self) -> None:
        """Let go of the array, or of the chunk that was asked for last."""
        self.s.free(self.chunk if self.taken else self.stored)
        self.chunk = None
