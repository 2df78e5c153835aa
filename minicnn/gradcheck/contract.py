"""What a function or a layer promises besides right numbers; each check returns the faults."""

from __future__ import annotations

import copy
from collections.abc import Iterable
from typing import Any

import numpy as np

from ..layers import Layer, Sequential
from .report import Argument

CLOSE = 1e-3  # float32 against float64, relative to the norm


def spoiled(name: str, now: np.ndarray, before: np.ndarray) -> list[Argument]:
    """Say so if an array was written into that belongs to somebody else."""
    if np.array_equal(now, before):
        return []
    return [Argument(name, before.shape, problem="it was changed; another layer may need it")]


def compare_precisions(rows: Iterable[tuple[str, Any, Any]]) -> list[Argument]:
    """Compare (name, float64 result, float32 result): the dtype, and about the same numbers."""
    rows, faults = list(rows), []
    largest = max((float(np.linalg.norm(np.ravel(exact))) for _, exact, _ in rows), default=0.0)
    for name, exact, short in rows:
        if getattr(short, "dtype", None) != "float32":
            got = getattr(short, "dtype", type(short).__name__)
            text = f"float32 inputs give {got}: a NumPy number among the scalars?"
            faults.append(Argument(name, np.shape(exact), problem=text))
            continue
        apart = float(np.linalg.norm(np.ravel(short - exact)))
        size = float(np.linalg.norm(np.ravel(exact)))
        if not apart <= CLOSE * size + 1e-5 * largest:  # a gradient may be 0, and others not
            text = f"in float32 it is {apart:.1e} (2-norm) away from what it is in float64"
            faults.append(Argument(name, np.shape(exact), problem=text))
    return faults


def compare_ways(
    model: Sequential, layer: Layer, x: np.ndarray, training: bool, seed: int
) -> list[Argument]:
    """Compare a layer, in float64 in ``model``, with its ``backward_params`` and with float32."""
    small = Sequential(copy.deepcopy(layer)).build(model.input_shape, seed=seed)
    for mine, theirs in ((small.params, model.params), (small.state, model.state)):
        for name, array in mine.items():
            array[...] = theirs[name]
    rng = np.random.default_rng(seed)
    dy = np.asarray(rng.standard_normal((len(x), *model.output_shape)))
    results = []
    for network in (model, small):
        for stream in network.streams.values():
            stream.position = 0
        y = network[0].forward(x.astype(network.dtype), training)
        if y.shape != dy.shape:
            return []  # compare_layer has said it
        dx = network[0].backward(dy.astype(network.dtype))
        grads = {name.split("/", 1)[1]: grad.copy() for name, grad in network.grads.items()}
        results.append({"y": y, "x": dx, **grads})
    faults = compare_precisions((name, results[0][name], results[1][name]) for name in results[0])

    for stream in model.streams.values():
        stream.position = 0
    model[0].forward(np.array(x, "float64"), training)
    model.params.grad.fill(np.nan)
    model[0].backward_params(dy.copy())
    for name, grad in model.grads.items():
        short = name.split("/", 1)[1]
        if name in model.params.frozen:  # nobody has to write it
            continue
        if not np.allclose(grad, results[0][short], rtol=1e-9, atol=1e-12):
            text = "backward_params writes another gradient than backward"
            faults.append(Argument(short, grad.shape, problem=text))
    return faults


def infer_differs(layer: Layer, x: np.ndarray, seed: int) -> list[Argument]:
    """Say so if ``infer`` gives something else than ``forward`` without training."""
    results = []
    for use in (layer.infer, layer.forward):
        for part in layer.walk():
            if part.stream is not None:
                part.stream.position = 0
        results.append(use(np.array(x, "float64")))
    layer.forget()
    if np.array_equal(*results):
        return []
    text = "infer gives another output than forward without training"
    return [Argument("y", results[1].shape, problem=text)]
