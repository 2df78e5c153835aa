"""Bodies for NumPy arrays behind the book's convolution: the same calls as in a plan, run once.

float64, which gradient checks use, and groups stay with the book.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from ...functional.conv import check_conv, column_sizes, conv2d_backward, conv2d_forward
from ...functional.windows import Padding, Pair, resolve_padding
from ..geometry import Geometry
from ..script import Script
from . import tiles
from .choose import choose
from .im2col import Im2col
from .team import Team
from .winograd import Winograd

the_book = conv2d_forward.dispatch(object), conv2d_backward.dispatch(object)


@conv2d_forward.register(np.ndarray)
def conv2d_forward_in_threads(
    x: np.ndarray,
    w: np.ndarray,
    b: np.ndarray | None = None,
    stride: Pair = 1,
    padding: Padding = "valid",
    dilation: Pair = 1,
    groups: int = 1,
) -> tuple[np.ndarray, Any]:
    """Do `conv2d_forward` slice by slice, as `choose` says."""
    if not suits(x, w, groups):
        return the_book[0](x, w, b, stride, padding, dilation, groups)
    check_conv(x, w, b, groups)
    margins = resolve_padding(padding, x.shape[1:3], w.shape[:2], stride, dilation)
    N, OH, OW, _ = column_sizes(x, w.shape[:2], margins, stride, dilation)
    g = Geometry.of(x.shape, w.shape, stride, margins, dilation)
    y = np.empty((N, OH, OW, g.O), x.dtype)
    team = Team(N, x.dtype)
    for part, s in zip(team.parts, team.scripts, strict=True):
        write_forward(g, team, s, x[part], w, b, y[part])
    team.meet()
    team.run(team.stages)
    return y, (x, w, b is not None, stride, margins, dilation, groups)


def write_forward(
    g: Geometry,
    team: Team,
    s: Script,
    x: np.ndarray,
    w: np.ndarray,
    b: np.ndarray | None,
    y: np.ndarray,
) -> None:
    """Write the calls of one slice."""
    if choose(g, team.N, x.dtype, need_dx=True) == "winograd":
        way = Winograd(g)
        u = team.prepare("u", (36, g.C, g.O), lambda job, u: way.write_u(job, u, w))
        way.forward(s, x, u, b, lambda part, tile: tiles.store(s, tile, y[part], relu=False))
        return
    direct = Im2col(g)
    filters = w
    if direct.q > 1:
        shape = direct.filters_shape
        filters = team.prepare("w", shape, lambda job, f: direct.write_filters(job, f, w))
    direct.forward(s, x, filters, y, lambda part, chunk: None)
    if b is not None:
        s(np.add, y, b, y)


@conv2d_backward.register(np.ndarray)
def conv2d_backward_in_threads(
    dy: np.ndarray, cache: Any, need_dx: bool = True
) -> tuple[np.ndarray | None, np.ndarray, np.ndarray | None]:
    """Do `conv2d_backward` slice by slice; the slices' dw and db are added up."""
    x, w, has_bias, stride, margins, dilation, groups = cache
    if not suits(x, w, groups) or dy.dtype != x.dtype:
        return the_book[1](dy, cache, need_dx)
    g, dy = Geometry.of(x.shape, w.shape, stride, margins, dilation), np.ascontiguousarray(dy)
    dx = np.empty(x.shape, x.dtype) if need_dx else None
    team = Team(len(x), x.dtype)
    dws = np.empty((len(team.parts), *w.shape), w.dtype)
    dbs = np.empty((len(team.parts), g.O), w.dtype)
    for part, s, dw, db in zip(team.parts, team.scripts, dws, dbs, strict=True):
        write_backward(g, team, s, x[part], w, dy[part], dw, db, None if dx is None else dx[part])
    team.meet()
    team.run(team.stages)
    return dx, dws.sum(axis=0), dbs.sum(axis=0) if has_bias else None


def write_backward(
    g: Geometry,
    team: Team,
    s: Script,
    x: np.ndarray,
    w: np.ndarray,
    dy: np.ndarray,
    dw: np.ndarray,
    db: np.ndarray,
    dx: np.ndarray | None,
) -> None:
    """Write the calls of one slice."""
    turned = None
    if choose(g, team.N, x.dtype, need_dx=True) == "winograd":
        way = Winograd(g)
        if dx is not None:
            shape: tuple[int, ...] = (36, g.O, g.C)
            turned = team.prepare(
                "ut", shape, lambda job, ut: way.write_ut(job, ut, w, np.empty(w.shape, w.dtype))
            )
        way.backward(
            s, x, lambda part, tile: tiles.load(s, dy[part], None, tile), dw, db, turned, dx
        )
        return
    direct = Im2col(g)
    if dx is not None:
        shape = direct.turned_shape
        turned = team.prepare("turned", shape, lambda job, f: direct.write_turned(job, f, w))
    direct.backward(s, x, lambda part: dy[part], dw, db, turned, dx)


def suits(x: np.ndarray, w: np.ndarray, groups: int) -> bool:
    """Whether a convolution is one for this file."""
    return (
        groups == 1
        and x.ndim == w.ndim == 4
        and x.dtype == w.dtype == np.float32
        and x.size > 0
        and x.strides[-1] == x.itemsize
    )
