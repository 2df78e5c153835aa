"""Convolution, forward and backward, on the tensor cores where the storage type has them.

Three ways, and the same numbers: "implicit" gathers windows while it multiplies
(``conv_windows.cu``, ``conv_weights.cu``); "im2col" writes them out and lets cuBLAS multiply;
groups have loops of their own (``conv_groups.cu``).
"""

from __future__ import annotations

import math

from ...backend import Array
from ..geometry import Geometry
from . import conv_im2col
from .conv_choose import BLOCKS, choose, cut, tile_for
from .im2col import sizes
from .precision import uses_tf32
from .writer import Writer

THREADS = 256 * BLOCKS
"""So many threads, about, each do a part of a sum, where there are groups."""


def conv_forward(
    s: Writer,
    x: Array,
    w: Array,
    b: Array | None,
    y: Array,
    g: Geometry,
    relu: bool = False,
    algorithm: str = "auto",
) -> None:
    """Write y = x * w + b, and max(0, y) where relu is True.

    x: (N, H, W, C)  w: (KH, KW, C/G, O)  y: (N, OH, OW, O), in the storage type.  b: (O,), of the
    type of sums, or None.
    """
    tf32 = uses_tf32(s.kind)
    way = choose(g, s.kind, tf32, algorithm)
    if way == "im2col":
        conv_im2col.forward(s, x, w, b, y, g, relu, tf32)
    elif way == "groups":
        s.launch("conv_groups_forward", y.size, x, w, b, y, *sizes(len(x), g), g.groups, relu)
    else:
        windows(s, x, w, b, y, g, g.O, len(x) * g.OH * g.OW, False, relu)


def conv_backward_x(
    s: Writer, dy: Array, w: Array, dx: Array, g: Geometry, algorithm: str = "auto"
) -> None:
    """Write dx, the gradient of the input.

    dy: (N, OH, OW, O)  w: (KH, KW, C/G, O)  dx: (N, H, W, C), in the storage type.
    """
    tf32 = uses_tf32(s.kind)
    way = choose(g, s.kind, tf32, algorithm, back=True)
    if way == "im2col":
        conv_im2col.backward_x(s, dy, w, dx, g, tf32)
    elif way == "groups":
        s.launch("conv_groups_inputs", dx.size, dy, w, dx, *sizes(len(dx), g), g.groups)
    else:
        turned = s.new((g.KH, g.KW, g.O, g.C))
        s.launch("conv_turn", w.size, w, turned, g.T, g.C, g.O)
        # A phase has so many pixels at most.
        rows = len(dx) * -(-g.H // g.SH) * -(-g.W // g.SW)
        windows(s, dy, turned, None, dx, g, g.C, rows, True, False)
        s.free(turned)


def conv_backward_w(
    s: Writer,
    x: Array,
    dy: Array,
    dw: Array,
    g: Geometry,
    db: Array | None = None,
    algorithm: str = "auto",
) -> None:
    """Write dw, the gradient of the filters, and db, that of the biases, unless it is None.

    x: (N, H, W, C)  dy: (N, OH, OW, O), in the storage type.  dw: (KH, KW, C/G, O)  db: (O,), of
    the type of sums.
    """
    if db is not None:
        conv_backward_b(s, dy, db)
    tf32 = uses_tf32(s.kind)
    way = choose(g, s.kind, tf32, algorithm)
    pixels, rows = len(x) * g.OH * g.OW, g.T * g.C
    if way == "im2col":
        conv_im2col.backward_w(s, x, dy, dw, g, tf32)
    elif way == "groups":
        share = max(256, -(-pixels * dw.size // THREADS))
        parts = parts_for(s, -(-pixels // share), dw)
        threads = parts.size
        s.launch(
            *("conv_groups_weights", threads, x, dy, parts, *sizes(len(x), g)),
            *(g.groups, share, parts.size // dw.size),
        )
        add_parts(s, parts, dw)
    else:
        odd = is_odd(s, g, x, dy)
        tile = tile_for(s.kind, rows, g.O, odd, pixels)
        share, count = cut(tile, rows, g.O, pixels)
        parts = parts_for(s, count, dw)
        s.launch(
            f"conv_weights_{tile.name}{suffix(tf32, odd)}",
            *(0, x, dy, parts, *sizes(len(x), g), share),
            block=tile.threads,
            grid=(-(-rows // tile.M), -(-g.O // tile.N), count),
        )
        add_parts(s, parts, dw)


def conv_backward_b(s: Writer, dy: Array, db: Array) -> None:
    """Write db, the sum of dy over everything but the channels.

    dy: (..., O), in the storage type.  db: (O,), of the type of sums.
    """
    O = dy.shape[-1]
    rows, across = dy.size // O, -(-O // 32)
    share = max(64, -(-rows * across // (2 * BLOCKS)))
    parts = parts_for(s, -(-rows // share), db)
    s.launch("conv_bias_parts", 0, dy, parts, rows, O, share, grid=(across, parts.size // O))
    add_parts(s, parts, db)


def windows(
    s: Writer,
    x: Array,
    w: Array,
    b: Array | None,
    y: Array,
    g: Geometry,
    columns: int,
    rows: int,
    back: bool,
    relu: bool,
) -> None:
    """Write a product of windows: forward, or backward to the input (``conv_windows.cu``)."""
    own = aligned(s, w)
    odd = is_odd(s, g, x, y)
    tile = tile_for(s.kind, rows * (g.SH * g.SW if back else 1), columns, odd)
    s.launch(
        f"conv_windows_{tile.name}{suffix(uses_tf32(s.kind), odd)}",
        *(0, x, own, b, y, *sizes(len(x), g), back, relu),
        block=tile.threads,
        grid=(-(-rows // tile.M) * -(-columns // tile.N), 1, g.SH * g.SW if back else 1),
    )
    if own is not w:
        s.free(own)


def suffix(tf32: bool, odd: bool) -> str:
    """Return the end of a kernel's name."""
    return "_odd" if odd else "_tf32" if tf32 else ""


def is_odd(s: Writer, g: Geometry, *arrays: Array) -> bool:
    """Whether values have to be gathered one by one, rather than 16 bytes at a time."""
    width = 16 // s.dtype.itemsize
    return bool(g.C % width or g.O % width) or any(a.data.ptr % 16 for a in arrays)


def aligned(s: Writer, w: Array) -> Array:
    """Return w, or a copy that begins at a multiple of 16 bytes: a layer's w may lie anywhere."""
    if w.data.ptr % 16 == 0:
        return w
    own = s.new(w.shape)
    s.launch("conv_turn", w.size, w, own, 1, 1, w.size)  # one row stays as it is
    return own


def parts_for(s: Writer, count: int, total: Array) -> Array:
    """Return room for so many parts of a sum: the sum itself where one part is all."""
    if count == 1:
        return total
    return s.new((count, math.prod(total.shape)), s.acc_dtype)


def add_parts(s: Writer, parts: Array, total: Array) -> None:
    """Write the sum of all parts, unless it is there already."""
    if parts is not total:
        size = total.size
        s.launch("conv_sum", 0, parts, total, len(parts), size, grid=(-(-size // 8),))
        s.free(parts)
