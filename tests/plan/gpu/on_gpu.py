"""A network on the GPU, by its plan, beside one on the CPU, layer by layer in float64."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from philox import PhiloxStream

import minicnn as mc
from minicnn import plan
from minicnn.backend import to_numpy
from minicnn.plan.kept import plan_for

from ..nets import Results, batch, build, calm_batch, check, like, upstream, wide
from ..nets import by_layers as on_cpu

LIMITS = {"float64": 1e-10, "float32": 4e-6, "float16": 6e-3, "bfloat16": 5e-2}
"""How far arrays may be from those in float64, by their size."""


def drawing_alike(model: mc.Sequential) -> mc.Sequential:
    """Let a CPU's dropout draw what a GPU's does."""
    for layer in model.walk():
        if layer.stream is not None:
            stream = layer.stream
            layer.stream = PhiloxStream(stream.seed, stream.name, stream.position)
    return model


def moved(model: mc.Sequential, layers: Sequence[mc.Layer], dtype: str) -> mc.Sequential:
    """Return a network on the GPU with the numbers of one on the CPU."""
    other = mc.Sequential(*layers).build(model.input_shape, seed=1, dtype=dtype, device="gpu")
    for mine, theirs in ((other.params, model.params), (other.state, model.state)):
        for name, array in theirs.items():
            mine[name][...] = other.device.asarray(array, other.dtype)
    return other


def collect(model: mc.Sequential, y: Any) -> Results:
    found = {"y": y, **{f"d {k}": v for k, v in model.grads.items()}, **model.state}
    return {name: to_numpy(array).copy() for name, array in found.items()}


def by_plan(model: mc.Sequential, x: np.ndarray, dy: np.ndarray) -> Results:
    to = model.device.asarray
    with plan.step(model, to(x)) as (y, backward):
        backward(to(dy))
        return collect(model, y)


def poison(model: mc.Sequential, x: np.ndarray, training: bool) -> None:
    """Overwrite all memory that a plan hands on: whoever reads it must have written it."""
    for block in plan_for(model, x, training).script.memory.blocks.values():
        block.fill(255)


def compare(
    make: Callable[[], Sequence[mc.Layer]],
    shape: tuple[int, ...],
    dtype: str = "float64",
    N: int = 5,
    limit: float | None = None,
) -> None:
    """Compare a training step, twice, and a prediction, with the layers' own in float64."""
    full = "float64" if dtype == "float64" else "float32"
    model = build(make(), shape, full)
    gpu, truth = moved(model, make(), dtype), drawing_alike(like(model, make(), "float64"))
    x, dy = batch(model, N), upstream(model, N)
    if dtype == "float32":
        x = calm_batch(model, make(), N)
    limit = limit or LIMITS[dtype]
    to = gpu.device.asarray
    for _ in range(2):
        for name, array in truth.state.items():
            array[...] = to_numpy(gpu.state[name])
        found, wanted = by_plan(gpu, x, dy), on_cpu(truth, wide(x), dy.astype("float64"))
        check(found, wanted, limit)
        for name, stream in gpu.streams.items():
            assert stream.position == truth.streams[name].position
        poison(gpu, to(x), True)
    for _ in range(2):
        y = plan.infer(gpu, to(x))
        check({"y": to_numpy(y)}, {"y": truth.infer(wide(x))}, limit)
        assert y.dtype == gpu.dtype
        poison(gpu, to(x), False)
    assert all(layer.cache is None for layer in gpu.walk())
