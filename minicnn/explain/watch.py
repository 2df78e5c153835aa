"""A twin of a model, in which one layer can be watched: the model itself stays what it is."""

from __future__ import annotations

import copy
from typing import Any

from ..backend import Array
from ..layers import Layer, Sequential, Softmax


class Reached(Exception):
    """The watched layer was reached: nobody asks for what comes beyond."""


class Watch:
    """A twin that shares a model's weights and running statistics, and nothing that a step changes.

    Gradients, caches and random streams are its own, so that going forward and back through it
    leaves the model as it was, between two steps of training or beside another thread's prediction.
    A Softmax at the end is left out of the twin: what is explained are logits, for a probability
    also grows when another class's score falls (Simonyan et al. 2014, section 2).

    layer: which layer of the model is watched: `output` and `gradient` go no further than to it.
    """

    def __init__(self, model: Sequential, layer: Layer | None = None) -> None:
        model.device.use()
        params = model.params
        shared = (params.data, *params.values(), *model.state.values())
        memo: dict[int, Any] = {id(array): array for array in shared}
        memo[id(params.grad)] = model.device.xp.zeros_like(params.grad)
        self.twin = copy.deepcopy(model, memo)
        last = self.twin.last_leaf()
        if isinstance(last, Softmax):
            for way in ("forward", "infer", "backward"):
                setattr(last, way, same)
        pairs = zip(model.walk(), self.twin.walk(), strict=True)
        self.layer: Any = next((twin for mine, twin in pairs if mine is layer), None)
        self.y = self.dy = None

    def output(self, x: Array) -> Array:
        """Return what the watched layer makes of a batch x, as in prediction."""
        layer = self.layer
        forward, infer = layer.forward, layer.infer

        def look(x: Array, training: bool = False) -> None:
            layer.forward, layer.infer = forward, infer
            self.y = infer(x)
            raise Reached

        layer.forward = layer.infer = look
        try:
            self.twin.infer(x)
        except Reached:
            self.twin.forget()
        finally:
            layer.forward, layer.infer = forward, infer
        return self.seen(self.y)

    def forward(self, x: Array) -> Array:
        """Return the logits for a batch x, (N, K); afterwards ``y`` is the watched layer's output.

        BatchNorm goes by its running statistics and Dropout drops nothing, as in prediction.
        """
        if self.layer is None:
            return self.twin.forward(x)
        forward = self.layer.forward

        def look(x: Array, training: bool = False) -> Array:
            self.y = forward(x, training)
            return self.y

        self.layer.forward = look
        try:
            return self.twin.forward(x)
        finally:
            self.layer.forward = forward

    def gradient(self, dy: Array) -> Array:
        """Go back from dy, (N, K), and return the gradient at the watched layer's output.

        It is the gradient at x where no layer is watched.
        """
        if self.layer is None:
            return self.twin.backward(dy)
        backward = self.layer.backward

        def look(dy: Array) -> None:
            self.dy = dy
            raise Reached

        self.layer.backward = look
        try:
            self.twin.backward(dy)
        except Reached:
            self.twin.forget()
        finally:
            self.layer.backward = backward
        return self.seen(self.dy)

    def seen(self, array: Array | None) -> Array:
        """Return what was seen; raise ValueError if nothing was."""
        if array is None:
            raise ValueError(
                f"layer {self.layer.path}: the model doesn't go through it; the layer that it lies "
                "in computes by itself: take that one"
            )
        return array


def same(x: Array, training: bool = False) -> Array:
    """Return x."""
    return x
