"""Check a function, a layer, a model."""

from __future__ import annotations

import copy
import inspect
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from ..backend import Shape
from ..layers import Layer, Normalize, Sequential
from ..losses import CrossEntropy, Loss
from .differences import check_argument
from .report import Argument, Report

RTOL = 1e-6


def check_function(
    forward: Callable[..., tuple[Any, Any]],
    backward: Callable[[Any, Any], Any],
    inputs: Sequence[np.ndarray],
    *,
    rtol: float = RTOL,
    seed: int = 0,
) -> Report:
    """Check a pair of functions as in ``functional``: every float argument's gradient.

    forward: (*inputs) -> (y, cache).  backward: (dy, cache) -> the gradients of all inputs, a
    tuple, or one array for one input; None leaves an input out.  inputs: arrays; integer ones
    (labels) aren't differentiated.  Options go in by functools.partial or a lambda.  Besides the
    numbers, shapes and dtypes of the gradients are checked, and that no input was changed.
    """
    arrays = [np.array(a, "float64") if a.dtype.kind == "f" else a.copy() for a in inputs]
    before = [a.copy() for a in arrays]
    y, cache = forward(*arrays)
    dy = np.asarray(np.random.default_rng(seed).standard_normal(np.shape(y)))
    given = dy.copy()
    grads = backward(given, cache)
    grads = grads if isinstance(grads, tuple) else (grads,)

    def value() -> float:
        return float((forward(*arrays)[0] * dy).sum())

    magnitude = float(abs(y * dy).sum())
    report = Report(getattr(forward, "__name__", "function"), rtol)
    changed = [not np.array_equal(a, b) for a, b in zip(arrays, before, strict=True)]
    names = argument_names(forward, len(arrays))
    for i, (name, array) in enumerate(zip(names, arrays, strict=True)):
        if array.dtype.kind != "f" or (i < len(grads) and grads[i] is None):
            continue
        if i >= len(grads):
            argument = Argument(name, array.shape, problem="backward returned no gradient for it")
        else:
            argument = check_argument(name, array, grads[i], value, magnitude, rtol, seed)
        if changed[i]:
            argument.problem = "the input was changed by forward or backward"
        report.arguments.append(argument)
    report.arguments += spoiled(given, dy)
    return report


def check_layer(
    layer: Layer,
    input_shape: Shape,
    *,
    batch_size: int = 3,
    training: bool = True,
    rtol: float = RTOL,
    seed: int = 0,
) -> Report:
    """Check a layer: the gradients of its input and of every parameter, in float64.

    The layer is copied, so yours isn't changed.  Its input is random, with no two values closer
    than a hundredth, so that maxima have no near ties.  training: the mode of the forward pass.
    """
    model = Sequential(copy.deepcopy(layer)).build(input_shape, seed=seed, dtype="float64")
    rng = np.random.default_rng(seed)
    for array in model.params.values():  # biases that start at 0 would hide mistakes
        array += 0.1 * rng.standard_normal(array.shape)
    for array in model.state.values():  # and so would running statistics of 0 and 1
        array += rng.uniform(0.1, 0.5, array.shape)
    x = spaced(rng, (batch_size, *input_shape))
    y = run(model, x, training)
    dy = np.asarray(rng.standard_normal(y.shape))
    given = dy.copy()
    dx = model.backward(given)
    grads = {name: grad.copy() for name, grad in model.grads.items()}

    def value() -> float:
        return float((run(model, x, training) * dy).sum())

    magnitude = float(abs(y * dy).sum())
    report = Report(repr(layer), rtol, [check_argument("x", x, dx, value, magnitude, rtol, seed)])
    for name, array in model.params.items():
        short, grad = name.split("/", 1)[1], grads[name]
        report.arguments.append(check_argument(short, array, grad, value, magnitude, rtol, seed))
    report.arguments += spoiled(given, dy)
    return report


def check_model(
    model: Sequential,
    x: np.ndarray | None = None,
    labels: np.ndarray | None = None,
    *,
    loss: Loss | None = None,
    training: bool = True,
    rtol: float = RTOL,
    seed: int = 0,
) -> Report:
    """Check a built model: the gradient of the loss for every parameter, on a float64 copy.

    x: a few pictures, random ones if None.  labels: their class ids, likewise.  loss: cross-entropy
    if None.  The model itself isn't changed.
    """
    model.check_built()
    twin = copy.deepcopy(model).build(model.input_shape, seed=seed, dtype="float64")
    for mine, theirs in ((twin.params, model.params), (twin.state, model.state)):
        for name, array in mine.items():
            array[...] = twin.device.asarray(theirs[name], dtype="float64")
    rng = np.random.default_rng(seed)
    if x is None:
        x = rng.integers(0, 256, (4, *model.input_shape)).astype("uint8")
        if not isinstance(model[0], Normalize):
            x = x / 255.0
    if labels is None:
        labels = rng.integers(0, model.output_shape[-1], len(x))
    loss = loss or CrossEntropy()
    _, dlogits = loss(run(twin, x, training), labels)
    twin.backward_params(dlogits)
    grads = {name: grad.copy() for name, grad in twin.grads.items()}

    def value() -> float:
        return float(loss(run(twin, x, training), labels)[0])

    report = Report(f"model of {model.params.count:,} parameters", rtol)
    for name, array in twin.params.items():
        report.arguments.append(check_argument(name, array, grads[name], value, 10.0, rtol, seed))
    return report


def spoiled(given: np.ndarray, dy: np.ndarray) -> list[Argument]:
    """Return an entry for dy if backward wrote into it, else nothing."""
    if np.array_equal(given, dy):
        return []
    return [Argument("dy", dy.shape, problem="backward changed it; another layer may need it")]


def run(model: Sequential, x: np.ndarray, training: bool) -> Any:
    """Run forward with the same random numbers each time."""
    for stream in model.streams.values():
        stream.position = 0
    return model.forward(x, training)


def spaced(rng: np.random.Generator, shape: Shape) -> np.ndarray:
    """Return numbers around 0 in random order, all at least 0.01 apart and away from 0."""
    size = int(np.prod(shape))
    ladder = (np.arange(size) - size // 2 + 0.5) * max(0.01, 4 / size)
    return rng.permutation(ladder).reshape(shape)


def argument_names(function: Callable[..., Any], count: int) -> list[str]:
    """Return the names of a function's first arguments."""
    try:
        names = list(inspect.signature(function).parameters)
    except (TypeError, ValueError):
        names = []
    return (names + [f"argument {i}" for i in range(len(names), count)])[:count]
