"""Bodies for CuPy's arrays behind the book's convolution and dense layer.

What they don't take (no pictures, more than 32 bits can count, mixed types) is done by the book.
"""

from __future__ import annotations

from typing import Any

from ...backend import Array
from ...functional import conv as book_conv
from ...functional import dense as book_dense
from ...functional.conv import check_conv, column_sizes
from ...functional.windows import Padding, Pair, resolve_padding
from ..geometry import Geometry
from . import conv, dense
from .im2col import fits
from .module import KINDS
from .registry import body
from .writer import Now

DTYPES = [kind for kind in KINDS if kind != "bfloat16"]  # of which NumPy has no dtype


@body(book_conv.conv2d_forward)
def conv2d_forward(
    x: Array,
    w: Array,
    b: Array | None = None,
    stride: Pair = 1,
    padding: Padding = "valid",
    dilation: Pair = 1,
    groups: int = 1,
) -> tuple[Array, Any]:
    """See the book."""
    check_conv(x, w, b, groups)
    margins = resolve_padding(padding, x.shape[1:3], w.shape[:2], stride, dilation)
    N, OH, OW, _ = column_sizes(x, w.shape[:2], margins, stride, dilation)
    g = Geometry.of(x.shape, w.shape, stride, margins, dilation, groups)
    if not suits(g, x, w, b):
        whole = book_conv.conv2d_forward.dispatch(object)
        return whole(x, w, b, stride, padding, dilation, groups)
    s = Now(x.dtype.name)
    y = s.new((N, OH, OW, g.O))
    conv.conv_forward(s, rows(x), rows(w), as_sums(s, b), y, g)
    return y, (x, w, b is not None, stride, margins, dilation, groups)


@body(book_conv.conv2d_backward)
def conv2d_backward(
    dy: Array, cache: Any, need_dx: bool = True
) -> tuple[Array | None, Array, Array | None]:
    """See the book."""
    x, w, has_bias, stride, margins, dilation, groups = cache
    g = Geometry.of(x.shape, w.shape, stride, margins, dilation, groups)
    if not suits(g, x, w, dy):
        return book_conv.conv2d_backward.dispatch(object)(dy, cache, need_dx)
    s = Now(x.dtype.name)
    x, w, dy = rows(x), rows(w), rows(dy)
    dx = s.new(x.shape) if need_dx else None
    dw = s.new(w.shape, s.acc_dtype)
    db = s.new((g.O,), s.acc_dtype) if has_bias else None
    if dx is not None:
        conv.conv_backward_x(s, dy, w, dx, g)
    conv.conv_backward_w(s, x, dy, dw, g, db)
    return dx, stored(s, dw), stored(s, db)


@body(book_dense.dense_forward)
def dense_forward(x: Array, w: Array, b: Array | None = None) -> tuple[Array, Any]:
    """See the book."""
    if not (x.ndim == w.ndim == 2 and x.shape[1] == len(w)) or not (
        suits(dense.geometry(*w.shape), x, w, b) and (b is None or b.shape == w.shape[1:])
    ):
        return book_dense.dense_forward.dispatch(object)(x, w, b)
    s = Now(x.dtype.name)
    y = s.new((len(x), w.shape[1]))
    dense.dense_forward(s, rows(x), rows(w), as_sums(s, b), y)
    return y, (x, w, b is not None)


@body(book_dense.dense_backward)
def dense_backward(
    dy: Array, cache: Any, need_dx: bool = True
) -> tuple[Array | None, Array, Array | None]:
    """See the book."""
    x, w, has_bias = cache
    if not suits(dense.geometry(*w.shape), x, w, dy):
        return book_dense.dense_backward.dispatch(object)(dy, cache, need_dx)
    s = Now(x.dtype.name)
    x, w, dy = rows(x), rows(w), rows(dy)
    dx = s.new(x.shape) if need_dx else None
    dw = s.new(w.shape, s.acc_dtype)
    db = s.new(w.shape[1:], s.acc_dtype) if has_bias else None
    if dx is not None:
        dense.dense_backward_x(s, dy, w, dx)
    dense.dense_backward_w(s, x, dy, dw, db)
    return dx, stored(s, dw), stored(s, db)


def suits(g: Geometry, x: Array, *others: Array | None) -> bool:
    """Whether a convolution is one for this file."""
    arrays = [x, *(array for array in others if array is not None)]
    return (
        all(type(array) is type(x) and array.dtype == x.dtype and array.size for array in arrays)
        and x.dtype.name in DTYPES
        and fits(len(x), g)
    )


def rows(x: Array) -> Array:
    """Return x, or a copy of it that lies in memory row by row."""
    return x if x.flags.c_contiguous else x.copy()


def as_sums(s: Now, b: Array | None) -> Array | None:
    """Return a bias in the type of sums."""
    return None if b is None else rows(b).astype(s.acc_dtype, copy=False)


def stored(s: Now, total: Array | None) -> Array | None:
    """Return a sum in the storage type, which is what came in."""
    return None if total is None else total.astype(s.dtype, copy=False)
