"""Planner for BatchNorm in prediction: a factor and an offset for each channel."""

from __future__ import annotations

from typing import Any

import numpy as np

from ..backend import Array
from ..kernels.cpu.rows import repeats
from ..kernels.cpu.team import Team
from ..layers import BatchNorm
from .convolution import Parts as ConvParts
from .convolution import convolve, possible
from .norm_parts import Parts, cut_up, finish, write_scaled
from .slices import Backwards, Slice


def scaling_of(norm: BatchNorm, s: Slice, team: Team) -> Array:
    """Return factors and offsets by the running statistics, (2, k C), laid out as in `in_rows`.

    They are made anew before the stage that is being written.
    """
    C = norm.input_shape[-1]

    def write(job: Any, rows: np.ndarray) -> None:
        def set_rows() -> None:
            factor = 1 / np.sqrt(norm.buffers["running_var"] + float(norm.eps))
            if norm.scale:
                factor = factor * norm.gamma
            factors, offsets = rows.reshape(2, -1, C)
            factors[...] = factor
            offsets[...] = (norm.beta if norm.center else 0) - norm.buffers["running_mean"] * factor

        team.before(set_rows)

    like = np.broadcast_to(np.float32(0), (1, *norm.input_shape))
    return s.prepare(norm, "scaling", (2, repeats(like.shape[1:]) * C), write)


def plan_inference(p: Parts, xs: list[Array], team: Team) -> tuple[list[Array], Backwards] | None:
    """Scale with the running statistics, chunk by chunk as they come out of a convolution."""
    if p.pool:
        return None
    norm, ys = p.norm, []
    for x, s in zip(xs, team.scripts, strict=True):
        scaling = scaling_of(norm, s, team)  # type: ignore[arg-type]

        def after(chunk: Array, s: Any = s, scaling: Any = scaling) -> None:
            write_scaled(s, chunk, scaling, chunk)
            if p.join is None:
                finish(s, p, chunk, None)

        if p.conv:
            conv = ConvParts.of(p.conv)
            if conv is None or not possible(conv, s, False):  # type: ignore[arg-type]
                return None
            conv.after = after
            y, _ = convolve(conv, x, s, False)  # type: ignore[arg-type]
        else:
            y = s.reuse(x)
            for part in cut_up(y):
                if y is not x:
                    s(np.copyto, y[part], x[part])
                after(y[part])
        if p.join is not None:
            for part in cut_up(y):
                finish(s, p, y[part], p.join.side(s)[part])  # type: ignore[arg-type]
            s.free(p.join.side(s))
        ys.append(y)
    return ys, lambda dys: dys
