"""Planners for Conv2D, with what stands around it: Normalize before, ReLU and max-pooling after.

Three ways to compute a convolution, in ``kernels/cpu``; `choose` says which is taken.  With each
goes a way to store what comes out: plainly, cut off at zero, or pooled before it is cut off, which
is the same and less work.  Where pooling follows, the full-size output is never stored at all.
"""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np

from ..backend import Array
from ..kernels.cpu import tiles
from ..kernels.cpu.choose import choose
from ..kernels.cpu.im2col import Im2col
from ..kernels.cpu.pooling import new_winners, pool_by_2, unpool_by_2
from ..kernels.cpu.rows import add_row, in_rows, write_row
from ..kernels.cpu.winograd import Winograd
from ..kernels.geometry import Geometry
from ..layers import Conv2D, LeakyReLU, MaxPool2D, Normalize, ReLU
from .convolution_parts import Parts, Source, halves
from .convolution_planar import planar
from .slices import Planned, Run, Slice, slicewise

__all__ = ["Parts", "convolve", "halves", "possible"]


def plan_convolution(run: Run, x: Array, s: Slice, need_dx: bool) -> Planned:
    """Let the fastest way plan the run."""
    p = Parts.of(run)
    return convolve(p, x, s, need_dx) if p is not None and possible(p, s, need_dx) else None


AFTER: list[tuple[type, ...]] = [(), (MaxPool2D,)]
for activation in (ReLU, LeakyReLU):
    AFTER += [(activation,), (activation, MaxPool2D), (MaxPool2D, activation)]
for after in AFTER:
    slicewise(Conv2D, *after)(plan_convolution)
    slicewise(Normalize, Conv2D, *after)(plan_convolution)


def possible(p: Parts, s: Slice, need_dx: bool) -> bool:
    """Whether a sorted run can be done as one: only planes are normalized on the way."""
    return p.norm is None or choose(p.g, s.team.N, s.dtype, need_dx) == "planar"


def convolve(p: Parts, x: Array, s: Slice, need_dx: bool) -> Any:
    """Plan a sorted run the fastest way.

    The ``backward`` that is returned also takes a second argument: what writes and returns a part
    of dy, which then isn't read from its array.
    """
    way = choose(p.g, s.team.N, s.dtype, need_dx)
    return {"planar": planar, "winograd": winograd, "direct": direct}[way](p, x, s, need_dx)


def winograd(p: Parts, x: Array, s: Slice, need_dx: bool) -> Any:
    """Plan a run around a 3x3 convolution in tiles, pooled within the tiles."""
    g, conv = p.g, p.conv
    even = (g.OH // 2 * 2, g.OW // 2 * 2) if p.pool else (g.OH, g.OW)
    way = Winograd(g, *even)
    again = s.offered(x)
    chunked, kept = again or x, [] if again else [x]
    u = s.prepare(conv, "u", (36, g.C, g.O), p.of_weights(way.write_u))
    y = p.output(s, len(x))
    winners: dict[int, Any] = {}

    def put(part: slice, product: np.ndarray) -> None:
        if p.pool:
            pooled, winners[part.start] = tiles.pool(s, product, s.training)
            tiles.store(s, pooled, y[part], p.slope == 0)
            s.free(pooled)
        else:
            tiles.store(s, product, y[part], p.slope == 0)
        if p.slope:
            p.activate(s, y[part])
        p.after(y[part])

    way.forward(s, chunked, u, p.b, put)
    arrival = s.expected(x)
    if p.slope is not None and s.training:
        s.hold(y)
    if again:
        again.free()
    elif not s.training:
        s.free(x)

    def backward(dy: Array, source: Source | None = None) -> Any:
        turned = None
        if need_dx:
            # The weights are turned where the last slice's gradient will lie, which all processes
            # share; that of groups is smaller.
            last: Any = s.team.scripts[-1]
            plain = conv.groups == 1
            room = last.grad(conv, "w") if plain else s.memory.lasting(g.w_shape, s.dtype)
            write = p.of_weights(partial(way.write_ut, room=room))
            turned = s.prepare(conv, "ut", (36, g.O, g.C), write)

        def get(part: slice, room: np.ndarray) -> None:
            into = tiles.new_tiles(s, (2, 2, *room.shape[2:])) if p.pool else room
            if source is None and p.slope == 0:
                tiles.load(s, dy[part], y[part], into)
            else:
                chunk = p.gradient(s, dy, y, part) if source is None else source(part)
                tiles.load(s, chunk, None, into)
                s.free(chunk)
            if p.pool:
                tiles.unpool(s, into, winners[part.start], room)
                s.free(into, *winners.pop(part.start))

        mine = [y] if p.slope is not None or source is not None else []
        dx = over(s, x, [*kept, dy, *mine]) if need_dx else None

        def after(part: slice) -> None:
            if arrival is not None and dx is not None:
                arrival(part, dx[part])

        db = s.grad(conv, "b") if conv.use_bias else None
        dw = p.new_dw(s)
        way.backward(s, chunked, get, dw, db, turned, dx, after)
        p.end_dw(s, dw)
        s.free(*kept, dy, None if p.slope is None else y)
        return dx

    return y, backward


def direct(p: Parts, x: Array, s: Slice, need_dx: bool) -> Any:
    """Plan a run around any convolution as a product over windows."""
    g, conv, whole = p.g, p.conv, x
    if p.pool and not s.training and g.T > 1:
        g, x = without_rest(g, x)
    way = Im2col(g)
    again = s.offered(x)
    chunked, kept = again or x, [] if again else [x]
    y = p.output(s, len(x))
    winners: dict[int, Any] = {}
    row = in_rows(y)[0].shape
    b = None if p.b is None else s.prepare(conv, "b", row, partial(write_row, numbers=p.b))
    filters = conv.w
    if way.q > 1 or conv.groups > 1:
        filters = s.prepare(
            conv,
            "filters",
            way.filters_shape,
            p.of_weights(way.write_filters),
        )

    def put(part: slice, chunk: np.ndarray) -> None:
        if p.pool:
            won = winners[part.start] = new_winners(s, y[part]) if s.training else None
            pool_by_2(s, chunk, y[part], won)
        if b is not None:
            add_row(s, y[part], b)
        p.activate(s, y[part])
        p.after(y[part])

    way.forward(s, chunked, filters, None if p.pool else y, put)
    arrival = s.expected(whole)
    if p.slope is not None and s.training:
        s.hold(y)
    if again:
        again.free()
    elif not s.training:
        s.free(whole)

    def backward(dy: Array, source: Source | None = None) -> Any:
        waiting: list[slice] = []  # a chunk whose dx will have been written when we hear again

        def arrive() -> None:
            if waiting and arrival is not None and dx is not None:
                arrival(waiting[0], dx[waiting[0]])
            waiting.clear()

        def get(part: slice) -> np.ndarray:
            arrive()
            waiting.append(part)
            if source is not None:
                return source(part)
            rows = p.gradient(s, dy, y, part)
            if not p.pool:
                return rows
            room = s.new((len(rows), g.OH, g.OW, g.O))
            unpool_by_2(s, rows, winners[part.start], room)
            s.free(rows, *winners.pop(part.start))
            return room

        turned, dx = None, None
        if need_dx:
            mine = [y] if p.slope is not None or source is not None else []
            dx = over(s, x, kept if way.pointwise else [*kept, dy, *mine])
            turned = s.prepare(
                conv,
                "turned",
                way.turned_shape,
                p.of_weights(way.write_turned),
            )
        db = s.grad(conv, "b") if conv.use_bias else None
        dw = p.new_dw(s)
        way.backward(s, chunked, get, dw, db, turned, dx)
        p.end_dw(s, dw)
        arrive()
        s.free(*kept, dy, None if p.slope is None else y)
        return dx

    return y, backward


def without_rest(g: Geometry, x: Array) -> tuple[Geometry, Array]:
    """Leave away a last row and column of x that only outputs see which no pooling takes.

    Pooling by 2 takes an even number of rows.  Where there is a margin it isn't worth the trouble.
    """
    after = [end for _, end in g.margins]
    H = g.H - (g.SH if g.OH % 2 and after[0] == 0 else 0)
    W = g.W - (g.SW if g.OW % 2 and after[1] == 0 else 0)
    return replace(g, H=H, W=W), x[:, :H, :W]


def over(s: Slice, x: Array, seen: list[Array]) -> Array:
    """Return room for dx: over an array whose chunk is read for the last time before dx has one.

    That is in the cache, and new memory isn't.  seen: x, dy and the like, if nobody else needs
    them.
    """
    for array in seen:
        if array.shape == x.shape and array.dtype == x.dtype and s.memory.alone(array):
            return s.hold(array)
    return s.like(x)
