"""Profile: where the time and the memory of a training step go.

The calls of a plan carry labels: which layers they are for, forward or backward.  A profile plays
the plan that `train_step` uses, in the same threads, with a clock around all calls in a row that
have one label.  A layer that runs by its own methods, as all do where there is no plan, has the
clock around these.  What no clock sees, and yet takes time, is waiting.

Where threads share the work, a line of the table has the mean over them: the lines add up to the
time of the step.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from statistics import median
from time import perf_counter
from typing import Any

import numpy as np

from ..backend import Array, Shape, array_module
from ..kernels.cpu.team import Team
from ..kernels.memory import Memory, Room, address
from ..layers import Sequential
from ..losses import CrossEntropy
from .kept import plan_or_none
from .plan import Plan
from .profile_clock import Clock, Step, read, watched
from .profile_table import COPIES, Key, Profile, rows_of
from .slices import Slice
from .walk import walk

WARM_UP, LEAST, MOST, SECONDS = 2, 5, 200, 1.0  # steps that don't count; how many do, how long


def measure(model: Sequential, x: Array, labels: Array | None = None) -> Profile:
    """Do `Sequential.profile`."""
    x = model.check_input(x)
    N, clock = len(x), Clock(model)
    steps: list[Step] = []
    with plan_or_none(model, x, training=True) as found, unchanged(model):
        plan = found if isinstance(found, Plan) else None  # on a GPU, layer by layer
        held = Counter[Key]() if plan is None else held_by_plan(model, x)
        twin = None if plan is None else watched(plan, clock)
        model.forget()
        clock.watch(model)

        def step() -> None:
            """Do a step.  The first also shows what layers keep that run by their own methods."""
            clock.clear()
            start = clock.now()
            y = model.forward(x, training=True) if twin is None else twin.forward(x).copy()
            forward = clock.now() - start
            if not steps:
                held.update(held_in_caches(model))
            start = clock.now()
            dy = loss_gradient(y, labels)
            loss = clock.now() - start
            start = clock.now()
            if twin is None:
                model.backward_params(dy)
            else:
                twin.backward(dy)
            steps.append(clock.step(forward, loss, clock.now() - start, by_plan=twin is not None))

        for _ in range(WARM_UP):
            step()
        end = perf_counter() + SECONDS
        while len(steps) < WARM_UP + LEAST or (perf_counter() < end and len(steps) < MOST):
            step()
        del steps[:WARM_UP]
        threads, nbytes = (1, 0) if plan is None else (len(plan.slices), plan.nbytes)
    keys = {key for each in steps for key in each.times}
    times = {key: median(each.times[key] for each in steps) for key in keys}
    seconds = median(each.seconds for each in steps)
    return Profile(
        rows=rows_of(model, N, clock.runs, times, held),
        batch_size=N,
        device=str(model.device),
        threads=threads,
        steps=len(steps),
        step_ms=1e3 * seconds,
        work_ms=1e3 * median(each.work for each in steps),
        images_per_second=N / seconds,
        buffer_bytes=nbytes,
    )


def loss_gradient(y: Array, labels: Array | None) -> Array:
    """Return the gradient of the cross-entropy; without labels, of a constant class or the mean."""
    xp = array_module(y)
    if labels is None and y.ndim != 2:
        return xp.full_like(y, 1 / y.size)
    return CrossEntropy()(y, xp.zeros(len(y), int) if labels is None else xp.asarray(labels))[1]


class Ledger(Memory):
    """Memory that knows for whom each block was taken last: label and bytes, by its place."""

    def __init__(self, s: Slice, room: Room | None) -> None:
        super().__init__(room)
        self.s, self.taken = s, dict[int, tuple[str, int]]()

    def new(self, shape: Shape, dtype: Any) -> np.ndarray:
        """Do it, and note it."""
        array = super().new(shape, dtype)
        self.taken[address(array)] = self.s.label, array.nbytes
        return array


class Tracked(Slice):
    """A slice with a `Ledger`.  left: bytes of planes, where forward leaves pictures, by label."""

    memory: Ledger

    def __init__(self, dtype: Any, room: Room | None = None) -> None:
        super().__init__(dtype, room)
        self.memory, self.left = Ledger(self, room), Counter[str]()

    def constant(self, use: Any, shape: Shape, value: float) -> np.ndarray:
        """Do it, and note it."""
        new = (use, shape) not in self.constants
        array = super().constant(use, shape, value)
        if new and use[0] == "planes":
            self.left[self.label] += array.nbytes
        return array


def held_by_plan(model: Sequential, x: Array) -> Counter[Key]:
    """Return the bytes that are taken in forward and kept until backward, by key.

    A plan's memory is given out while it is being written: so one more is, as far as it takes.
    """
    team, held = Team(len(x), model.dtype, Tracked), Counter[Key]()
    slices: list[Tracked] = team.scripts  # type: ignore[assignment]
    inputs = []
    for s, part in zip(slices, team.parts, strict=True):
        s.training, s.part, s.team, s.grads = True, part, team, model.params.grads
        inputs.append(s.hold(s.new(x[part].shape, x.dtype)))
    ys, _ = walk(model.layers, inputs, team, need_dx=False)
    for s, y in zip(slices, ys, strict=True):
        s.free(y)
        taken = [note for place, note in s.memory.taken.items() if place in s.memory.holders]
        for label, nbytes in [*taken, *s.left.items()]:
            held[read(label)[1][-1:] if label else COPIES] += nbytes
        del s.team, s.memory.s  # circles would outlive this
    return held


def held_in_caches(model: Sequential) -> Counter[Key]:
    """Return the bytes that layers keep which ran by their own methods, by key."""
    held, seen = Counter[Key](), {id(model.params.data)}

    def collect(path: str, value: Any) -> None:
        if isinstance(value, tuple | list):
            for item in value:
                collect(path, item)
        elif hasattr(value, "nbytes"):
            owner = value if value.base is None else value.base
            held[path,] += 0 if id(owner) in seen else int(value.nbytes)
            seen.add(id(owner))

    for layer in model.walk():
        collect(layer.path, layer.cache)
    return held


@contextmanager
def unchanged(model: Sequential) -> Iterator[None]:
    """Let a model afterwards be what it was before."""
    layers = [(layer, dict(vars(layer)), dict(layer.buffers)) for layer in model.walk()]
    positions = [(stream, stream.position) for stream in model.streams.values()]
    arrays = [(a, a.copy()) for a in (model.params.data, model.params.grad, *model.state.values())]
    try:
        yield
    finally:
        for layer, attributes, buffers in layers:
            for name in set(vars(layer)) - set(attributes):
                del vars(layer)[name]
            vars(layer).update(attributes)
            layer.buffers.update(buffers)
        for stream, position in positions:
            stream.position = position
        for array, values in arrays:
            array[...] = values


Sequential.profiler = measure
