"""Normalization of CuPy's arrays, by kernels."""

from __future__ import annotations

from typing import Any

from ...backend import Array
from ...functional import norm as book
from . import norm as kernels
from .bodies import Kept, alike, of_book, whole, writer_of
from .registry import body
from .writer import Now


def writer_for(x: Array, *lines: Array) -> Now | None:
    """Return a writer if x is (..., C) and all lines are (C,), of one dtype that kernels know."""
    fit = x.ndim > 1 and all(line.shape == x.shape[-1:] for line in lines)
    return writer_of(x) if fit and alike(x, *lines) else None


def line(s: Now, values: Array) -> Array:
    """Return a line (C,) in the type of sums."""
    return whole(values, s.acc_dtype)


@body(book.normalize_forward)
def normalize_forward(x: Array, mean: Array, std: Array, scale: float) -> tuple[Array, Any]:
    """See the book."""
    s = writer_of(mean)
    fit = x.ndim > 1 and mean.shape == std.shape == x.shape[-1:] and alike(mean, std)
    if s is None or not fit or not x.size or x.dtype not in ("uint8", mean.dtype):
        return of_book(book.normalize_forward)(x, mean, std, scale)
    y = s.new(x.shape)
    kernels.normalize_forward(s, whole(x), line(s, mean), line(s, std), float(scale), y)
    return y, Kept((std, float(scale)))


@body(book.normalize_backward)
def normalize_backward(dy: Array, cache: Any) -> Array:
    """See the book."""
    if not isinstance(cache, Kept):
        return of_book(book.normalize_backward)(dy, cache)
    std, scale = cache
    s = writer_for(dy, std)
    if s is None:
        return of_book(book.normalize_backward)(dy, scale / std)
    dx = s.new(dy.shape)
    kernels.normalize_backward(s, whole(dy), line(s, std), scale, dx)
    return dx


@body(book.batchnorm_forward)
def batchnorm_forward(x: Array, gamma: Array, beta: Array, eps: float = 1e-5) -> tuple[Array, Any]:
    """See the book."""
    s = writer_for(x, gamma, beta)
    if s is None or x.size < 2 * gamma.size:
        return of_book(book.batchnorm_forward)(x, gamma, beta, eps)
    x, y = whole(x), s.new(x.shape)
    mean, var, inverse = (s.new(gamma.shape, s.acc_dtype) for _ in range(3))
    kernels.batchnorm_forward(
        s, x, line(s, gamma), line(s, beta), float(eps), y, mean, var, inverse
    )
    follow = (line.astype(x.dtype, copy=False) for line in (mean, var))
    return y, Kept((*follow, x, gamma, mean, inverse, float(eps)))


@body(book.batchnorm_backward)
def batchnorm_backward(dy: Array, cache: Any) -> tuple[Array, Array, Array]:
    """See the book."""
    if not isinstance(cache, Kept):
        return of_book(book.batchnorm_backward)(dy, cache)
    _, _, x, gamma, mean, inverse, eps = cache
    if dy.shape != x.shape or not alike(dy, x):
        again = of_book(book.batchnorm_forward)(x, gamma, gamma, eps)  # beta isn't kept
        return of_book(book.batchnorm_backward)(dy, again[1])
    return go_back(dy, x, gamma, mean, inverse, fixed=False)


@body(book.batchnorm_inference_forward)
def batchnorm_inference_forward(
    x: Array, gamma: Array, beta: Array, mean: Array, var: Array, eps: float = 1e-5
) -> tuple[Array, Any]:
    """See the book."""
    s = writer_for(x, gamma, beta, mean, var)
    if s is None:
        return of_book(book.batchnorm_inference_forward)(x, gamma, beta, mean, var, eps)
    x, y = whole(x), s.new(x.shape)
    inverse = s.new(gamma.shape, s.acc_dtype)
    scale, shift = line(s, gamma), line(s, beta)
    middle, spread = line(s, mean), line(s, var)
    kernels.batchnorm_inference_forward(
        s, x, scale, shift, middle, spread, float(eps), y, inverse=inverse
    )
    return y, Kept((x, gamma, mean, inverse))


@body(book.batchnorm_inference_backward)
def batchnorm_inference_backward(dy: Array, cache: Any) -> tuple[Array, Array, Array]:
    """See the book."""
    x, gamma, mean, inverse = cache
    if not isinstance(cache, Kept) or dy.shape != x.shape or not alike(dy, x):
        return of_book(book.batchnorm_inference_backward)(dy, cache)  # it keeps the same
    return go_back(dy, x, gamma, mean, inverse, fixed=True)


def go_back(
    dy: Array, x: Array, gamma: Array, mean: Array, inverse: Array, fixed: bool
) -> tuple[Array, Array, Array]:
    """Return dx, dgamma and dbeta in the dtype of x."""
    s = Now(x.dtype.name)
    dx, dgamma, dbeta = s.new(x.shape), *(s.new(gamma.shape, s.acc_dtype) for _ in range(2))
    kernels.batchnorm_backward(
        s,
        whole(dy),
        x,
        None,
        line(s, gamma),
        line(s, mean),
        inverse,
        dx,
        dgamma,
        dbeta,
        fixed=fixed,
    )
    return dx, dgamma.astype(x.dtype, copy=False), dbeta.astype(x.dtype, copy=False)
