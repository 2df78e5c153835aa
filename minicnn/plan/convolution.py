"""Planners for Conv2D, with what stands around it: Normalize before, ReLU and max-pooling after.

Three ways to compute a convolution, in ``kernels/cpu``; `choose` says which is taken.  With each
goes a way to store what comes out: plainly, cut off at zero, or pooled before it is cut off, which
is the same and less work.  Where pooling follows, the full-size output is never stored at all.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any, TypeAlias

import numpy as np

from ..backend import Array
from ..functional.windows import pair
from ..kernels.cpu import tiles
from ..kernels.cpu.choose import choose
from ..kernels.cpu.geometry import Geometry
from ..kernels.cpu.im2col import Im2col
from ..kernels.cpu.planar import Planar
from ..kernels.cpu.pooling import new_winners, pool_by_2, unpool_by_2
from ..kernels.cpu.rows import add_row, cut, in_rows, masked, write_row
from ..kernels.cpu.script import maximum
from ..kernels.cpu.winograd import Winograd
from ..layers import Conv2D, MaxPool2D, Normalize, ReLU
from .slices import Planned, Run, Slice, slicewise

Hook: TypeAlias = Callable[[Array], None]
Source: TypeAlias = Callable[[slice], Array]


@dataclass
class Parts:
    """The layers of a run by what they are, and the convolution's geometry.

    after: writes what else is done with a chunk of the output while it is in the cache.
    """

    conv: Conv2D
    norm: Normalize | None
    relu: bool
    pool: bool
    g: Geometry
    after: Hook = lambda chunk: None

    @property
    def b(self) -> Array | None:
        """The bias, if there is one."""
        return self.conv.b if self.conv.use_bias else None

    @classmethod
    def of(cls, run: Run) -> Parts | None:
        """Sort a run; None if its pooling isn't by 2, or the convolution has groups."""
        conv = next(layer for layer in run if isinstance(layer, Conv2D))
        pools = [layer for layer in run if isinstance(layer, MaxPool2D)]
        if conv.groups > 1 or not all(map(halves, pools)):
            return None
        g = Geometry.of(
            conv.input_shape, conv.w.shape, conv.strides, conv.padding, conv.dilation_rate
        )
        norm = run[0] if isinstance(run[0], Normalize) else None
        relu = any(isinstance(layer, ReLU) for layer in run)
        if pools and min(g.OH, g.OW) < 2:
            return None
        return cls(conv, norm, relu, bool(pools), g)

    def output(self, s: Slice, n: int) -> np.ndarray:
        """Return room for the run's output."""
        g, by = self.g, 2 if self.pool else 1
        return s.new((n, g.OH // by, g.OW // by, g.O))


def halves(layer: MaxPool2D) -> bool:
    """Whether max-pooling is by 2 x 2 without overlap and margins."""
    strides = layer.pool_size if layer.strides is None else layer.strides
    plain = layer.padding in ("valid", 0) or (
        np.size(layer.padding) > 1 and not np.any(layer.padding)
    )
    return pair(layer.pool_size) == pair(strides) == (2, 2) and bool(plain)


@slicewise(Normalize, Conv2D, ReLU, MaxPool2D)
@slicewise(Normalize, Conv2D, MaxPool2D, ReLU)
@slicewise(Normalize, Conv2D, ReLU)
@slicewise(Normalize, Conv2D, MaxPool2D)
@slicewise(Normalize, Conv2D)
@slicewise(Conv2D, ReLU, MaxPool2D)
@slicewise(Conv2D, MaxPool2D, ReLU)
@slicewise(Conv2D, ReLU)
@slicewise(Conv2D, MaxPool2D)
@slicewise(Conv2D)
def plan_convolution(run: Run, x: Array, s: Slice, need_dx: bool) -> Planned:
    """Let the fastest way plan the run."""
    p = Parts.of(run)
    return convolve(p, x, s, need_dx) if p is not None and possible(p, s, need_dx) else None


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
    u = s.prepare(conv, "u", (36, g.C, g.O), lambda job, u: way.write_u(job, u, conv.w))
    y = p.output(s, len(x))
    winners: dict[int, Any] = {}

    def put(part: slice, product: np.ndarray) -> None:
        if p.pool:
            pooled, winners[part.start] = tiles.pool(s, product, s.training)
            tiles.store(s, pooled, y[part], p.relu)
            s.free(pooled)
        else:
            tiles.store(s, product, y[part], p.relu)
        p.after(y[part])

    way.forward(s, x, u, p.b, put)
    if p.relu and s.training:
        s.hold(y)
    if not s.training:
        s.free(x)

    def backward(dy: Array, source: Source | None = None) -> Any:
        turned = None
        if need_dx:
            shape = (36, g.O, g.C)
            turned = s.prepare(conv, "ut", shape, lambda job, ut: way.write_ut(job, ut, conv.w))

        def get(part: slice, room: np.ndarray) -> None:
            positive = y[part] if p.relu else None
            if source is not None:
                chunk = source(part)
                tiles.load(s, chunk, None, room)
                s.free(chunk)
                return
            if not p.pool:
                tiles.load(s, dy[part], positive, room)
                return
            pooled = s.new((2, 2, *room.shape[2:]))
            tiles.load(s, dy[part], positive, pooled)
            tiles.unpool(s, pooled, winners[part.start], room)
            s.free(pooled, *winners.pop(part.start))

        dx = s.like(x) if need_dx else None
        db = s.grad(conv, "b") if conv.use_bias else None
        way.backward(s, x, get, s.grad(conv, "w"), db, turned, dx)
        s.free(x, dy, y if p.relu else None)
        return dx

    return y, backward


def direct(p: Parts, x: Array, s: Slice, need_dx: bool) -> Any:
    """Plan a run around any convolution as a product over windows."""
    g, conv = p.g, p.conv
    way = Im2col(g)
    y = p.output(s, len(x))
    winners: dict[int, Any] = {}
    row = in_rows(y)[0].shape
    b = None if p.b is None else s.prepare(conv, "b", row, partial(write_row, numbers=p.b))
    filters = conv.w
    if way.q > 1:
        filters = s.prepare(
            conv, "filters", way.filters_shape, lambda job, f: way.write_filters(job, f, conv.w)
        )

    def put(part: slice, chunk: np.ndarray) -> None:
        if p.pool:
            won = winners[part.start] = new_winners(s, y[part]) if s.training else None
            pool_by_2(s, chunk, y[part], won)
        if b is not None:
            add_row(s, y[part], b)
        if p.relu:
            cut(s, y[part])
        p.after(y[part])

    way.forward(s, x, filters, None if p.pool else y, put)
    if p.relu and s.training:
        s.hold(y)
    if not s.training:
        s.free(x)

    def backward(dy: Array, source: Source | None = None) -> Any:
        def get(part: slice) -> np.ndarray:
            if source is not None:
                return source(part)
            rows = gradient(s, dy, y if p.relu else None, part)
            if not p.pool:
                return rows
            room = s.new((len(rows), g.OH, g.OW, g.O))
            unpool_by_2(s, rows, winners[part.start], room)
            s.free(rows, *winners.pop(part.start))
            return room

        turned, dx = None, None
        if need_dx:
            dx = s.like(x)
            turned = s.prepare(
                conv, "turned", way.turned_shape, lambda job, f: way.write_turned(job, f, conv.w)
            )
        db = s.grad(conv, "b") if conv.use_bias else None
        way.backward(s, x, get, s.grad(conv, "w"), db, turned, dx)
        s.free(x, dy, y if p.relu else None)
        return dx

    return y, backward


def planar(p: Parts, x: Array, s: Slice, need_dx: bool) -> Any:
    """Plan a run around the first convolution, pictures normalized on the way."""
    g, conv = p.g, p.conv
    way = Planar(g, p.pool)
    k = s.prepare(conv, "k", (way.K, g.O), lambda job, k: way.write_w(job, k, conv.w, p.b))
    scale = None if p.norm is None else normalization(p.norm, s)
    y = p.output(s, len(x))
    winners: dict[int, Any] = {}
    zero = s.zeros(g.O)

    def put(part: slice, product: np.ndarray) -> None:
        if not p.pool:
            whole = product[0, :, :, : g.OW]
            if p.relu:
                s(maximum, whole, zero, y[part])
            else:
                s(np.copyto, y[part], whole)
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
        if p.relu:
            cut(s, y[part])
        p.after(y[part])

    planes = way.planes(s, len(x), conv.path)
    way.forward(s, x, scale, planes, k, put)
    if p.relu and s.training:
        s.hold(y)
    s.free(x)

    def backward(dy: Array, source: Source | None = None) -> Any:
        def get(part: slice) -> np.ndarray:
            m = part.stop - part.start
            if source is not None:
                rows = source(part)
            else:
                rows = gradient(s, dy, y if p.relu else None, part)
            # Columns that nobody looked at stay zero in this array.
            seen = way.columns if p.pool else g.OW
            wide = s.constant(("planar dy", seen), (m, way.rows, way.width, g.O), 0)
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
        way.backward(s, len(y), planes, get, s.grad(conv, "w"), db)
        s.free(dy, y if p.relu else None)
        return None

    return y, backward


def gradient(s: Slice, dy: Array, y: Array | None, part: slice) -> Array:
    """Return a chunk of dy, zero where y was cut off, to be freed by the caller."""
    if y is None:
        return s.hold(dy)[part]
    rows = s.new(dy[part].shape)
    masked(s, dy[part], y[part], rows)
    return rows


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
