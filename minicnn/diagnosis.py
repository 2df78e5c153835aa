"""What went wrong in a network: numbers that aren't finite."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from math import isfinite

from .backend import Array, array_module
from .layers import Layer, Sequential
from .optim import Optimizer


class NotFinite(ArithmeticError):
    """Training met NaN or infinity; the text says where, and what may help."""


CURE = "A lower lr, global_clipnorm, or a look at the pictures may help; check_finite=False goes on"


def check_loss(
    model: Sequential, x: Array, value: Array, lr: float, steps: int, waiting: bool = False
) -> None:
    """Raise `NotFinite` if a loss isn't finite.

    On a GPU nothing is asked unless ``waiting``: the answer would hold up the pipeline.  There the
    loss is the sum of several batches', and the weights have changed since.
    """
    if (waiting or model.device.kind == "cpu") and not isfinite(float(value)):
        raise not_finite(model, x, float(value), lr, steps, waiting)


def not_finite(
    model: Sequential, x: Array, loss: float, lr: float, steps: int, late: bool = False
) -> NotFinite:
    """Return the error for a loss that isn't finite, after looking for the layer that began it.

    x: the batch.  ``model.grads`` still hold the gradients of the step before.
    late: the step was taken in spite of it, and maybe others before.
    """
    xp = array_module(model.params.grad)
    norm = float(xp.sqrt((model.params.grad.astype("float64") ** 2).sum()))
    when = f"by step {steps}" if late else f"at step {steps + 1}"
    changed = "" if late else "The weights weren't changed by this batch. "
    return NotFinite(
        f"the loss is {loss} {when} (lr {lr:.3g}, norm of the last gradient {norm:.3g}); "
        f"{first_not_finite(model, x)}. {changed}{CURE}"
    )


def check_epoch(model: Sequential, optimizer: Optimizer, x: Array, loss: Array, lr: float) -> None:
    """Raise `NotFinite` if an epoch's losses, or what its steps have left, aren't finite.

    x: the last batch.  loss: the sum of all losses.  On a GPU this waits, once.
    """
    total = model.device.xp.asarray(loss, dtype="float64")
    if finite(total, *everything(model, optimizer)):
        return
    check_loss(model, x, total, lr, optimizer.steps, waiting=True)
    raise NotFinite(
        f"step {optimizer.steps} ends with values in {broken_array(model, optimizer)} that aren't "
        f"finite, though the loss was. {CURE}"
    )


def broken_array(model: Sequential, optimizer: Optimizer) -> str:
    """Name the first weight, statistic or memory that isn't finite; "" if there is none."""
    if finite(*everything(model, optimizer)):
        return ""
    arrays = {**model.params.views(model.params.data), **model.state}
    for kind, memory in optimizer.memory.items():
        views = model.params.views(memory).items()
        arrays |= {f"the optimizer's {kind} of {name}": view for name, view in views}
    return next(name for name, array in arrays.items() if not finite(array))


def everything(model: Sequential, optimizer: Optimizer) -> list[Array]:
    """Return all that steps change."""
    return [model.params.data, *model.state.values(), *optimizer.memory.values()]


class Found(Exception):
    """The place that `first_not_finite` looks for."""


def first_not_finite(model: Sequential, x: Array) -> str:
    """Run a batch forward, layer by layer, and say which first shows NaN or infinity."""
    if x.dtype.kind == "f" and not finite(x.astype(model.dtype)):
        model.forget()
        return "the pictures hold values that aren't finite"
    try:
        with unchanged(model), watched(model):
            model.forward(x, training=True)
    except Found as place:
        return f"the first layer that shows it is {place}"
    finally:
        model.forget()
    return "every layer's output is finite, so it arises in the loss or in a penalty"


@contextmanager
def unchanged(model: Sequential) -> Iterator[None]:
    """Give the model its state and its place in the random streams back afterwards."""
    positions = {path: stream.position for path, stream in model.streams.items()}
    state = {name: array.copy() for name, array in model.state.items()}
    try:
        yield
    finally:
        for path, stream in model.streams.items():
            stream.position = positions[path]
        for name, array in model.state.items():
            array[...] = state[name]


@contextmanager
def watched(model: Sequential) -> Iterator[None]:
    """Let every layer inside raise `Found` if a parameter or its output isn't finite."""
    layers = [layer for layer in model.walk() if layer is not model]
    try:
        for layer in layers:  # an attribute hides the method of the same name
            layer.__dict__["forward"] = watching(layer, layer.forward)
        yield
    finally:
        for layer in layers:
            layer.__dict__.pop("forward", None)


def watching(layer: Layer, forward: Callable[[Array, bool], Array]) -> Callable[..., Array]:
    """Return a layer's forward that looks at what comes out."""

    def watching_forward(x: Array, training: bool = False) -> Array:
        for name in layer.declared:
            if not finite(getattr(layer, name)):
                raise Found(f"{layer.path}, in its {name}")
        y = forward(x, training)
        if not finite(y):
            raise Found(f"{layer.path} ({type(layer).__name__}), in its output")
        return y

    return watching_forward


def finite(*arrays: Array) -> bool:
    """Whether all values are finite; on a GPU this waits, once."""
    xp = array_module(arrays[0])
    answer = xp.isfinite(arrays[0]).all()
    for array in arrays[1:]:
        answer = answer & xp.isfinite(array).all()
    return bool(answer)
