"""Dropout of CuPy's arrays, by a kernel that counts: the numbers of a plan's dropout.

The numbers are others than the CPU's, whose generator can't be asked for its millionth number.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from ...backend import Array
from ...functional import dropout as book
from ...streams import Draw
from . import dropout as kernels
from .bodies import Kept, of_book, whole, writer_of
from .registry import body
from .writer import Now


@body(book.dropout_forward)
def dropout_forward(x: Array, rate: float, rng: Any) -> tuple[Array, Any]:
    """See the book; rng: what `Stream.next` gives, or a generator of CuPy's for the book."""
    s = writer_of(x)
    if s is None or not isinstance(rng, Draw):
        return of_book(book.dropout_forward)(x, rate, rng)
    numbers = rate, *kernels.key(rng.seed, rng.number), place(s, rng.position)
    y = s.new(x.shape)
    kernels.dropout_forward(s, whole(x), *numbers, y)
    return y, Kept(numbers)


@body(book.dropout_backward)
def dropout_backward(dy: Array, cache: Any) -> Array:
    """See the book; the mask is made again."""
    s = writer_of(dy)
    if s is None or not isinstance(cache, Kept):
        return of_book(book.dropout_backward)(dy, cache)
    rate, seed, number, counter = cache
    dx = s.new(dy.shape)
    kernels.dropout_backward(s, whole(dy), rate, seed, number, counter, dx)
    return dx


def place(s: Now, position: int) -> Array:
    """Return a position in a stream on the device, without waiting for it."""
    counter = s.new((1,), np.int64)
    counter.fill(position)
    return counter
