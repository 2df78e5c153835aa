"""Groups: which parameters an optimizer changes, and how fast each.

All parameters lie side by side in flat buffers.  Neighbours whose learning rate has the same factor
are a group, and an update is one operation for each.  As a rule there is one: the whole buffer.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from fnmatch import fnmatchcase
from itertools import pairwise
from typing import Any

from .backend import Array, Shape
from .options import number


@dataclass(frozen=True)
class Group:
    """The elements ``start`` to ``stop`` of the buffers.

    factor: what their learning rate is multiplied by.  decayed: how many of them, which come first,
    weight decay applies to.
    """

    start: int
    stop: int
    factor: float
    decayed: int

    @property
    def where(self) -> slice:
        """The part of the buffers."""
        return slice(self.start, self.stop)


@dataclass(frozen=True)
class Part:
    """What an update rule changes: a group's part of the parameters and of the rule's memory.

    data, and each array of the memory: (P,).  decayed: the slice that weight decay applies to.
    """

    data: Array
    memory: Mapping[str, Array]
    decayed: slice

    @classmethod
    def of(cls, group: Group, data: Array, memory: Mapping[str, Array]) -> Part:
        """Return views of the flat buffers; of whole ones, the buffers themselves."""
        decayed = slice(0, group.decayed)
        if group.stop - group.start == data.size:
            return cls(data, memory, decayed)
        where = group.where
        return cls(data[where], {name: array[where] for name, array in memory.items()}, decayed)


def check_factors(factors: Any) -> None:
    """Raise TypeError or ValueError unless these are patterns of names, and numbers >= 0."""
    if not isinstance(factors, Mapping) or not all(isinstance(key, str) for key in factors):
        raise TypeError(
            f'lr_scale {factors!r}: expected patterns and factors, such as {{"dense_2/*": 10.0}}'
        )
    for pattern, factor in factors.items():
        number(factor, f"lr_scale of {pattern!r}", least=0)


def make_groups(
    slots: Mapping[str, tuple[slice, Shape]],
    size: int,
    decayed: int,
    frozen: frozenset[str],
    factors: Mapping[str, float],
) -> tuple[Group, ...]:
    """Return the groups of parameters at ``slots`` in buffers of ``size`` elements, in order.

    decayed: how many elements, which come first, weight decay applies to.  frozen: names that are
    in no group.  factors: by pattern (``fnmatch``) on the name; the first one that fits holds.
    What lies between two parameters belongs to the first.  Raises ValueError for a pattern that
    fits no name.
    """
    for pattern in factors:
        if not any(fnmatchcase(name, pattern) for name in slots):
            raise ValueError(
                f"lr_scale: no parameter is called {pattern!r}; there are: {', '.join(slots)}"
            )
    names = sorted(slots, key=lambda name: slots[name][0].start)
    bounds = [*(slots[name][0].start for name in names), size]
    runs: list[tuple[int, int, float]] = []
    for name, (start, stop) in zip(names, pairwise(bounds), strict=True):
        if name in frozen:
            continue
        factor = next((f for p, f in factors.items() if fnmatchcase(name, p)), 1.0)
        if runs and runs[-1][1] == start and runs[-1][2] == factor:
            start = runs.pop()[0]
        runs.append((start, stop, float(factor)))
    return tuple(
        Group(start, stop, factor, min(max(decayed - start, 0), stop - start))
        for start, stop, factor in runs
    )
