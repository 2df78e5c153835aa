"""Whether layers make a model, and pictures are what it expects; what is wrong if not."""

from __future__ import annotations

from collections import Counter
from math import prod
from typing import TYPE_CHECKING, Any

from ..backend import Array, Shape, array_module
from .base import ShapeError, naming
from .norm import Normalize

if TYPE_CHECKING:
    from .sequential import Sequential


def check_layers(model: Sequential) -> None:
    """Raise ValueError for a layer that stands in a model twice, or in another one already."""
    twice = [layer for layer, n in Counter(map(id, model.walk())).items() if n > 1]
    if twice:
        layer = next(layer for layer in model.walk() if id(layer) == twice[0])
        raise ValueError(
            f"{layer} stands in the model twice. A layer keeps what its own backward needs, so "
            "each place needs an object of its own: make a second one"
        )
    for layer in model.walk():
        owner = None if layer.root is None else layer.root()
        if owner is not None and owner is not model:
            raise ValueError(
                f"{layer} is part of another model, which would lose it: give this one a layer "
                "of its own, or copy.deepcopy(layer)"
            )


def check_input(model: Sequential, x: Array) -> Array:
    """Return x in the model's dtype, or raise an error that says what is wrong with it."""
    if model.path:
        return x  # inside another model, which has checked
    model.check_built()
    check_shape(model, x)
    model.device.use()
    if array_module(x) is not model.device.xp:
        raise TypeError(
            f"the model is on {model.device}, but x is a {type(x).__module__} array: "
            "move it with model.device.asarray(x)"
        )
    if isinstance(model.first_leaf(), Normalize):
        if x.dtype.kind not in "uif":
            raise TypeError(f"got pictures of dtype {x.dtype}, expected uint8")
        return x
    if x.dtype.kind != "f":
        raise TypeError(
            f"got pictures of dtype {x.dtype}, and the first layer doesn't prepare them: begin "
            "the model with Normalize(), or give floats"
        )
    with naming(model.layers[0], x):
        return x.astype(model.dtype, copy=False)


def check_shape(model: Sequential, x: Any) -> None:
    """Raise an error that says why x isn't a batch for this model, if it isn't."""
    shape = getattr(x, "shape", None)
    if shape is None:
        raise TypeError(f"expected an array, got {type(x).__name__}: use numpy.asarray")
    if shape[1:] != model.input_shape or shape[0] == 0:
        raise ShapeError(
            f"expected pictures of shape (N, {', '.join(map(str, model.input_shape))}), "
            f"got {shape}{likely_cause(shape, model.input_shape)}"
        )


def likely_cause(shape: Shape, expected: Shape) -> str:
    """Guess why pictures have the wrong shape."""
    if shape == expected:
        return ": a single picture? Give a batch of one, x[None]"
    if len(shape) == len(expected) + 1 == 4 and shape[1:] == (expected[2], *expected[:2]):
        return ": channels first? Turn it with x.transpose(0, 2, 3, 1)"
    if shape[:1] == (0,):
        return ": an empty batch"
    if prod(shape[1:]) == prod(expected):
        return f": the right number of values in the wrong shape; x.reshape(-1, *{expected})?"
    return ": the model was built for another picture size"
