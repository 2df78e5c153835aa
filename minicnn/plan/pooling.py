"""Planners for the poolings by themselves, chunk by chunk."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from ..backend import Array
from ..functional.pool import pool_margins
from ..functional.windows import pair
from ..kernels.cpu.pooling import (
    add_up_windows,
    maximum_of_windows,
    new_winners,
    pool_by_2,
    spread_to_windows,
    spread_to_winners,
    unpool_by_2,
)
from ..kernels.geometry import Geometry, chunks
from ..layers import AveragePool2D, GlobalAveragePool2D, MaxPool2D
from .convolution import halves
from .slices import Planned, Run, Slice, slicewise

CHUNK_BYTES = 1 << 18  # of x: with y, what is in between and who won, a part of the cache


def parts(x: Array) -> list[slice]:
    """Cut pictures into chunks."""
    return list(chunks(len(x), x[0].nbytes, CHUNK_BYTES))


def cut_out(winners: Sequence[Array], part: slice) -> Any:
    """Return a part of each of the arrays that say who won."""
    return tuple(array[part] for array in winners)


def geometry(layer: Any) -> Geometry:
    """Return the windows of a pooling: its channels are looked at one by one."""
    stride = layer.pool_size if layer.strides is None else layer.strides
    H, W, C = layer.input_shape
    margins = pool_margins((1, H, W, C), layer.pool_size, stride, layer.padding)
    return Geometry(H, W, C, C, *pair(layer.pool_size), *pair(stride), 1, 1, margins, C)


@slicewise(MaxPool2D)
def plan_maxpool2d_by_2(run: Run, x: Array, s: Slice, need_dx: bool) -> Planned:
    """Keep the largest of each 2x2 window; other windows are left to others."""
    (layer,) = run
    if not halves(layer):
        return None
    y = s.new((len(x), *layer.output_shape))
    winners: Sequence[Array] = new_winners(s, y) if s.training else ()
    for part in parts(x):
        pool_by_2(s, x[part], y[part], cut_out(winners, part) or None)
    s.free(x)

    def backward(dy: Array) -> Any:
        dx = s.new(x.shape)
        for part in parts(x):
            unpool_by_2(s, dy[part], cut_out(winners, part), dx[part])
        s.free(dy, *winners)
        return dx

    return y, backward


@slicewise(MaxPool2D)
def plan_maxpool2d(run: Run, x: Array, s: Slice, need_dx: bool) -> Planned:
    """Keep the largest of each window, columns first, then rows (`functional.pool`)."""
    (layer,) = run
    g = geometry(layer)
    y = s.new((len(x), *layer.output_shape))
    height = g.H + sum(g.margins[0])
    winners: Sequence[Array] = ()
    if s.training:
        winners = s.new((len(x), height, g.OW, g.C), "uint8"), s.new(y.shape, "uint8")
    for part in parts(x):
        maximum_of_windows(s, x[part], y[part], cut_out(winners, part), g)
    s.free(x)

    def backward(dy: Array) -> Any:
        dx = s.new(x.shape)
        for part in parts(x):
            spread_to_winners(s, dy[part], cut_out(winners, part), dx[part], g)
        s.free(dy, *winners)
        return dx

    return y, backward


@slicewise(AveragePool2D)
def plan_averagepool2d(run: Run, x: Array, s: Slice, need_dx: bool) -> Planned:
    """Take the mean of each window: of its pixels inside the picture (`functional.pool`)."""
    (layer,) = run
    g = geometry(layer)
    y = s.new((len(x), *layer.output_shape))
    share = s.constant(("share", g), (g.OH, g.OW * g.C), 1)
    share[...] = np.repeat(1 / pixels_inside(g), g.C, axis=1)
    for part in parts(x):
        add_up_windows(s, x[part], y[part], g)
        lines = y[part].reshape(-1, *share.shape)
        s(np.multiply, lines, share, lines)
    s.free(x)

    def backward(dy: Array) -> Any:
        dx = s.new(x.shape)
        for part in parts(x):
            room = s.like(dy[part])
            lines = dy[part].reshape(-1, *share.shape)
            s(np.multiply, lines, share, room.reshape(lines.shape))
            spread_to_windows(s, room, dx[part], g)
            s.free(room)
        s.free(dy)
        return dx

    return y, backward


def pixels_inside(g: Geometry) -> np.ndarray:
    """Return how many pixels of each window lie in the picture, (OH, OW)."""
    sides = []
    for size, outputs, K, S, (before, _) in (
        (g.H, g.OH, g.KH, g.SH, g.margins[0]),
        (g.W, g.OW, g.KW, g.SW, g.margins[1]),
    ):
        first = np.arange(outputs) * S - before
        sides.append(np.minimum(first + K, size) - np.maximum(first, 0))
    return np.outer(*sides)


@slicewise(GlobalAveragePool2D)
def plan_globalaveragepool2d(run: Run, x: Array, s: Slice, need_dx: bool) -> Planned:
    """Take the mean over the pixels, as a product with 1 / (H*W)."""
    n, H, W, C = x.shape
    share = s.constant("mean", (1, H * W), 1 / (H * W))
    y = s.new((n, C))
    s(np.matmul, share, x.reshape(n, H * W, C), y.reshape(n, 1, C))
    s.free(x)

    def backward(dy: Array) -> Any:
        dx, d = s.new(x.shape), s.reuse(dy)
        s(np.multiply, dy, share[0, 0], d)
        s(np.copyto, dx, d[:, None, None, :])
        s.free(d)
        return dx

    return y, backward
