"""Layers without a planner: they get the whole batch, as `model.forward` would give it to them."""

from __future__ import annotations

from typing import Any

import numpy as np

from ..backend import Array
from ..kernels.cpu.team import Team
from ..layers.base import naming
from .slices import Backwards, Run


def plan_whole(
    run: Run, xs: list[Array], team: Team, need_dx: bool
) -> tuple[list[Array], Backwards]:
    """Let the slices meet, and one thread call the layer's own forward and backward."""
    (layer,) = run
    training = team.scripts[0].training  # type: ignore[attr-defined]
    x = np.empty((team.N, *xs[0].shape[1:]), xs[0].dtype)
    ys = [s.new((len(x), *layer.output_shape)) for x, s in zip(xs, team.scripts, strict=True)]

    def forward() -> None:
        for part, piece in zip(team.parts, xs, strict=True):
            x[part] = piece
        with naming(layer, x):
            y = layer.forward(x.copy(), True) if training else layer.infer(x)
        hand_out(y, ys, team)

    team.meet((forward, ()))
    for piece, s in zip(xs, team.scripts, strict=True):
        s.free(piece)

    def backward(dys: list[Array]) -> list[Any]:
        dxs: list[Any] | None = None
        dxs = [s.new(x.shape) for x, s in zip(xs, team.scripts, strict=True)] if need_dx else None

        def go_back() -> None:
            dy = np.concatenate(dys)
            with naming(layer, dy):
                if dxs is None:
                    layer.backward_params(dy)
                else:
                    hand_out(layer.backward(dy), dxs, team)

        team.meet((go_back, ()))
        for dy, s in zip(dys, team.scripts, strict=True):
            s.free(dy)
        return [None] * len(dys) if dxs is None else dxs

    return ys, backward


def hand_out(whole: Array, pieces: list[Array], team: Team) -> None:
    """Give every slice its part."""
    for part, piece in zip(team.parts, pieces, strict=True):
        piece[...] = whole[part]
