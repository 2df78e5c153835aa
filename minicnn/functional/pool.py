"""Pooling: the maximum or the mean of each window, channel by channel."""

from __future__ import annotations

from functools import singledispatch
from math import inf
from typing import Any

from ..backend import Array, Shape, array_module, check_float
from .windows import Margins, Padding, Pair, crop, pad, pair, resolve_padding, shifted_views


@singledispatch
def maxpool2d_forward(
    x: Array, size: Pair, stride: Pair | None = None, padding: Padding = "valid"
) -> tuple[Array, Any]:
    """Keep the largest input under each window.

        y = max_k x_k            x_k: the k-th shifted view of x (see windows.py)

    The margin is minus infinity, so that it never wins, not even over negative inputs.

    x: (N, H, W, C).  stride: that of ``size`` if None.  Returns y: (N, OH, OW, C) and a cache
    whose ``winner`` (uint8, shape of y) is the tap k of each maximum; ties go to the lowest k.
    Raises ValueError for more than 256 taps and for margins as wide as the window.
    """
    xp = array_module(x)
    check_taps(size)
    stride = size if stride is None else stride
    margins = pool_margins(x.shape, size, stride, padding)
    first, *others = shifted_views(pad(x, margins, -inf), size, stride)
    y, winner = first.copy(), xp.zeros(first.shape, dtype="uint8")
    for k, view in enumerate(others, start=1):
        winner[view > y] = k
        xp.maximum(y, view, out=y)
    return y, (winner, x.shape, size, stride, margins)


@singledispatch
def maxpool2d_backward(dy: Array, cache: Any) -> Array:
    """Send each output gradient to the input that won it.

        dL/dx_k = dy * [winner = k]

    An input under several windows collects all its terms, hence ``+=``.
    dy: (N, OH, OW, C).  Returns dx: (N, H, W, C) in the dtype of ``dy``.
    """
    winner, x_shape, size, stride, margins = cache
    dx = padded_zeros(dy, x_shape, margins)
    for k, view in enumerate(shifted_views(dx, size, stride)):
        view += dy * (winner == k)
    return crop(dx, margins)


@singledispatch
def averagepool2d_forward(
    x: Array,
    size: Pair,
    stride: Pair | None = None,
    padding: Padding = "valid",
    count_padding: bool = False,
) -> tuple[Array, Any]:
    """Take the mean of each window.

        y = sum_k x_k / count    x_k: the k-th shifted view of x (see windows.py)

    ``count`` is the number of pixels of the window that lie inside the picture, as in Keras; with
    ``count_padding`` it is the whole window, as in PyTorch.

    x: (N, H, W, C).  stride: that of ``size`` if None.  Returns y: (N, OH, OW, C).
    """
    check_float(x, "average pooling")
    xp = array_module(x)
    stride = size if stride is None else stride
    margins = pool_margins(x.shape, size, stride, padding)
    inside = xp.ones((1, *x.shape[1:3], 1), dtype=x.dtype)
    ones = pad(inside, margins, 1.0 if count_padding else 0.0)
    scale = 1.0 / sum(shifted_views(ones, size, stride))  # (1, OH, OW, 1)
    y = sum(shifted_views(pad(x, margins), size, stride)) * scale
    return y, (scale, x.shape, size, stride, margins)


@singledispatch
def averagepool2d_backward(dy: Array, cache: Any) -> Array:
    """Give every input of a window the same share.

        dL/dx_k = dy / count

    dy: (N, OH, OW, C).  Returns dx: (N, H, W, C) in the dtype of ``dy``.
    """
    scale, x_shape, size, stride, margins = cache
    dx, share = padded_zeros(dy, x_shape, margins), dy * scale
    for view in shifted_views(dx, size, stride):
        view += share
    return crop(dx, margins)


@singledispatch
def globalaveragepool2d_forward(x: Array) -> tuple[Array, Any]:
    """Take the mean of each channel over the whole picture (Lin et al. 2014, section 3.2).

        y[n,c] = sum_hw x[n,h,w,c] / (H*W)

    x: (N, H, W, C).  Returns y: (N, C).
    """
    check_float(x, "global average pooling")
    return x.mean(axis=(1, 2)), x.shape


@singledispatch
def globalaveragepool2d_backward(dy: Array, cache: Any) -> Array:
    """Give every pixel the same share: dL/dx[n,h,w,c] = dy[n,c] / (H*W).

    dy: (N, C).  Returns dx: (N, H, W, C).
    """
    N, H, W, C = cache
    share = (dy / (H * W))[:, None, None, :]
    return array_module(dy).broadcast_to(share, (N, H, W, C)).copy()


def check_taps(size: Pair) -> None:
    """Raise ValueError if ``winner``, uint8, can't number the taps of a window."""
    KH, KW = pair(size)
    if KH * KW > 256:
        raise ValueError(f"max-pooling: {KH}x{KW} is {KH * KW} taps, at most 256 are possible")


def pool_margins(x_shape: Shape, size: Pair, stride: Pair, padding: Padding) -> Margins:
    """Return the margins in pixels, or raise ValueError if a window could lie in them alone."""
    if len(x_shape) != 4:
        raise ValueError(f"pooling: expected x (N, H, W, C), got {x_shape}")
    KH, KW = pair(size)
    margins = resolve_padding(padding, (x_shape[1], x_shape[2]), size, stride)
    if max(margins[0]) >= KH or max(margins[1]) >= KW:
        raise ValueError(
            f"pooling: padding {padding!r} makes margins {margins}, which hide a whole window of "
            f"{KH}x{KW}: make it smaller"
        )
    return margins


def padded_zeros(dy: Array, x_shape: Shape, margins: Margins) -> Array:
    """Return zeros in the shape of the padded x, in the dtype and library of dy."""
    N, H, W, C = x_shape
    shape = (N, H + sum(margins[0]), W + sum(margins[1]), C)
    return array_module(dy).zeros(shape, dtype=dy.dtype)
