"""Losses of CuPy's arrays, by kernels."""

from __future__ import annotations

from typing import Any

import numpy as np

from ...backend import Array
from ...functional import loss as book
from . import loss as kernels
from .bodies import Kept, alike, of_book, whole, writer_of
from .registry import body
from .writer import Now


@body(book.softmax_cross_entropy_forward)
def softmax_cross_entropy_forward(
    logits: Array,
    labels: Array,
    label_smoothing: float = 0.0,
    class_weight: Array | None = None,
) -> tuple[Array, Any]:
    """See the book."""
    s = writer_of(logits)
    is_ids = labels.ndim == 1
    fit = logits.ndim == 2 and labels.shape == (logits.shape[:1] if is_ids else logits.shape)
    known = labels.dtype.kind in ("iu" if is_ids else "iuf")
    weighs = class_weight is None or class_weight.shape == logits.shape[1:]
    if s is None or not (fit and known and weighs):
        return of_book(book.softmax_cross_entropy_forward)(
            logits, labels, label_smoothing, class_weight
        )
    logits, smoothing = whole(logits), float(label_smoothing)
    labels = whole(labels, np.int64 if is_ids else s.acc_dtype)
    weight = None if class_weight is None else whole(class_weight, s.acc_dtype)
    loss = s.new((), s.acc_dtype)
    kernels.cross_entropy(s, logits, labels, smoothing, weight, loss, None)
    return loss.astype(logits.dtype, copy=False), Kept((logits, labels, smoothing, weight))


@body(book.softmax_cross_entropy_backward)
def softmax_cross_entropy_backward(dloss: Array, cache: Any) -> Array:
    """See the book."""
    if not isinstance(cache, Kept):
        return of_book(book.softmax_cross_entropy_backward)(dloss, cache)
    logits, labels, smoothing, weight = cache
    s = writer_if_one(dloss, logits)
    if s is None:
        again = of_book(book.softmax_cross_entropy_forward)(*cache)
        return of_book(book.softmax_cross_entropy_backward)(dloss, again[1])
    dlogits = s.new(logits.shape)
    upstream = whole(dloss, s.acc_dtype)
    kernels.cross_entropy(s, logits, labels, smoothing, weight, None, dlogits, upstream)
    return dlogits


@body(book.mean_squared_error_forward)
def mean_squared_error_forward(y: Array, target: Array) -> tuple[Array, Any]:
    """See the book."""
    s = writer_of(y)
    if s is None or y.shape != target.shape:
        return of_book(book.mean_squared_error_forward)(y, target)
    y, target = whole(y), whole(target, y.dtype)
    loss = s.new((), s.acc_dtype)
    kernels.mean_squared_error(s, y, target, loss, None)
    return loss.astype(y.dtype, copy=False), Kept((y, target))


@body(book.mean_squared_error_backward)
def mean_squared_error_backward(dloss: Array, cache: Any) -> Array:
    """See the book."""
    if not isinstance(cache, Kept):
        return of_book(book.mean_squared_error_backward)(dloss, cache)
    y, target = cache
    s = writer_if_one(dloss, y)
    if s is None:
        return of_book(book.mean_squared_error_backward)(dloss, y - target)
    dy = s.new(y.shape)
    kernels.mean_squared_error(s, y, target, None, dy, whole(dloss, s.acc_dtype))
    return dy


@body(book.penalty_forward)
def penalty_forward(w: Array, l1: float = 0.0, l2: float = 0.0) -> tuple[Array, Any]:
    """See the book."""
    s = writer_of(w)
    if s is None:
        return of_book(book.penalty_forward)(w, l1, l2)
    loss = s.new((), s.acc_dtype)
    kernels.penalty(s, whole(w), float(l1), float(l2), loss)
    return loss.astype(w.dtype, copy=False), (w, float(l1), float(l2))


@body(book.penalty_backward)
def penalty_backward(dloss: Array, cache: Any) -> Array:
    """See the book."""
    w, l1, l2 = cache
    s = writer_if_one(dloss, w)
    if s is None:
        return of_book(book.penalty_backward)(dloss, cache)
    dw = s.new(w.shape)
    kernels.penalty_backward(s, whole(w), l1, l2, dw, whole(dloss, s.acc_dtype))
    return dw


def writer_if_one(dloss: Array, x: Array) -> Now | None:
    """Return a writer for arrays such as x if dloss is one number of that dtype."""
    return writer_of(x) if dloss.shape == () and alike(dloss, x) else None
