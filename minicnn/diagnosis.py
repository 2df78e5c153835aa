"""What went wrong in a network: numbers that aren't finite."""

from __future__ import annotations

from math import isfinite

from .backend import Array, array_module
from .layers import Layer, Sequential


class NotFinite(ArithmeticError):
    """Training met NaN or infinity; the text says where, and what may help."""


def not_finite(model: Sequential, x: Array, loss: float, lr: float, steps: int) -> NotFinite:
    """Return the error for a loss that isn't finite, after looking for the layer that began it.

    x: the batch.  ``model.grads`` still hold the gradients of the step before.
    """
    xp = array_module(model.params.grad)
    norm = float(xp.sqrt((model.params.grad.astype("float64") ** 2).sum()))
    return NotFinite(
        f"the loss is {loss} at step {steps + 1} (lr {lr:.3g}, norm of the last gradient "
        f"{norm:.3g}); {first_not_finite(model, x)}. The weights weren't changed by this batch. A "
        "lower lr, global_clipnorm, or a look at the pictures may help; check_finite=False goes on"
    )


def first_not_finite(model: Sequential, x: Array) -> str:
    """Run a batch forward, layer by layer, and say which first shows NaN or infinity."""
    if x.dtype.kind == "f" and not finite(x):
        return "the pictures hold values that aren't finite"
    positions = {path: stream.position for path, stream in model.streams.items()}
    state = {name: array.copy() for name, array in model.state.items()}
    try:
        for layer in model:
            for part in layer.walk():
                for name in part.declared:
                    if not finite(getattr(part, name)):
                        return f"the first layer that shows it is {part.path}, in its {name}"
            x = layer.forward(x, training=True)
            if not finite(x):
                return f"the first layer that shows it is {where(layer)}, in its output"
    finally:
        model.forget()
        for path, stream in model.streams.items():
            stream.position = positions[path]
        for name, array in model.state.items():
            array[...] = state[name]
    return "every layer's output is finite, so it arises in the loss or in a penalty"


def where(layer: Layer) -> str:
    """Name a layer and its type."""
    return f"{layer.path} ({type(layer).__name__})"


def finite(x: Array) -> bool:
    """Whether all values are finite; on a GPU this waits."""
    return bool(array_module(x).isfinite(x).all())


def check_loss(
    model: Sequential, x: Array, value: Array, lr: float, steps: int, waiting: bool = False
) -> None:
    """Raise `NotFinite` if a loss isn't finite.

    On a GPU nothing is asked unless ``waiting``: the answer would hold up the pipeline.
    """
    if (waiting or model.device.kind == "cpu") and not isfinite(float(value)):
        raise not_finite(model, x, float(value), lr, steps)
