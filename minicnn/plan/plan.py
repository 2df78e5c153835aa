"""Plan: the scripts of a network for batches of one size; and which plan is used when."""

from __future__ import annotations

import weakref
from collections import OrderedDict
from typing import Any

import numpy as np

from ..backend import Array
from ..kernels.cpu.choose import algorithm
from ..kernels.cpu.team import Team
from ..layers import Layer, Sequential
from ..parallel import thread_count
from ..params import Parameters
from .slices import Slice
from .walk import walk

KEPT = 4  # plans of one model: training, its last batch, validation, its last batch


class Plan:
    """The calls of one network for batches of N pictures.

    training: with a backward, which writes ``model.grads``; otherwise nothing is kept for one.
    """

    def __init__(self, model: Sequential, N: int, dtype: Any, training: bool) -> None:
        # The model itself isn't kept: it keeps its plans (weakly), and would never be let go.
        self.params: Parameters = model.params
        self.layers = [layer for layer in model.walk() if layer is not model]
        self.fields = fingerprint(self.layers)
        self.team = Team(N, model.dtype, Slice)
        self.y = np.empty((N, *model.output_shape), model.dtype)
        self.dy = np.empty_like(self.y)
        self.inputs: list[np.ndarray] = []
        flats = [self.params.grad, *(np.zeros_like(self.params.grad) for _ in self.slices[1:])]
        for s, part, flat_grad in zip(self.slices, self.team.parts, flats, strict=True):
            s.training, s.part, s.team = training, part, self.team
            s.grads = self.params.views(flat_grad if training else self.params.grad)
            n = part.stop - part.start
            self.inputs.append(s.hold(s.new((n, *model.input_shape), dtype)))
        self.others = flats[1:] if training else []
        self.write(model, training)

    @property
    def slices(self) -> list[Slice]:
        """The scripts, one for each thread."""
        return self.team.scripts  # type: ignore[return-value]

    def write(self, model: Sequential, training: bool) -> None:
        """Let the planners write everything."""
        team = self.team
        ys, back = walk(model.layers, list(self.inputs), team, need_dx=False)
        for s, y, part in zip(self.slices, ys, team.parts, strict=True):
            s(np.copyto, self.y[part], y)
            s.free(y)
        team.meet()
        self.forward_stages, self.backward_stages = team.stages, []
        if not training:
            return
        team.stages = []
        dys = []
        for s, part in zip(self.slices, team.parts, strict=True):
            dys.append(s.new(self.y[part].shape))
            s(np.copyto, dys[-1], self.dy[part])
        back(dys)
        if self.others:
            self.add_up()
        team.meet()
        self.backward_stages = team.stages

    def add_up(self) -> None:
        """Write the sum of the slices' gradients, each slice its part of them."""
        self.team.meet()
        total = self.params.grad
        bounds = [total.size * k // len(self.slices) for k in range(len(self.slices) + 1)]
        for s, start, stop in zip(self.slices, bounds, bounds[1:], strict=False):
            for other in self.others:
                s(np.add, total[start:stop], other[start:stop], total[start:stop])

    def forward(self, x: Array) -> Array:
        """Return the output for a batch x; the next call will overwrite it."""
        for piece, part in zip(self.inputs, self.team.parts, strict=True):
            np.copyto(piece, x[part])
        self.team.run(self.forward_stages)
        return self.y

    def backward(self, dy: Array) -> None:
        """Write all gradients of the last forward into ``model.grads``."""
        np.copyto(self.dy, dy)
        self.team.run(self.backward_stages)

    def fits(self, model: Sequential) -> bool:
        """Whether the model is still what this was made for."""
        return self.params is model.params and self.fields == fingerprint(self.layers)

    @property
    def nbytes(self) -> int:
        """The memory of all buffers."""
        extra = self.y.nbytes + self.dy.nbytes + sum(other.nbytes for other in self.others)
        return self.team.nbytes + extra


def fingerprint(layers: list[Layer]) -> list[Any]:
    """Return what a plan takes from the layers beside arrays: options, and replaced methods."""
    own = ("cache", "buffers", "stream")
    return [
        [v for k, v in vars(layer).items() if k not in own and not isinstance(v, np.ndarray)]
        for layer in layers
    ]


plans: weakref.WeakKeyDictionary[Sequential, OrderedDict[Any, Plan]]
plans = weakref.WeakKeyDictionary()


def plan_for(model: Sequential, x: Array, training: bool) -> Plan:
    """Return the plan for such batches, made now if there is none."""
    kept = plans.setdefault(model, OrderedDict())
    key = len(x), x.dtype, training, thread_count(), algorithm()
    plan = kept.get(key)
    if plan is None or not plan.fits(model):
        kept.pop(key, None)
        while len(kept) >= KEPT:
            kept.popitem(last=False)
        plan = kept[key] = Plan(model, len(x), x.dtype, training)
    kept.move_to_end(key)
    return plan


def planned(model: Sequential) -> bool:
    """Whether the model runs by plans: on the CPU, and unless its own methods were replaced."""
    own = {"forward", "backward", "backward_params", "infer"} & set(vars(model))
    return model.device.kind == "cpu" and type(model) is Sequential and not own


def forward(model: Sequential, x: Array) -> tuple[Array, Any]:
    """Do ``model.forward(x, training=True)`` by plan; return y and what `backward` needs."""
    x = model.check_input(x)
    if not planned(model):
        return model.forward(x, training=True), None
    plan = plan_for(model, x, training=True)
    return plan.forward(x).copy(), plan


def backward(model: Sequential, dy: Array, plan: Any) -> None:
    """Do ``model.backward_params(dy)``."""
    if plan is None:
        model.backward_params(dy)
    else:
        plan.backward(dy)


def infer(model: Sequential, x: Array) -> Array:
    """Do ``model.infer(x)`` by plan."""
    x = model.check_input(x)
    if not planned(model):
        return model.infer(x)
    return plan_for(model, x, training=False).forward(x).copy()
