"""What bodies for CuPy's arrays share: which arrays they take, and what they keep.

A body takes floats of 16, 32 or 64 bits; all else goes to the book's.  What lies scattered in
memory is copied first.  Dropout has no body: the book's draws from the generator that it is given,
and the kernel (`dropout`) by counting, for plans.
"""

from __future__ import annotations

from typing import Any

from ...backend import Array
from .writer import Now


class Kept(tuple):
    """The cache of a body that keeps something else than the book does."""

    __slots__ = ()


def writer_of(x: Array) -> Now | None:
    """Return a writer for arrays such as x, or None if the kernels don't know them."""
    return Now(x.dtype.name) if x.dtype.char in "efd" and x.size else None


def whole(x: Array, dtype: Any = None) -> Array:
    """Return x without gaps, in a dtype; x itself where it is so already."""
    x = x if dtype is None else x.astype(dtype, copy=False)
    return x if x.flags.c_contiguous else x.copy()


def alike(x: Array, *others: Array) -> bool:
    """Whether all are of one dtype."""
    return all(other.dtype == x.dtype for other in others)


def of_book(function: Any) -> Any:
    """Return the readable body of a function."""
    return function.dispatch(object)
