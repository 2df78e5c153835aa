"""Planners for activations: in place where nobody else needs x, in pieces that stay in the cache.

What the backward pass needs is taken from y, which the next layer keeps anyway.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from math import log
from typing import Any

import numpy as np

from ..backend import Array
from ..kernels.cpu.rows import cut, leak, masked, weakened
from ..kernels.geometry import chunks
from ..kernels.script import maximum
from ..layers import LeakyReLU, ReLU, Sigmoid, SiLU, Tanh
from .slices import Planned, Run, Slice, slicewise

PIECE_BYTES = 1 << 18  # of one array: three or four are at work


def pieces(*arrays: Array, limit: int = 0) -> Iterator[list[Array]]:
    """Cut arrays of one shape into flat pieces of so many bytes that belong together."""
    flats = [array.reshape(-1) for array in arrays]
    for part in chunks(arrays[0].size, arrays[0].itemsize, limit or PIECE_BYTES):
        yield [flat[part] for flat in flats]


def parts(x: Array) -> list[slice]:
    """Cut pictures into chunks."""
    return list(chunks(len(x), x[0].nbytes, PIECE_BYTES))


@slicewise(ReLU)
def plan_relu(run: Run, x: Array, s: Slice, need_dx: bool) -> Planned:
    """Y = max(x, 0)."""
    y = s.reuse(x)
    for part in parts(x):
        cut(s, x[part], y[part])
    if s.training:
        s.hold(y)

    def backward(dy: Array) -> Any:
        dx = s.reuse(dy)
        for part in parts(y):
            masked(s, dy[part], y[part], dx[part])
        s.free(y)
        return dx

    return y, backward


def slope_of(layer: Any) -> float | None:
    """Return the slope of a ReLU or LeakyReLU below zero; None if it isn't between 0 and 1.

    Only then y = max(x, slope * x), and y has the sign of x.
    """
    slope = 0.0 if isinstance(layer, ReLU) else float(layer.negative_slope)
    return slope if isinstance(layer, ReLU) or 0 < slope <= 1 else None


@slicewise(LeakyReLU)
def plan_leaky_relu(run: Run, x: Array, s: Slice, need_dx: bool) -> Planned:
    """Y = max(x, slope x); other slopes are left to the book."""
    slope = slope_of(run[0])
    if slope is None:
        return None
    y = s.reuse(x)
    for part in parts(x):
        leak(s, x[part], slope, y[part])
    if s.training:
        s.hold(y)

    def backward(dy: Array) -> Any:
        dx = s.reuse(dy)
        for part in parts(y):
            weakened(s, dy[part], y[part], slope, dx[part])
        s.free(y)
        return dx

    return y, backward


def minimum(a: Array, b: Any, out: Array) -> None:
    """Do ``np.minimum``, which wants its ``out`` by name."""
    np.minimum(a, b, out=out)


def least(s: Slice) -> Any:
    """Return the least x whose exp(-x) doesn't overflow."""
    return s.dtype.type(1 - log(np.finfo(s.dtype).max))


def write_sigmoid(s: Slice, x: Array, y: Array) -> None:
    """Write y = 1 / (1 + exp(-x)), as if no x were below `least`: there y is nearly 0 anyway."""
    s(np.negative, x, y)
    s(minimum, y, -least(s), y)
    s(np.exp, y, y)
    s(np.add, y, s.dtype.type(1), y)
    s(np.reciprocal, y, y)


@slicewise(Sigmoid)
def plan_sigmoid(run: Run, x: Array, s: Slice, need_dx: bool) -> Planned:
    """Y = 1 / (1 + exp(-x)); dx = dy y (1 - y)."""

    def write_slope(y: Array, room: Array) -> None:
        s(np.subtract, s.dtype.type(1), y, room)
        s(np.multiply, room, y, room)

    return with_slope_of_y(x, s, partial(write_sigmoid, s), write_slope)


@slicewise(Tanh)
def plan_tanh(run: Run, x: Array, s: Slice, need_dx: bool) -> Planned:
    """Y = tanh(x); dx = dy (1 - y^2)."""

    def write_slope(y: Array, room: Array) -> None:
        s(np.multiply, y, y, room)
        s(np.subtract, s.dtype.type(1), room, room)

    return with_slope_of_y(x, s, partial(s, np.tanh), write_slope)


def with_slope_of_y(
    x: Array,
    s: Slice,
    write: Callable[[Array, Array], None],
    write_slope: Callable[[Array, Array], None],
) -> Planned:
    """Plan an activation whose slope is a function of y, from what writes y and the slope."""
    y = s.reuse(x)
    for x_piece, y_piece in pieces(x, y):
        write(x_piece, y_piece)
    if s.training:
        s.hold(y)

    def backward(dy: Array) -> Any:
        dx = s.reuse(dy)
        for d, y_piece, out in pieces(dy, y, dx):
            room = s.like(d)
            write_slope(y_piece, room)
            s(np.multiply, d, room, out)
            s.free(room)
        s.free(y)
        return dx

    return y, backward


@slicewise(SiLU)
def plan_silu(run: Run, x: Array, s: Slice, need_dx: bool) -> Planned:
    """Y = x g, gated by g = 1 / (1 + exp(-x)); dx = dy (g + y (1 - g))."""
    gate = s.like(x)
    y = s.reuse(x)
    for x_piece, g, y_piece in pieces(x, gate, y):
        write_sigmoid(s, x_piece, g)
        s(maximum, x_piece, least(s), y_piece)
        s(np.multiply, y_piece, g, y_piece)
    if s.training:
        s.hold(y)
    else:
        s.free(gate)

    def backward(dy: Array) -> Any:
        dx = s.reuse(dy)
        for d, g, y_piece, out in pieces(dy, gate, y, dx):
            room = s.like(d)
            s(np.subtract, s.dtype.type(1), g, room)
            s(np.multiply, room, y_piece, room)
            s(np.add, room, g, room)
            s(np.multiply, d, room, out)
            s.free(room)
        s.free(y, gate)
        return dx

    return y, backward
