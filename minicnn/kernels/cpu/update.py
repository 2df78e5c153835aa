"""The update rules of the book in blocks that stay in the cache, and in threads.

An update is a dozen passes over vectors.  Over the whole of them, one after the other, each pass
reads from main memory what the one before has written there.  Here all passes are made over one
block, then all over the next: a number comes from main memory once, and the temporaries are one
block, not a vector each.

The threads take a part each.  All is element by element, so the results don't depend on their
number, nor on the blocks.  The arrays may be the same, but not overlap otherwise.

Weight decay isn't here: it is one pass without temporaries, and can't be better than in the book.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from itertools import pairwise
from math import sqrt
from typing import Any

import numpy as np

from ...functional import update as book
from ...parallel import run, thread_count

BLOCK_BYTES = 256 << 10
"""Of each array in a block: five such fit the second-level cache of a core.

In threads blocks are twice as large.  After each pass Python's lock (the GIL) must be had again,
and threads that ask for it often wait for each other often: in blocks of a quarter, two threads are
slower than one.
"""

PASSES = 16
"""So many passes over such a block, each 10 us, are worth the waking of a thread, 40 to 60 us."""


@book.sgd_update.register(np.ndarray)
def sgd_update(w: np.ndarray, dw: np.ndarray, lr: float) -> None:
    """See the book; 2 passes."""
    if not plain(w, dw):
        return book.sgd_update.dispatch(object)(w, dw, lr)
    lr = float(lr)

    def step(w: np.ndarray, dw: np.ndarray, temp: np.ndarray) -> None:
        np.multiply(dw, lr, out=temp)
        w -= temp

    in_blocks(step, 2, w, dw)


@book.momentum_update.register(np.ndarray)
def momentum_update(
    w: np.ndarray,
    dw: np.ndarray,
    v: np.ndarray,
    lr: float,
    momentum: float,
    nesterov: bool = False,
) -> None:
    """See the book; 4 passes, 6 with Nesterov's look ahead."""
    if not plain(w, dw, v):
        return book.momentum_update.dispatch(object)(w, dw, v, lr, momentum, nesterov)
    lr, momentum = float(lr), float(momentum)

    def step(w: np.ndarray, dw: np.ndarray, v: np.ndarray, temp: np.ndarray) -> None:
        v *= momentum
        v += dw
        if nesterov:
            np.multiply(v, momentum, out=temp)
            temp += dw
            temp *= lr
        else:
            np.multiply(v, lr, out=temp)
        w -= temp

    in_blocks(step, 6 if nesterov else 4, w, dw, v)


@book.rmsprop_update.register(np.ndarray)
def rmsprop_update(
    w: np.ndarray, dw: np.ndarray, v: np.ndarray, lr: float, rho: float, eps: float
) -> None:
    """See the book; 9 passes."""
    if not plain(w, dw, v):
        return book.rmsprop_update.dispatch(object)(w, dw, v, lr, rho, eps)
    lr, rho, eps = float(lr), float(rho), float(eps)

    def step(w: np.ndarray, dw: np.ndarray, v: np.ndarray, temp: np.ndarray) -> None:
        np.square(dw, out=temp)
        temp *= 1 - rho
        v *= rho
        v += temp
        np.sqrt(v, out=temp)
        temp += eps
        np.divide(dw, temp, out=temp)
        temp *= lr
        w -= temp

    in_blocks(step, 9, w, dw, v)


@book.adam_update.register(np.ndarray)
def adam_update(
    w: np.ndarray,
    dw: np.ndarray,
    m: np.ndarray,
    v: np.ndarray,
    t: int,
    lr: float,
    beta1: float,
    beta2: float,
    eps: float,
) -> None:
    """See the book; 12 passes, as the corrections of m and v are made in the scalars.

    With c = sqrt(1 - beta2^t), the correction of sqrt(v) is a division by c, and

        lr (m / (1 - beta1^t)) / (sqrt(v) / c + eps) = (lr c / (1 - beta1^t)) m / (sqrt(v) + eps c)
    """
    if not plain(w, dw, m, v):
        return book.adam_update.dispatch(object)(w, dw, m, v, t, lr, beta1, beta2, eps)
    t, lr, beta1, beta2, eps = int(t), float(lr), float(beta1), float(beta2), float(eps)
    c = sqrt(1 - beta2**t)
    scale, shift = lr * c / (1 - beta1**t), eps * c

    def step(w: np.ndarray, dw: np.ndarray, m: np.ndarray, v: np.ndarray, temp: np.ndarray) -> None:
        np.multiply(dw, 1 - beta1, out=temp)
        m *= beta1
        m += temp
        np.square(dw, out=temp)
        temp *= 1 - beta2
        v *= beta2
        v += temp
        np.sqrt(v, out=temp)
        temp += shift
        np.divide(m, temp, out=temp)
        temp *= scale
        w -= temp

    in_blocks(step, 12, w, dw, m, v)


@book.average_update.register(np.ndarray)
def average_update(average: np.ndarray, w: np.ndarray, decay: float) -> None:
    """See the book; 3 passes."""
    if not plain(average, w):
        return book.average_update.dispatch(object)(average, w, decay)
    rest = 1 - float(decay)

    def step(average: np.ndarray, w: np.ndarray, temp: np.ndarray) -> None:
        np.subtract(w, average, out=temp)
        temp *= rest
        average += temp

    in_blocks(step, 3, average, w)


def plain(first: np.ndarray, *others: Any) -> bool:
    """Whether all are vectors of one length and one dtype, float32 or float64."""
    return (
        first.ndim == 1
        and first.dtype.char in "fd"
        and all(a.shape == first.shape and a.dtype == first.dtype for a in others)
    )


def in_blocks(step: Callable[..., None], passes: int, *vectors: np.ndarray) -> None:
    """Call ``step(*blocks, temp)`` for every block of the vectors, in threads where it pays.

    passes: how many ``step`` makes over its blocks.
    """
    size, itemsize = vectors[0].size, vectors[0].itemsize
    block = BLOCK_BYTES // itemsize
    worth = size * passes // (block * PASSES)
    parts = min(thread_count(), worth) if worth > 1 else 1
    if parts == 1:
        one_part(step, block, *vectors)
        return
    line = 64 // itemsize  # parts begin where a cache line does, if the vectors do
    bounds = [size * k // parts // line * line for k in range(parts)] + [size]
    slices = [[vector[a:b] for vector in vectors] for a, b in pairwise(bounds)]
    run([partial(one_part, step, 2 * block, *part) for part in slices])


def one_part(step: Callable[..., None], block: int, *vectors: np.ndarray) -> None:
    """Call ``step(*blocks, temp)`` for one block after the other."""
    size = vectors[0].size
    temp = np.empty(min(size, block), vectors[0].dtype)
    if size <= block:
        step(*vectors, temp)
        return
    for start in range(0, size, block):
        blocks = [vector[start : start + block] for vector in vectors]
        step(*blocks, temp[: blocks[0].size])
