"""Activations of CuPy's arrays, by kernels."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ...backend import Array
from ...functional import activation as book
from . import activation as kernels
from .bodies import Kept, alike, of_book, whole, writer_of
from .registry import body

Write = Callable[..., None]


def by_output(forward: Any, backward: Any, write: Write, write_back: Write) -> None:
    """Register a pair whose cache is y, as in the book."""

    @body(forward)
    def own_forward(x: Array) -> tuple[Array, Any]:
        """See the book."""
        s = writer_of(x)
        if s is None or x.ndim == 0:
            return of_book(forward)(x)
        y = s.new(x.shape)
        write(s, whole(x), y)
        return y, y

    @body(backward)
    def own_backward(dy: Array, cache: Any) -> Array:
        """See the book."""
        s = writer_of(dy)
        if s is None or dy.ndim == 0 or dy.shape != cache.shape or not alike(dy, cache):
            return of_book(backward)(dy, cache)
        dx = s.new(dy.shape)
        write_back(s, whole(dy), whole(cache), dx)
        return dx


def by_input(forward: Any, backward: Any, write: Write, write_back: Write) -> None:
    """Register a pair that keeps x alone, and computes the rest again."""

    @body(forward)
    def own_forward(x: Array) -> tuple[Array, Any]:
        """See the book."""
        s = writer_of(x)
        if s is None:
            return of_book(forward)(x)
        x, y = whole(x), s.new(x.shape)
        write(s, x, y)
        return y, Kept((x,))

    @body(backward)
    def own_backward(dy: Array, cache: Any) -> Array:
        """See the book."""
        if not isinstance(cache, Kept):
            return of_book(backward)(dy, cache)
        (x,) = cache
        s = writer_of(dy)
        if s is None or dy.shape != x.shape or not alike(dy, x):
            return of_book(backward)(dy, of_book(forward)(x)[1])
        dx = s.new(dy.shape)
        write_back(s, whole(dy), x, dx)
        return dx


for name in ("relu", "sigmoid", "tanh", "softmax"):
    ends = [f"{name}_{way}" for way in ("forward", "backward")]
    by_output(*(getattr(part, end) for part in (book, kernels) for end in ends))
for name in ("silu", "gelu"):
    ends = [f"{name}_{way}" for way in ("forward", "backward")]
    by_input(*(getattr(part, end) for part in (book, kernels) for end in ends))


@body(book.leaky_relu_forward)
def leaky_relu_forward(x: Array, slope: float = 0.3) -> tuple[Array, Any]:
    """See the book."""
    s = writer_of(x)
    if s is None:
        return of_book(book.leaky_relu_forward)(x, slope)
    x, y = whole(x), s.new(x.shape)
    kernels.leaky_relu_forward(s, x, y, float(slope))
    return y, (x, float(slope))


@body(book.leaky_relu_backward)
def leaky_relu_backward(dy: Array, cache: Any) -> Array:
    """See the book."""
    x, slope = cache
    s = writer_of(dy)
    if s is None or dy.shape != x.shape or not alike(dy, x):
        return of_book(book.leaky_relu_backward)(dy, cache)
    dx = s.new(dy.shape)
    kernels.leaky_relu_backward(s, whole(dy), whole(x), dx, slope)
    return dx
