"""Estimate: the memory that a batch takes, as `Sequential.summary` tells it, from plans."""

from __future__ import annotations

import numpy as np

from ..kernels.cpu.team import Team
from ..kernels.memory import Memory
from ..layers import Layer, Normalize, Sequential
from ..layers.summary import ESTIMATORS, cached_bytes
from ..parallel import threads
from .kept import planned, planning
from .plan import WASTE, Plan

FEW = 32  # pictures in the smaller of two plans: enough that their chunks are full
PASSING = 5  # arrays like its output that a layer may make for a moment, in its own methods


def estimate(model: Sequential, N: int) -> tuple[int, int] | None:
    """Return the bytes for training and for prediction in batches of N; None if there's no plan.

    Two small plans of one slice show what a slice takes and what a picture.  Their memory isn't
    written to, so most of it is never there.  On a GPU it is, for as long as this takes.
    """
    if not planned(model):
        return None
    of_plans = in_a_line if model.device.kind == "cpu" else on_a_gpu
    training, predicting = (of_plans(model, N, training) for training in (True, False))
    return training, predicting


def pictures_dtype(model: Sequential) -> np.dtype:
    """Return the dtype of the pictures that a model is given."""
    return np.dtype("uint8" if isinstance(model.first_leaf(), Normalize) else model.dtype)


def on_a_gpu(model: Sequential, N: int, training: bool) -> int:
    """Return the bytes of a plan for batches of N; what cuBLAS works in is beside them."""
    make, dtype = planning(model), pictures_dtype(model)
    few, many = (make(model, n, dtype, training).nbytes for n in (FEW, 2 * FEW))
    return max(few + (N - FEW) * (many - few) // FEW, 0)


def in_a_line(model: Sequential, N: int, training: bool) -> int:
    """Return the bytes of a plan for batches of N, and of the layers that it doesn't know."""
    with threads(1):
        plans = [Plan(model, n, pictures_dtype(model), training) for n in (FEW, 2 * FEW)]
    packed = plans[1].wasted > WASTE  # then it's written again; a smaller one wastes less than that
    slices, shared = len(Team(N, model.dtype).parts), needed(plans[1].team.memory, packed)
    few, many = (
        plan.nbytes - packed * plan.wasted - needed(plan.team.memory, packed) for plan in plans
    )
    picture = (many - few) // FEW
    gradients = (slices - 1) * model.params.grad.nbytes if training else 0
    picture_own = own_bytes(model, plans[1])
    fixed = slices * (few - FEW * picture) + shared + gradients + packed * WASTE
    return fixed + N * (picture + picture_own)


def needed(memory: Memory, packed: bool) -> int:
    """Return the bytes of a memory as it is, or packed."""
    return memory.nbytes - packed * memory.wasted


def own_bytes(model: Sequential, plan: Plan) -> int:
    """Return the bytes for a picture in the layers that run by their own methods."""
    passing = kept = 0
    for layer, copied in own_layers(plan):
        x = np.zeros((1, *layer.input_shape), model.dtype)
        y = layer.forward(x)
        kept += cached_bytes(layer, model.params.data, *([] if copied else [x]))
        passing = max(passing, PASSING * y.nbytes, x.nbytes + 2 * y.nbytes if plan.training else 0)
        layer.forget()
    return passing + (kept if plan.training else 0)


def own_layers(plan: Plan) -> list[tuple[Layer, bool]]:
    """Return the layers that run by their own methods, and whether x is copied for them.

    Their calls are those without arrays; at a meeting, those with a layer (`whole`).
    """
    named = {layer.path: layer for layer in plan.layers}
    found: list[tuple[Layer, bool]] = []
    for stage in plan.forward_stages:
        for (_, arguments), label in zip(stage.scripts[0], stage.labels[0], strict=True):
            if not arguments:
                found.append((named[label.partition(" ")[2]], False))
        found += [(layer, True) for _, arguments in stage.meeting for layer in arguments]
    return found


ESTIMATORS.append(estimate)
