"""Windows: what convolution and pooling share.

A window of KH x KW taps slides over a picture.  Seen the other way round, the inputs under tap
(i, j) of all windows at once are one strided view of the picture, shifted by (i, j).  A window is
KH*KW such views, and everything here is a loop over them: few, long operations on both array
libraries, for any stride and dilation, overlapping windows included.
"""

from __future__ import annotations

from collections.abc import Iterator
from math import ceil
from typing import TypeAlias

from ..backend import Array, array_module
from ..options import is_whole

Pair: TypeAlias = int | tuple[int, int]
Margins: TypeAlias = tuple[tuple[int, int], tuple[int, int]]  # (top, bottom), (left, right)
Padding: TypeAlias = str | int | tuple[int, int] | Margins

COLUMN_BYTES = 2 << 20
"""Columns are made in parts of about this size: memory stays bounded, and a part stays in cache."""


def pair(value: Pair, what: str = "size") -> tuple[int, int]:
    """Return (vertical, horizontal) of one integer or two, each >= 1."""
    two = tuple(value) if isinstance(value, tuple | list) else (value, value)
    if len(two) != 2 or not all(is_whole(v) and v >= 1 for v in two):
        raise ValueError(f"{what} {value!r}: expected an integer >= 1 or a pair of them")
    return int(two[0]), int(two[1])


def out_size(size: int, taps: int, stride: int = 1, dilation: int = 1) -> int:
    """Count the places of a window of ``taps`` along ``size`` pixels (padding counted in)."""
    return (size - (taps - 1) * dilation - 1) // stride + 1


def resolve_padding(
    padding: Padding, hw: tuple[int, int], size: Pair, stride: Pair = 1, dilation: Pair = 1
) -> Margins:
    """Turn a padding into pixels: ((top, bottom), (left, right)).

    padding: "valid" (none); "same" (Keras' rule: ceil(size / stride) outputs, the odd pixel at
    the bottom right); an integer for all four sides; (vertical, horizontal); or the four margins
    themselves.  hw: height and width of the picture.  Raises ValueError for anything else.
    """
    if padding == "valid":
        return (0, 0), (0, 0)
    if padding == "same":
        sides = []
        for n, k, s, d in zip(
            hw, pair(size), pair(stride, "stride"), pair(dilation, "dilation"), strict=True
        ):
            total = max((ceil(n / s) - 1) * s + (k - 1) * d + 1 - n, 0)
            sides.append((total // 2, total - total // 2))
        return sides[0], sides[1]
    two = tuple(padding) if isinstance(padding, tuple | list) else (padding, padding)
    margins = [tuple(p) if isinstance(p, tuple | list) else (p, p) for p in two]
    pixels = [p for margin in margins for p in margin]
    if [len(margin) for margin in margins] == [2, 2] and all(is_whole(p) for p in pixels):
        (top, bottom), (left, right) = margins
        if min(pixels) >= 0:
            return (top, bottom), (left, right)
    raise ValueError(
        f"padding {padding!r}: expected 'valid', 'same', an integer >= 0, (vertical, horizontal) "
        "or ((top, bottom), (left, right))"
    )


def pad(x: Array, margins: Margins, value: float = 0.0) -> Array:
    """Return x with margins of ``value`` around it; x itself where there are none.

    x: (N, H, W, C).  Returns (N, top+H+bottom, left+W+right, C).
    """
    (top, bottom), (left, right) = margins
    if not (top or bottom or left or right):
        return x
    N, H, W, C = x.shape
    shape = (N, top + H + bottom, left + W + right, C)
    padded = array_module(x).full(shape, value, dtype=x.dtype)
    crop(padded, margins)[...] = x
    return padded


def crop(padded: Array, margins: Margins) -> Array:
    """Return the view of ``padded`` inside its margins: the inverse of `pad`."""
    (top, bottom), (left, right) = margins
    return padded[:, top : padded.shape[1] - bottom, left : padded.shape[2] - right]


def shifted_views(x: Array, size: Pair, stride: Pair = 1, dilation: Pair = 1) -> Iterator[Array]:
    """Yield, tap by tap, the inputs under that tap in all windows: KH*KW views of x.

        view k = i*KW + j:   view[n, oh, ow, c] = x[n, oh*SH + i*DH, ow*SW + j*DW, c]

    x: (N, H, W, C), padded already.  Each view: (N, OH, OW, C), not a copy.
    """
    (KH, KW), (SH, SW), (DH, DW) = pair(size), pair(stride, "stride"), pair(dilation, "dilation")
    OH, OW = out_size(x.shape[1], KH, SH, DH), out_size(x.shape[2], KW, SW, DW)
    if OH < 1 or OW < 1:
        raise ValueError(
            f"a window of {KH}x{KW} taps (dilation {DH}x{DW}) doesn't fit into a picture of "
            f"{x.shape[1]}x{x.shape[2]}: pad it, or use fewer or smaller windows before"
        )
    for i in range(KH):
        for j in range(KW):
            rows = slice(i * DH, i * DH + (OH - 1) * SH + 1, SH)
            columns = slice(j * DW, j * DW + (OW - 1) * SW + 1, SW)
            yield x[:, rows, columns]


def im2col(x: Array, size: Pair, stride: Pair = 1, dilation: Pair = 1) -> Array:
    """Write out every window of x.

    x: (N, H, W, C).  Returns cols: (N, OH, OW, T, C), T = KH*KW taps.
    """
    views = list(shifted_views(x, size, stride, dilation))
    N, OH, OW, C = views[0].shape
    cols = array_module(x).empty((N, OH, OW, len(views), C), dtype=x.dtype)
    for k, view in enumerate(views):
        cols[:, :, :, k] = view
    return cols


def col2im(cols: Array, x: Array, size: Pair, stride: Pair = 1, dilation: Pair = 1) -> None:
    """Add every window back to where it was read: the adjoint of `im2col`.

    cols: (N, OH, OW, T, C).  x: (N, H, W, C), added to in place; a pixel under several windows
    collects them all.
    """
    for k, view in enumerate(shifted_views(x, size, stride, dilation)):
        view += cols[:, :, :, k]


def parts(N: int, bytes_each: int, limit: int = 0) -> Iterator[slice]:
    """Cut N pictures into slices of about ``limit`` bytes (`COLUMN_BYTES`), one at least."""
    step = max(1, (limit or COLUMN_BYTES) // max(1, bytes_each))
    for start in range(0, N, step):
        yield slice(start, min(start + step, N))


def channel_sum(x: Array) -> Array:
    """Add up everything but the channels, picture by picture and then over the pictures.

    Two short sums lose fewer digits in float32 than one long one.
    x: (..., C).  Returns (C,), in the dtype of x.
    """
    return x.reshape(x.shape[0], -1, x.shape[-1]).sum(axis=1).sum(axis=0)
