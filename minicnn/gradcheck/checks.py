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
from .contract import compare_precisions, compare_ways, infer_differs, spoiled
from .differences import check_argument
from .report import Argument, Report

RTOL = 1e-6


def check_function(
    forward: Callable[..., tuple[Any, Any]],
    backward: Callable[[Any, Any], Any],
    inputs: Sequence[np.ndarray],
    *,
    float32: bool = False,
    rtol: float = RTOL,
    seed: int = 0,
) -> Report:
    """Check a pair of functions as in ``functional``: every float argument's gradient.

    forward: (*inputs) -> (y, cache).  backward: (dy, cache) -> the gradients of all inputs, a
    tuple, or one array for one input; None leaves an input out.  inputs: arrays; integer ones
    (labels) aren't differentiated.  Options go in by functools.partial or a lambda.  Besides the
    numbers: shapes and dtypes, and that no input and no dy is changed.  float32: also that float32
    gives float32 and about the same gradients (options that are float64 arrays would spoil it).
    """
    arrays = [np.array(a, "float64") if a.dtype.kind == "f" else a.copy() for a in inputs]
    before = [a.copy() for a in arrays]
    y, cache = forward(*arrays)
    dy = np.asarray(np.random.default_rng(seed).standard_normal(np.shape(y)))
    given = dy.copy()
    grads = as_tuple(backward(given, cache))

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
    for extra in (grad for grad in grads[len(arrays) :] if grad is not None):
        text = "backward returned more gradients than there are inputs"
        report.arguments.append(Argument("?", np.shape(extra), problem=text))
    report.arguments += spoiled("dy", given, dy)
    if report and float32:
        small = [a.astype("float32") if a.dtype.kind == "f" else a for a in before]
        y32, cache = forward(*small)
        grads32 = as_tuple(backward(dy.astype("float32"), cache))
        pairs = zip(["y", *names], [y, *grads], [y32, *grads32], strict=False)
        report.arguments += compare_precisions([p for p in pairs if p[1] is not None])
    return report


def check_layer(
    layer: Layer,
    input_shape: Shape,
    *,
    x: np.ndarray | None = None,
    batch_size: int = 3,
    training: bool | None = None,
    rtol: float = RTOL,
    seed: int = 0,
) -> Report:
    """Check a layer: the gradients of its input and of every parameter, in float64.

    x: the input, (N,) + input_shape; random numbers around 0 if None, no two closer than a
    hundredth, so that maxima have no near ties.  training: the mode of the forward pass, both if
    None; rows of the second are marked.  The layer is copied, so yours isn't changed.

    Besides the numbers: that neither x nor dy is changed, that every gradient is written anew, that
    ``resolve`` tells the shape of the output, that ``backward_params`` and ``infer`` do what
    ``backward`` and ``forward`` do, and that float32 gives float32 and about the same gradients.
    """
    model = Sequential(copy.deepcopy(layer)).build(input_shape, seed=seed, dtype="float64")
    rng = np.random.default_rng(seed)
    for array in model.params.values():  # biases that start at 0 would hide mistakes
        array += 0.1 * rng.standard_normal(array.shape)
    for array in model.state.values():  # and so would running statistics of 0 and 1
        array += rng.uniform(0.1, 0.5, array.shape)
    if x is None:
        x = spaced(rng, (batch_size, *input_shape))
    report = Report(repr(layer), rtol)
    for mode in (True, False) if training is None else (training,):
        rows = compare_layer(model[0], np.array(x, "float64"), mode, rtol, seed)
        if Report("", rtol, rows):
            rows += infer_differs(model[0], x, seed) if not mode else []
            rows += compare_ways(model, layer, x, mode, seed)
        for row in rows:
            row.name += " (inference)" if training is None and not mode else ""
        report.arguments += rows
        if not report:
            break  # one mode is enough to be read
    return report


def compare_layer(
    layer: Layer, x: np.ndarray, training: bool, rtol: float, seed: int
) -> list[Argument]:
    """Compare a built layer's gradients at x, float64, with differences: x first."""
    own = {
        f"{part.path.removeprefix(layer.path).removeprefix('/')}/{name}".removeprefix("/"): (
            getattr(part, name),
            getattr(part, f"d{name}"),
        )
        for part in layer.walk()
        for name in part.declared
    }
    before = x.copy()
    y = run(layer, x, training)
    dy = np.asarray(np.random.default_rng(seed).standard_normal(y.shape))
    given = dy.copy()
    for _, grad in own.values():
        grad.fill(np.nan)  # what isn't written, or only added to, stays NaN
    dx = np.array(layer.backward(given))
    rows = spoiled("x", x, before) + spoiled("dy", given, dy)
    if y.shape[1:] != layer.output_shape:
        told = f"resolve tells {layer.output_shape}, forward gives {y.shape[1:]}"
        rows.append(Argument("y", y.shape, problem=told))
    if rows:
        return rows

    def value() -> float:
        return float((run(layer, x, training) * dy).sum())

    magnitude = float(abs(y * dy).sum())
    grads = {name: grad.copy() for name, (_, grad) in own.items()}
    rows = [check_argument("x", x, dx, value, magnitude, rtol, seed)]
    for name, (array, _) in own.items():
        if np.isnan(grads[name]).any():
            text = "backward doesn't write all of its gradient, or only adds to it"
            rows.append(Argument(name, array.shape, problem=text))
        else:
            rows.append(check_argument(name, array, grads[name], value, magnitude, rtol, seed))
    return rows


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
    """Check a built model, layer by layer and as a whole, on a float64 copy.

    First every layer by itself, at about the input that it gets: its input's gradient, and its
    parameters'.  Then, for every parameter, the gradient of the loss through all that follows; for
    frozen ones, that it is zero.

    x: a few pictures, random ones if None.  labels: their class ids, likewise.  loss: cross-entropy
    if None.  training: the mode of the forward pass.  The model itself isn't changed.
    """
    model.check_built()
    if len(model.output_shape) != 1:
        raise ValueError(
            f"the model's outputs are {model.output_shape}, expected logits (classes,)"
        )
    twin = copy.deepcopy(model).build(model.input_shape, seed=seed, dtype="float64")
    for mine, theirs in ((twin.params, model.params), (twin.state, model.state)):
        for name, array in mine.items():
            array[...] = twin.device.asarray(theirs[name], dtype="float64")
    rng = np.random.default_rng(seed)
    if x is None:
        x = rng.integers(0, 256, (3, *model.input_shape)).astype("uint8")
        if not isinstance(model.first_leaf(), Normalize):
            x = x / 255.0
    if labels is None:
        labels = rng.integers(0, model.output_shape[-1], len(x))
    loss = loss or CrossEntropy()

    rows: dict[str, Argument] = {}
    for layer, given in inputs_of(twin, x, training):
        # Nudged a little, so that what a ReLU has made equal is no tie in a pool.
        nudge = 0.01 * given.std() * rng.standard_normal(given.shape)
        for row in compare_layer(layer, given + nudge, training, rtol, seed):
            row.name = f"{layer.path}/{row.name}"
            rows.setdefault(row.name, row)

    value, dlogits = loss(run(twin, x, training), labels)
    magnitude = 10 * max(1.0, abs(float(value)))
    twin.params.grad.fill(np.nan)
    twin.backward_params(dlogits)
    grads = {name: grad.copy() for name, grad in twin.grads.items()}

    def whole() -> float:
        return float(loss(run(twin, x, training), labels)[0])

    for name, array in twin.params.items():
        if name in twin.params.frozen:
            row = Argument(name, array.shape)
            row.problem = "it is frozen, but its gradient isn't zero" if grads[name].any() else ""
            rows.setdefault(name, row).join(row)
            continue
        row = check_argument(name, array, grads[name], whole, magnitude, rtol, seed)
        rows[name].join(row) if name in rows else rows.setdefault(name, row)
    title = f"model of {model.params.count:,} parameters"
    return Report(title, rtol, list(rows.values()))


def inputs_of(model: Sequential, x: np.ndarray, training: bool) -> list[tuple[Layer, np.ndarray]]:
    """Run a model forward, and return every layer in it with the input that it got."""
    seen: list[tuple[Layer, np.ndarray]] = []

    def recorder(layer: Layer) -> Callable[..., Any]:
        forward = layer.forward

        def record(given: np.ndarray, training: bool = False) -> Any:
            seen.append((layer, given.copy()))
            return forward(given, training)

        return record

    layers = [layer for layer in model.walk() if layer is not model]
    for layer in layers:
        layer.__dict__["forward"] = recorder(layer)
    try:
        run(model, x, training)
    finally:
        for layer in layers:
            del layer.__dict__["forward"]
    return seen


def run(layer: Layer, x: np.ndarray, training: bool) -> Any:
    """Run forward with the same random numbers each time."""
    for part in layer.walk():
        if part.stream is not None:
            part.stream.position = 0
    return layer.forward(x, training)


def as_tuple(grads: Any) -> tuple[Any, ...]:
    """Return what a backward returned as a tuple."""
    return tuple(grads) if isinstance(grads, tuple | list) else (grads,)


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
