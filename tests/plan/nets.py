"""A network by its plan and by its own layers: what both give, and how far they are apart."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pytest

import minicnn as mc
from minicnn import plan
from minicnn.functional.pool import pool_margins
from minicnn.functional.windows import pad, shifted_views
from minicnn.plan.kept import plan_for

Results = dict[str, np.ndarray]

LIMITS = {  # by dtype and algorithm, relative to an array's size
    ("float64", "direct"): 1e-10,
    ("float32", "direct"): 4e-6,
    ("float32", "winograd"): 2e-5,
}
each_way = pytest.mark.parametrize("way", LIMITS, ids="-".join)

N, PICTURE = 13, (7, 9, 3)  # pictures that don't divide evenly


def build(layers: Sequence[mc.Layer], shape: tuple[int, ...], dtype: str) -> mc.Sequential:
    """Build a network, and let nothing in it be as simple as at the start: zero, one."""
    model = mc.Sequential(*layers).build(shape, seed=1, dtype=dtype)
    rng = np.random.default_rng(2)
    for view in model.params.values():
        view += (0.2 * rng.standard_normal(view.shape)).astype("float32")
    for name, array in model.state.items():
        if name.endswith("running_mean"):
            array += (0.3 * rng.standard_normal(array.shape)).astype("float32")
        elif name.endswith("running_var"):
            array *= rng.uniform(0.5, 2, array.shape).astype("float32")
    return model


def like(model: mc.Sequential, layers: Sequence[mc.Layer], dtype: str) -> mc.Sequential:
    """Build another network with the numbers of a model, in another dtype perhaps."""
    other = mc.Sequential(*layers).build(model.input_shape, seed=1, dtype=dtype)
    copy_numbers(model, other)
    return other


def copy_numbers(model: mc.Sequential, other: mc.Sequential) -> None:
    """Give another network a model's parameters, state, and places in the random streams."""
    for name, view in model.params.items():
        other.params[name][...] = view
    for name, array in model.state.items():
        other.state[name][...] = array
    for name, stream in model.streams.items():
        other.streams[name].position = stream.position


def batch(model: mc.Sequential, N: int, seed: int = 0) -> np.ndarray:
    """Draw pictures as the model takes them, read-only."""
    rng = np.random.default_rng(seed)
    if isinstance(model.first_leaf(), mc.Normalize):
        x = rng.integers(0, 256, (N, *model.input_shape)).astype("uint8")
    else:
        x = rng.standard_normal((N, *model.input_shape)).astype("float32").astype(model.dtype)
    x.flags.writeable = False
    return x


def upstream(model: mc.Sequential, N: int) -> np.ndarray:
    """Draw a gradient at the output."""
    dy = np.random.default_rng(3).standard_normal((N, *model.output_shape)).astype("float32")
    dy.flags.writeable = False
    return dy.astype(model.dtype)


def wide(x: np.ndarray) -> np.ndarray:
    return x.astype("float64") if x.dtype.kind == "f" else x


def collect(model: mc.Sequential, y: np.ndarray) -> Results:
    """Return copies of everything that a step computes."""
    found = {"y": y, **{f"d {k}": v for k, v in model.grads.items()}, **model.state}
    return {name: array.copy() for name, array in found.items()}


def by_plan(model: mc.Sequential, x: np.ndarray, dy: np.ndarray) -> Results:
    with plan.step(model, x) as (y, backward):
        backward(dy)
        return collect(model, y)


def by_layers(model: mc.Sequential, x: np.ndarray, dy: np.ndarray) -> Results:
    """Do the same in the plain way, through the readable bodies if the model is of float64."""
    y = model.forward(x, training=True)
    model.backward_params(dy)
    return collect(model, y)


def errors_of(found: Results, wanted: Results) -> dict[str, float]:
    """Return the error of every array, by its size.

    Gradients that are zero in theory, such as that of a bias before BatchNorm, are noise: those of
    biases are measured by the weights' beside them, and what is small beside 1 by 1/10.
    """
    assert list(found) == list(wanted)
    errors, sizes = {}, {name: float(np.linalg.norm(array)) for name, array in wanted.items()}
    for name, array in found.items():
        assert array.shape == wanted[name].shape, name
        beside = name.removesuffix("/b") + "/w"
        size = max(sizes[name], sizes.get(beside, 0.0), 0.1)
        errors[name] = float(np.linalg.norm(array - wanted[name])) / size
    return errors


def check(found: Results, wanted: Results, limit: float, plain: Results | None = None) -> None:
    """Compare array by array.

    plain: what the layers' own methods get in the same dtype.  Where a network itself loses digits,
    these say how many.
    """
    allowed = {} if plain is None else errors_of(plain, wanted)
    worse = {
        name: f"{error:.1e}, layer by layer {allowed.get(name, 0.0):.1e}"
        for name, error in errors_of(found, wanted).items()
        if not error <= max(limit, 3 * allowed.get(name, 0.0))
    }
    assert not worse, "; ".join(f"{name}: {text}" for name, text in worse.items())


def calm_batch(model: mc.Sequential, layers: Sequence[mc.Layer], N: int) -> np.ndarray:
    """Return pictures that no ReLU and no maximum sees near its kink.

    There rounding decides, and the gradient isn't the same to the last digit.  layers: the
    network's, once more, to look into.
    """
    truth = like(model, layers, "float64")
    margins: list[float] = []
    for layer in truth.walk():
        if isinstance(layer, mc.ReLU | mc.LeakyReLU | mc.MaxPool2D):
            layer.forward = watched(layer, margins)  # type: ignore[method-assign]
    for seed in range(400):
        x = batch(model, N, seed)
        margins.clear()
        truth.forward(wide(x), training=True)
        truth.forget()
        for stream in truth.streams.values():
            stream.position = 0
        if min(margins, default=1.0) > 1e-5:
            return x
    raise AssertionError("no pictures away from the kinks: make the test smaller")


def watched(layer: mc.Layer, margins: list[float]) -> Callable[..., Any]:
    """Return the layer's forward, which also notes how near a kink it came."""
    forward = layer.forward

    def watch(x: np.ndarray, training: bool = False) -> np.ndarray:
        if isinstance(layer, mc.MaxPool2D):
            best = forward(x, training)
            margins.append(gap(x, best, layer))
            return best
        nonzero = abs(x[x != 0])  # zeros are exact: what was cut off before
        margins.append(float(nonzero.min(initial=1.0)))
        return forward(x, training)

    return watch


def gap(x: np.ndarray, best: np.ndarray, layer: mc.MaxPool2D) -> float:
    """Return how much less the second of a window is; ties of what a ReLU cut off don't count."""
    stride = layer.strides or layer.pool_size
    margins = pool_margins(x.shape, layer.pool_size, stride, layer.padding)
    views = shifted_views(pad(x, margins, -np.inf), layer.pool_size, stride)
    seconds = np.sort([best - view for view in views], axis=0)[1]
    return float(seconds.min(initial=1.0, where=best != 0))


def poison(model: mc.Sequential, x: np.ndarray, training: bool) -> None:
    """Overwrite all memory of a plan that isn't said to be constant: it must be written first."""
    team = plan_for(model, x, training).team
    for memory in (team.memory, *(script.memory for script in team.scripts)):
        for block in memory.blocks.values():
            block.fill(255)  # in floats, nan


def slices_of(model: mc.Sequential, x: np.ndarray, training: bool = True) -> int:
    """Return into how many slices a plan cuts the batch."""
    return len(plan_for(model, x, training).team.parts)


def head(*layers: mc.Layer) -> list[mc.Layer]:
    """Return layers for pictures with a classifier's end."""
    return [*layers, mc.Flatten(), mc.Dense(4)]


def compare(
    make: Callable[[], Sequence[mc.Layer]],
    shape: tuple[int, ...],
    way: tuple[str, str] = ("float64", "direct"),
    slices: int = 3,
    N: int = N,
    limit: float | None = None,
) -> None:
    """Compare a training step, twice, and a prediction, with the layers' own in float64.

    make: makes the layers of the network, new ones at each call.
    """
    dtype, algorithm = way
    model = build(make(), shape, dtype)
    truth = like(model, make(), "float64")
    x, dy = batch(model, N), upstream(model, N)
    if dtype == "float32":
        x = calm_batch(model, make(), N)
    limit = limit or LIMITS[way]
    with mc.threads(slices), mc.conv_algorithm(algorithm):
        assert slices_of(model, x) == min(slices, N)
        for _ in range(2):  # the second time all buffers have been used
            copy_numbers(truth, model)
            plain = by_layers(like(model, make(), dtype), x, dy) if dtype == "float32" else None
            found, wanted = by_plan(model, x, dy), by_layers(truth, wide(x), dy.astype("float64"))
            check(found, wanted, limit, plain)
            assert model.streams.keys() == truth.streams.keys()
            for name, stream in model.streams.items():
                assert stream.position == truth.streams[name].position
        y = plan.infer(model, x)
        check({"y": y}, {"y": truth.infer(wide(x))}, limit)
        assert y.dtype == dtype
    assert all(layer.cache is None for layer in model.walk())
