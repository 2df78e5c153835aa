"""Planner for a frozen BatchNorm in training: a factor and an offset for each channel, and back.

The running statistics don't depend on x, so no picture has to do with another: dx = dy factor.
Where nobody asks for dx it is planned as in prediction (`norm_inference`).
"""

from __future__ import annotations

from typing import Any

import numpy as np

from ..backend import Array
from ..kernels.cpu.rows import in_rows, masked
from ..kernels.cpu.team import Team
from .norm_inference import scaling_of
from .norm_parts import Parts, cut_up, finish, write_scaled
from .slices import Backwards, Slice


def plan_frozen(p: Parts, xs: list[Array], team: Team) -> tuple[list[Array], Backwards] | None:
    """Plan BatchNorm alone, or with the ReLU behind it; longer runs are planned in pieces."""
    if p.conv or p.join is not None or p.pool:
        return None
    norm, ys = p.norm, []
    slices: list[Slice] = team.scripts  # type: ignore[assignment]
    for x, s in zip(xs, slices, strict=True):
        scaling, y = scaling_of(norm, s, team), s.reuse(x)
        for part in cut_up(y):
            write_scaled(s, x[part], scaling, y[part])
            finish(s, p, y[part], None)
        ys.append(s.hold(y) if p.relu else y)

    def backward(dys: list[Array]) -> list[Any]:
        dxs = []
        for dy, y, s in zip(dys, ys, slices, strict=True):
            scaling, dx = scaling_of(norm, s, team), s.reuse(dy)
            for part in cut_up(dx):
                if p.relu:
                    masked(s, dy[part], y[part], dx[part])
                rows = in_rows(dx[part])
                s(np.multiply, rows if p.relu else in_rows(dy[part]), scaling[0], rows)
            s.free(y if p.relu else None)
            dxs.append(dx)
        return dxs

    return ys, backward
