"""Fingerprint: whether layers are still what a plan was made of."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from operator import is_, itemgetter
from typing import Any, TypeAlias

from ..layers import Layer, Sequential
from .slices import Planners

Attributes: TypeAlias = dict[str, Any]
Getter: TypeAlias = Callable[[Attributes], tuple[Any, ...]]

CHANGING = ("cache", "stream")  # from step to step


class Fingerprint:
    """The attributes of the layers that planners know: options, arrays, replaced methods."""

    def __init__(self, layers: Sequence[Layer], planners: Planners) -> None:
        self.fields: list[tuple[Attributes, int, Getter, tuple[Any, ...]]] = []
        for layer in known(layers, planners):
            now = vars(layer)
            get = itemgetter(*(name for name in now if name not in CHANGING))
            self.fields.append((now, len(now), get, get(now)))

    def same(self) -> bool:
        """Whether all are still the same objects."""
        return all(
            len(now) == count and all(map(is_, get(now), before))
            for now, count, get, before in self.fields
        )


def known(layers: Sequence[Layer], planners: Planners) -> list[Layer]:
    """Return the layers that planners know."""
    kinds = {Sequential, *(kind for kinds in planners for kind in kinds)}
    return [layer for layer in layers if type(layer) in kinds]
