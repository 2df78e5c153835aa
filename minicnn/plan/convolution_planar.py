"""Planner for the first convolution, on planes; Normalize before it is done on the way."""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np

from ..backend import Array
from ..kernels.cpu.planar import Planar
from ..kernels.script import maximum
from ..layers import Normalize
from .convolution_parts import Parts, Source
from .slices import Slice


def planar(p: Parts, x: Array, s: Slice, need_dx: bool) -> Any:
    """Plan a run around the first convolution, pictures normalized on the way."""
    g, conv = p.g, p.conv
    way = Planar(g, p.pool)
    k = s.prepare(conv, "k", (way.K, g.O), p.of_weights(partial(way.write_w, b=p.b)))
    scale = None if p.norm is None else normalization(p.norm, s)
    y = p.output(s, len(x))
    winners: dict[int, Any] = {}
    zero = s.zeros(g.OW * g.O)

    def put(part: slice, product: np.ndarray) -> None:
        if not p.pool:
            # Lines of pixels: the zeros of `maximum` are as long, and so is its inner loop.
            m = part.stop - part.start
            whole = product.reshape(m, way.rows, -1)[:, :, : g.OW * g.O]
            lines = y[part].reshape(whole.shape)
            if p.slope == 0:
                s(maximum, whole, zero, lines)
            else:
                s(np.copyto, lines, whole)
                p.activate(s, y[part])
            p.after(y[part])
            return
        # Columns first: the even and the odd ones are two contiguous halves of the product.
        left, right = product
        wide = s.new(left.shape)
        s(maximum, left, right, wide)
        upper, lower = (wide[:, k::2, : way.columns] for k in (0, 1))
        s(maximum, upper, lower, y[part])
        if s.training:
            winners[part.start] = s.new(left.shape, bool), s.new(upper.shape, bool)
            s(np.greater_equal, left, right, winners[part.start][0])
            s(np.greater_equal, upper, lower, winners[part.start][1])
        s.free(wide)
        p.activate(s, y[part])
        p.after(y[part])

    planes = way.planes(s, len(x), conv.path)
    way.forward(s, x, scale, planes, k, put)
    if p.slope is not None and s.training:
        s.hold(y)
    s.free(x)

    def backward(dy: Array, source: Source | None = None) -> Any:
        def get(part: slice) -> np.ndarray:
            m = part.stop - part.start
            # Columns that nobody looked at stay zero in this array.
            seen = way.columns if p.pool else g.OW
            wide = s.constant(("planar dy", seen), (m, way.rows, way.width, g.O), 0)
            if source is None and not p.pool:
                p.write_gradient(s, dy[part], y[part], wide[:, :, : g.OW])
                return wide
            rows = p.gradient(s, dy, y, part) if source is None else source(part)
            if not p.pool:
                s(np.copyto, wide[:, :, : g.OW], rows)
                s.free(rows)
                return wide
            left, above = winners.pop(part.start)
            upper, lower = (wide[:, k::2, : way.columns] for k in (0, 1))
            s(np.multiply, rows, above, upper)
            s(np.subtract, rows, upper, lower)
            s.free(rows)
            both = s.new((2, *wide.shape))
            s(np.multiply, wide, left, both[0])
            s(np.subtract, wide, both[0], both[1])
            s.free(left, above)
            return both

        db = s.grad(conv, "b") if conv.use_bias else None
        dw = p.new_dw(s)
        way.backward(s, len(y), planes, get, dw, db)
        p.end_dw(s, dw)
        s.free(dy, None if p.slope is None else y)
        return None

    return y, backward


def normalization(norm: Normalize, s: Slice) -> tuple[np.ndarray, np.ndarray]:
    """Return factor and offset of each channel, side by side for a line of pixels."""
    mean, std = norm.buffers["mean"], norm.buffers["std"]
    _, W, C = norm.input_shape

    def write(job: Any, both: np.ndarray) -> None:
        factor, offset = both.reshape(2, W, C)
        job(np.divide, norm.scale, std, factor)
        job(np.divide, mean, std, offset)

    both = s.prepare(norm, "scale", (2, W * C), write)
    return both[0], both[1]
