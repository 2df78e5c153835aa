"""Packing: where arrays lie in memory when it is known beforehand which of them live when.

`Memory` gives out what is free as it is asked, without knowing what is asked for next: a small gap
here and one there are no room for a large array.  A script that is written to its end tells when
each array was taken and when it was freed.  So the largest can be given their places first, and the
others lie in what is left between them at their time.  For networks that comes within a percent of
what lives at once.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import inf

import numpy as np


@dataclass(slots=True)
class Life:
    """A piece of memory: its bytes, and from when until before when it is held."""

    size: int
    born: int
    died: float = inf


@dataclass(frozen=True)
class Layout:
    """Where the pieces lie, in the order in which they are asked for.

    lent: where blocks begin that are there already.  size: the bytes of one block more.  pieces:
    the bytes of each, in which block, how far from its beginning.
    """

    lent: tuple[int, ...]
    size: int
    pieces: list[tuple[int, int, int]]


def pack(lives: Sequence[Life], lent: dict[int, int]) -> Layout:
    """Return a layout in which no two pieces overlap that live at the same time.

    lent: the bytes of the blocks that are there, by where they begin.

    The largest is placed first, each at the first place that is free during its life: in a block
    that is there, if possible.
    """
    ends = np.cumsum(
        [0, *lent.values()]
    ).tolist()  # blocks as if they lay in a row, the new one last
    order = sorted(range(len(lives)), key=lambda k: (-lives[k].size, lives[k].born))
    born, died = (np.empty(len(lives)) for _ in range(2))
    start, stop = (np.empty(len(lives), "int64") for _ in range(2))
    for placed, k in enumerate(order):
        life = lives[k]
        beside = (born[:placed] < life.died) & (died[:placed] > life.born)
        taken = sorted(
            zip(start[:placed][beside].tolist(), stop[:placed][beside].tolist(), strict=True)
        )
        at = first_gap(taken, life.size, ends)
        born[placed], died[placed] = life.born, life.died
        start[placed], stop[placed] = at, at + life.size
    pieces = [(0, 0, 0)] * len(lives)
    for k, at in zip(order, start.tolist(), strict=True):
        block = max(i for i, end in enumerate(ends) if end <= at)
        pieces[k] = lives[k].size, block, at - ends[block]
    return Layout(tuple(lent), max(0, int(stop.max(initial=0)) - ends[-1]), pieces)


def first_gap(taken: Sequence[tuple[int, int]], size: int, ends: Sequence[int]) -> int:
    """Return the first place of so many bytes beside what is taken, and across no end of a block.

    taken: from where to where, in order.
    """
    at = 0
    for first, last in [*taken, (inf, inf)]:
        for end in ends:
            if at < end < at + size:
                at = end
        if at + size <= first:
            return at
        at = max(at, int(last))
    raise AssertionError("after the last there is room")
