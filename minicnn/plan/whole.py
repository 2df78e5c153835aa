"""Layers without a planner: they get the whole batch, as `model.forward` would give it to them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from ..backend import Array, Shape
from ..kernels.cpu.team import Team
from ..kernels.script import Script
from ..layers import Layer
from .slices import Backwards, Run, Slice, teamwise


@teamwise()
def plan_whole(
    run: Run, xs: list[Array], team: Team, need_dx: bool
) -> tuple[list[Array], Backwards]:
    """Let the slices meet, and one thread call the layer's own forward and backward."""
    training = team.scripts[0].training  # type: ignore[attr-defined]
    slices, parts = team.scripts, team.parts  # not the team: no circles
    ys = [give(x, run[0].output_shape, s) for x, s in zip(xs, slices, strict=True)]

    def forward(layer: Layer) -> None:
        x = np.concatenate(xs)  # a copy, which the layer may keep
        hand_out(layer.forward(x, True) if training else layer.infer(x), ys, parts)

    team.meet((forward, tuple(run)))

    def backward(dys: list[Array]) -> list[Any]:
        dxs: list[Any] = [None] * len(dys)
        if need_dx:
            dxs = [give(dy, run[0].input_shape, s) for dy, s in zip(dys, slices, strict=True)]

        def go_back(layer: Layer) -> None:
            dy = np.concatenate(dys)
            if need_dx:
                hand_out(layer.backward(dy), dxs, parts)
            else:
                layer.backward_params(dy)
            hand_in(layer, slices[0])  # type: ignore[arg-type]

        team.meet((go_back, tuple(run)))
        return dxs

    return ys, backward


def hand_in(layer: Layer, s: Slice) -> None:
    """Put the gradients where those of a slice go, if the layer's own lie elsewhere."""
    for part in layer.walk():
        for name in part.declared:
            mine, there = getattr(part, f"d{name}"), s.grad(part, name)
            if not np.may_share_memory(mine, there):
                there[...] = mine


def give(taken: Array, shape: Shape, s: Script) -> Array:
    """Return room for what comes out, perhaps where that lies which went in."""
    s.free(taken)
    return s.new((len(taken), *shape))


def hand_out(whole: Array, pieces: list[Array], parts: Sequence[slice]) -> None:
    """Give every slice its part."""
    for part, piece in zip(parts, pieces, strict=True):
        piece[...] = whole[part]
