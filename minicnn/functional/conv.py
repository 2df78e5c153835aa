"""Convolution, as one matrix product over windows (im2col)."""

from __future__ import annotations

from functools import singledispatch
from typing import Any

from ..backend import Array, array_module, check_float
from .windows import (
    Padding,
    Pair,
    channel_sum,
    col2im,
    crop,
    im2col,
    out_size,
    pad,
    pair,
    parts,
    resolve_padding,
)


@singledispatch
def conv2d_forward(
    x: Array,
    w: Array,
    b: Array | None = None,
    stride: Pair = 1,
    padding: Padding = "valid",
    dilation: Pair = 1,
    groups: int = 1,
) -> tuple[Array, Any]:
    """Slide O filters over the picture.

        y[n,oh,ow,o] = b[o] + sum_ijc x[n, oh*SH + i*DH, ow*SW + j*DW, c] w[i,j,c,o]

    where x has its margins already, and the sum over c is over the channels of o's group.

    Written out, the windows are rows of a matrix, and the sum is one product of matrices.  With
    G groups, the channels and the filters are cut into G parts that don't see each other.
    (This is the cross-correlation that the field calls convolution: w isn't flipped.)

    x: (N, H, W, C)  w: (KH, KW, C/G, O)  b: (O,) or None.  Returns y: (N, OH, OW, O).
    padding: see `windows.resolve_padding`.  Raises ValueError where sizes don't fit.
    """
    check_conv(x, w, b, groups)
    xp = array_module(x)
    size = w.shape[:2]
    margins = resolve_padding(padding, x.shape[1:3], size, stride, dilation)
    N, OH, OW, bytes_each = column_sizes(x, size, margins, stride, dilation)
    y = xp.empty((N, OH, OW, w.shape[3]), dtype=x.dtype)
    for part in parts(N, bytes_each):
        cols = im2col(pad(x[part], margins), size, stride, dilation)
        # (G, M, O/G) = (G, M, T*C/G) @ (G, T*C/G, O/G)
        products = xp.matmul(split_cols(cols, groups), split_filters(w, groups))
        y[part] = products.transpose(1, 0, 2).reshape(y[part].shape)
    if b is not None:
        y += b
    return y, (x, w, b is not None, stride, margins, dilation, groups)


@singledispatch
def conv2d_backward(
    dy: Array, cache: Any, need_dx: bool = True
) -> tuple[Array | None, Array, Array | None]:
    """Go back through the product, then add every window back to where it was read.

    With X the matrix of windows, y = X w, so

        dL/dw = X^T dy        dL/dX = dy w^T        dL/db[o] = sum_n,oh,ow dy[n,oh,ow,o]

    and dL/dx is dL/dX added up over the windows that a pixel was in.  X is made again rather than
    kept: it is KH*KW times as large as x.

    dy: (N, OH, OW, O).  Returns dx: (N, H, W, C), dw: (KH, KW, C/G, O), db: (O,), or None where
    there was no bias; dx is None where ``need_dx`` is False (the first layer: nobody asks for it).
    """
    x, w, has_bias, stride, margins, dilation, groups = cache
    xp = array_module(dy)
    size, O, G = w.shape[:2], w.shape[3], groups
    N, _, _, bytes_each = column_sizes(x, size, margins, stride, dilation)
    dx = xp.empty(x.shape, dtype=dy.dtype) if need_dx else None
    dw = xp.zeros((G, size[0] * size[1] * w.shape[2], O // G), dtype=w.dtype)
    filters = split_filters(w, G)
    for part in parts(N, bytes_each):
        padded = pad(x[part], margins)
        cols = im2col(padded, size, stride, dilation)
        rows = dy[part].reshape(-1, G, O // G).transpose(1, 0, 2)  # (G, M, O/G)
        # (G, T*C/G, O/G) = (G, T*C/G, M) @ (G, M, O/G)
        dw += xp.matmul(split_cols(cols, G).transpose(0, 2, 1), rows)
        if dx is not None:
            # (G, M, T*C/G) = (G, M, O/G) @ (G, O/G, T*C/G)
            dcols = join_cols(xp.matmul(rows, filters.transpose(0, 2, 1)), cols.shape)
            dpadded = xp.zeros(padded.shape, dtype=dy.dtype)
            col2im(dcols, dpadded, size, stride, dilation)
            dx[part] = crop(dpadded, margins)
    dw = dw.transpose(1, 0, 2).reshape(w.shape)
    return dx, dw, channel_sum(dy) if has_bias else None


def split_cols(cols: Array, groups: int) -> Array:
    """Cut the channels of every window: (N, OH, OW, T, C) -> (G, M, T*C/G)."""
    _, _, _, T, C = cols.shape
    return (
        cols.reshape(-1, T, groups, C // groups)
        .transpose(2, 0, 1, 3)
        .reshape(groups, -1, T * C // groups)
    )


def join_cols(cols: Array, shape: tuple[int, ...]) -> Array:
    """Undo `split_cols`: (G, M, T*C/G) -> ``shape``, (N, OH, OW, T, C)."""
    groups, (T, C) = cols.shape[0], shape[3:]
    return cols.reshape(groups, -1, T, C // groups).transpose(1, 2, 0, 3).reshape(shape)


def split_filters(w: Array, groups: int) -> Array:
    """Cut the filters: (KH, KW, C/G, O) -> (G, T*C/G, O/G)."""
    O = w.shape[3]
    return w.reshape(-1, groups, O // groups).transpose(1, 0, 2)


def column_sizes(
    x: Array, size: Pair, margins: Any, stride: Pair, dilation: Pair
) -> tuple[int, int, int, int]:
    """Return N, OH, OW and the bytes that the columns of one picture take."""
    N, H, W, C = x.shape
    (KH, KW), (SH, SW), (DH, DW) = pair(size), pair(stride, "stride"), pair(dilation, "dilation")
    OH = out_size(H + sum(margins[0]), KH, SH, DH)
    OW = out_size(W + sum(margins[1]), KW, SW, DW)
    if OH < 1 or OW < 1:
        raise ValueError(
            f"a {KH}x{KW} kernel (dilation {DH}x{DW}) doesn't fit into a padded picture of "
            f"{H + sum(margins[0])}x{W + sum(margins[1])}: pad more, or pool less before"
        )
    return N, OH, OW, OH * OW * KH * KW * C * x.dtype.itemsize


def check_conv(x: Array, w: Array, b: Array | None, groups: int) -> None:
    """Raise ValueError unless x, w and b fit together, TypeError unless x is of floats."""
    check_float(x, "conv2d")
    if x.ndim != 4 or w.ndim != 4:
        raise ValueError(
            f"conv2d: expected x (N, H, W, C) and w (KH, KW, C/G, O), got {x.shape} and {w.shape}"
        )
    if groups < 1 or x.shape[3] != w.shape[2] * groups or w.shape[3] % groups:
        raise ValueError(
            f"conv2d: x {x.shape} has {x.shape[3]} channels, but w {w.shape} with {groups} "
            f"group(s) reads {w.shape[2] * groups} and writes {w.shape[3]}, a multiple of the "
            "groups; are the pictures channels first?"
        )
    if b is not None and b.shape != w.shape[3:]:
        raise ValueError(f"conv2d: expected b {w.shape[3:]}, got {b.shape}")
