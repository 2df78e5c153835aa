"""Fingerprint: whether a model is still what a plan was made of."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from operator import is_not, itemgetter
from typing import Any, TypeAlias

from ..layers import Layer, Sequential
from ..layers.base import PASSING, Built
from .slices import Planners

Attributes: TypeAlias = dict[str, Any]
Getter: TypeAlias = Callable[[Attributes], tuple[Any, ...]]


class Fingerprint:
    """The parameters of a model, which are frozen, its lists of layers, and what the layers have.

    Plans are made of their options and arrays, and of methods that somebody has replaced; only
    layers that planners know are looked at, the others run by their own methods.  Raises
    RuntimeError for a layer that was put into the model when it was built already.
    """

    def __init__(self, model: Sequential, planners: Planners) -> None:
        # The model itself isn't kept: it keeps its plans (weakly), and would never be let go.
        self.params, self.frozen = model.params, model.params.frozen
        layers = [layer for layer in model.walk() if layer is not model]
        check_whole(model, layers)
        self.fields: list[tuple[Attributes, int, Getter, tuple[Any, ...]]] = []
        lists = [model.layers]
        for layer in known(layers, planners):
            now = vars(layer)
            get = itemgetter(*(name for name in now if name not in PASSING))
            self.fields.append((now, len(now), get, get(now)))
            lists += [value for value in now.values() if isinstance(value, list)]
        self.lists = [(value, list(value)) for value in lists]
        self.seen = -1
        """`Built.changes` when the fields were last looked at."""

    def fits(self, model: Sequential) -> bool:
        """Whether all are still the same objects.

        Asked before each step; unless some layer's attribute was set since, that takes no time.
        """
        if self.params is not model.params or model.layers is not self.lists[0][0]:
            return False
        if self.frozen is not model.params.frozen:
            return False
        for layers, were in self.lists:
            if layers != were:
                return False
        changes = Built.changes
        if self.seen == changes:
            return True
        for now, count, get, before in self.fields:
            if len(now) != count or any(map(is_not, get(now), before)):
                return False
        self.seen = changes
        return True


def check_whole(model: Sequential, layers: Sequence[Layer]) -> None:
    """Raise RuntimeError unless all layers were there when the model was built."""
    for layer in layers:
        if layer.root is None or layer.root() is not model:
            raise RuntimeError(
                f"{layer} was put into a model that was built without it: call model.build again"
            )


def known(layers: Sequence[Layer], planners: Planners) -> list[Layer]:
    """Return the layers that planners know."""
    kinds = {Sequential, *(kind for kinds in planners for kind in kinds)}
    return [layer for layer in layers if type(layer) in kinds]
