"""Pooling of CuPy's arrays, by kernels."""

from __future__ import annotations

from typing import Any

from ...backend import Array, Shape, array_module
from ...functional import pool as book
from ...functional.windows import Margins, Padding, Pair, pair
from ..geometry import Geometry
from . import pool as kernels
from .bodies import Kept, of_book, whole, writer_of
from .registry import body


def geometry(x_shape: Shape, size: Pair, stride: Pair, margins: Margins) -> Geometry:
    """Return the geometry of a pooling."""
    C = x_shape[3]
    return Geometry.of(x_shape, (*pair(size), C, C), stride, margins)


@body(book.maxpool2d_forward)
def maxpool2d_forward(
    x: Array, size: Pair, stride: Pair | None = None, padding: Padding = "valid"
) -> tuple[Array, Any]:
    """See the book."""
    s = writer_of(x)
    book.check_taps(size)
    stride = size if stride is None else stride
    margins = book.pool_margins(x.shape, size, stride, padding)
    g = geometry(x.shape, size, stride, margins)
    if s is None or min(g.OH, g.OW) < 1:
        return of_book(book.maxpool2d_forward)(x, size, stride, padding)
    y = s.new((len(x), g.OH, g.OW, g.C))
    winner = s.new(y.shape, "uint8")
    kernels.maxpool_forward(s, whole(x), None, y, winner, g)
    return y, (winner, x.shape, size, stride, margins)


@body(book.maxpool2d_backward)
def maxpool2d_backward(dy: Array, cache: Any) -> Array:
    """See the book."""
    winner, x_shape, size, stride, margins = cache
    s = writer_of(dy)
    if s is None or dy.shape != winner.shape:
        return of_book(book.maxpool2d_backward)(dy, cache)
    dx = s.new(x_shape)
    g = geometry(x_shape, size, stride, margins)
    kernels.maxpool_backward(s, whole(dy), whole(winner), None, dx, g)
    return dx


@body(book.averagepool2d_forward)
def averagepool2d_forward(
    x: Array,
    size: Pair,
    stride: Pair | None = None,
    padding: Padding = "valid",
    count_padding: bool = False,
) -> tuple[Array, Any]:
    """See the book."""
    s = writer_of(x)
    if s is None:
        return of_book(book.averagepool2d_forward)(x, size, stride, padding, count_padding)
    stride = size if stride is None else stride
    margins = book.pool_margins(x.shape, size, stride, padding)
    g = geometry(x.shape, size, stride, margins)
    if min(g.OH, g.OW) < 1:
        return of_book(book.averagepool2d_forward)(x, size, stride, padding, count_padding)
    y = s.new((len(x), g.OH, g.OW, g.C))
    kernels.averagepool_forward(s, whole(x), y, g, count_padding)
    return y, Kept((count_padding, x.shape, size, stride, margins))


@body(book.averagepool2d_backward)
def averagepool2d_backward(dy: Array, cache: Any) -> Array:
    """See the book."""
    if not isinstance(cache, Kept):
        return of_book(book.averagepool2d_backward)(dy, cache)
    count_padding, x_shape, size, stride, margins = cache
    g, s = geometry(x_shape, size, stride, margins), writer_of(dy)
    if s is None or dy.shape != (x_shape[0], g.OH, g.OW, g.C):
        x = array_module(dy).zeros(x_shape, dtype="float32")
        again = of_book(book.averagepool2d_forward)(x, size, stride, margins, count_padding)
        return of_book(book.averagepool2d_backward)(dy, again[1])
    dx = s.new(x_shape)
    kernels.averagepool_backward(s, whole(dy), dx, g, count_padding)
    return dx


@body(book.globalaveragepool2d_forward)
def globalaveragepool2d_forward(x: Array) -> tuple[Array, Any]:
    """See the book."""
    s = writer_of(x)
    if s is None or x.ndim != 4:
        return of_book(book.globalaveragepool2d_forward)(x)
    y = s.new((x.shape[0], x.shape[3]))
    kernels.globalaveragepool_forward(s, whole(x), y)
    return y, x.shape


@body(book.globalaveragepool2d_backward)
def globalaveragepool2d_backward(dy: Array, cache: Any) -> Array:
    """See the book."""
    s = writer_of(dy)
    if s is None or dy.shape != (cache[0], cache[3]):
        return of_book(book.globalaveragepool2d_backward)(dy, cache)
    dx = s.new(cache)
    kernels.globalaveragepool_backward(s, whole(dy), dx)
    return dx
