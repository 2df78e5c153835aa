"""The update rules over flat buffers (``update.cu``), one pass over memory for each.

Arrays here, all (P,) where nothing else is said, in the dtype of sums (``s.acc_dtype``):

    w, dw      the parameters and their gradient
    rate       (1,) the learning rate of this step
    clock      (1,) int64, the number of this step, 1 for the first
    copy       the parameters in the storage type, written together with w
    scale      (1,) what the gradient is multiplied by: clipping, and the loss scale taken back
    skip       (1,) int32, not zero if the step is to be left out

copy, scale and skip may be None.  They and the rate are read when the kernel runs, so a captured
graph goes on with others.  factor: what the rate is multiplied by, for a group of parameters.
decay: weight decay that enters the gradient, of the first ``decayed`` elements.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, TypedDict, Unpack

import numpy as np

from ...backend import Array
from ...functional import update as book
from .registry import body
from .writer import Now, Writer

MOST_PARTS = 512
"""So many blocks, at most, that add up squares."""


class Options(TypedDict, total=False):
    """What all rules take besides; see above."""

    copy: Array | None
    scale: Array | None
    skip: Array | None
    factor: float
    decay: float
    decayed: int


def unpacked(options: Options) -> tuple[Any, Any, Any, float, float, int]:
    """Return copy, scale, skip, factor, decay and decayed."""
    get: Any = options.get
    decayed = get("decayed", 0) if get("decay") else 0
    factor, decay = get("factor", 1.0), get("decay") or 0.0
    return get("copy"), get("scale"), get("skip"), factor, decay, decayed


def sgd(s: Writer, w: Array, dw: Array, rate: Array, **options: Unpack[Options]) -> None:
    """Write w <- w - rate dw."""
    copy, scale, skip, *how = unpacked(options)
    s.launch("sgd_step", w.size, w, dw, copy, rate, scale, skip, *how, w.size)


def momentum(
    s: Writer,
    w: Array,
    dw: Array,
    v: Array,
    rate: Array,
    momentum: float,
    nesterov: bool = False,
    **options: Unpack[Options],
) -> None:
    """Write v <- momentum v + dw; w <- w - rate v, or with Nesterov's look ahead."""
    copy, scale, skip, *how = unpacked(options)
    arrays = w, dw, v, copy, rate, scale, skip
    s.launch("momentum_step", w.size, *arrays, *how, momentum, int(nesterov), w.size)


def rmsprop(
    s: Writer,
    w: Array,
    dw: Array,
    v: Array,
    rate: Array,
    rho: float,
    eps: float,
    **options: Unpack[Options],
) -> None:
    """Write v <- rho v + (1 - rho) dw^2; w <- w - rate dw / (sqrt(v) + eps)."""
    copy, scale, skip, *how = unpacked(options)
    arrays = w, dw, v, copy, rate, scale, skip
    s.launch("rmsprop_step", w.size, *arrays, *how, rho, 1 - rho, eps, w.size)


def adam(
    s: Writer,
    w: Array,
    dw: Array,
    m: Array,
    v: Array,
    rate: Array,
    clock: Array,
    beta1: float,
    beta2: float,
    eps: float,
    shrink: float = 0.0,
    shrunk: int = 0,
    **options: Unpack[Options],
) -> None:
    """Write a step of Adam, its corrections made from the clock.

    shrink: AdamW's decay, w <- (1 - rate shrink) w before, for the first ``shrunk`` elements.
    """
    copy, scale, skip, *how = unpacked(options)
    arrays = w, dw, m, v, copy, rate, clock, scale, skip
    numbers = shrink, shrunk if shrink else 0, beta1, beta2, eps
    s.launch("adam_step", w.size, *arrays, *how, *numbers, w.size)


def decay(
    s: Writer,
    w: Array,
    amount: float,
    rate: Array | None = None,
    copy: Array | None = None,
    skip: Array | None = None,
) -> None:
    """Write w <- (1 - amount) w, or with a rate (1 - rate amount) w."""
    s.launch("decay_step", w.size, w, copy, rate, skip, amount, w.size)


def average(s: Writer, average: Array, w: Array, decay: float, skip: Array | None = None) -> None:
    """Write average <- average + (1 - decay) (w - average)."""
    s.launch("average_step", w.size, average, w, skip, 1 - decay, w.size)


def norm(
    s: Writer,
    x: Array | Sequence[Array],
    norm: Array | None = None,
    scale: Array | None = None,
    skip: Array | None = None,
    limit: float = 0.0,
    loss_scale: Array | None = None,
) -> None:
    """Write the length of a gradient, and what follows from it; each (1,), and None if not wanted.

    x: the gradient, or parts of it.  norm: its length, after the loss scale was taken back.  scale:
    what makes it at most ``limit`` long (0: as it is) and takes the loss scale back.  skip: whether
    it isn't finite.
    """
    xs: Sequence[Array] = x if isinstance(x, list | tuple) else [x]
    counts = [max(1, min(-(-each.size // 1024), MOST_PARTS)) for each in xs]
    partial, first = s.new((sum(counts),), np.float64), 0
    for each, parts in zip(xs, counts, strict=True):
        found, first = partial[first : first + parts], first + parts
        s.launch("squares_of_blocks", each.size, each, found, each.size, grid=parts)
    s.launch("finish_norm", 1, partial, first, loss_scale, limit, norm, scale, skip, grid=1)
    s.free(partial)


def take_back(s: Writer, dw: Array, loss_scale: Array) -> None:
    """Write dw / loss_scale: what it would be without."""
    s.launch("take_back", dw.size, dw, loss_scale, dw.size)


def tick(s: Writer, rates: Array, first: Array, clock: Array, rate: Array) -> None:
    """Write the beginning of a step: the clock goes on, and the rate is that of the new step.

    rates: (R,) the learning rates of the steps first + 1, first + 2, ...; its last one stays.
    first: (1,) int64.
    """
    s.launch("tick", 1, rates, rates.size, first, clock, rate, block=32)


def count(s: Writer, counters: Array) -> None:
    """Write counters + 1.  counters: int64 (n,)."""
    s.launch("count_on", counters.size, counters, counters.size)


def adjust_loss_scale(
    s: Writer,
    loss_scale: Array,
    good: Array,
    skip: Array,
    patience: int = 2000,
    least: float = 1.0,
    most: float = 65536.0,
) -> None:
    """Write what a loss scale learns from a step: smaller if skipped, larger after many good ones.

    good: (1,) int64, the steps since it was changed.
    """
    s.launch("adjust_loss_scale", 1, loss_scale, good, skip, patience, least, most, block=32)


# The rules of the book, with the learning rate and the step's number from the CPU.


def plain(first: Array, *others: Any) -> bool:
    """Whether all are vectors of one length and dtype, float32 or float64, without gaps."""
    return (
        first.ndim == 1
        and first.dtype.char in "fd"
        and all(
            a.shape == first.shape and a.dtype == first.dtype and a.flags.c_contiguous
            for a in (first, *others)
        )
    )


def begin(w: Array, lr: float, step: int = 1) -> tuple[Now, Array, Array]:
    """Return a writer for arrays such as w, and the rate and the clock of one step."""
    s = Now(w.dtype.name)
    rate, clock = s.new((1,)), s.new((1,), np.int64)
    s.launch("set_step", 1, step, lr, clock, rate, block=32)
    return s, rate, clock


@body(book.sgd_update)
def sgd_update(w: Array, dw: Array, lr: float) -> None:
    """See the book."""
    if not plain(w, dw):
        return book.sgd_update.dispatch(object)(w, dw, lr)
    s, rate, _ = begin(w, lr)
    sgd(s, w, dw, rate)


@body(book.momentum_update)
def momentum_update(
    w: Array, dw: Array, v: Array, lr: float, mu: float, nesterov: bool = False
) -> None:
    """See the book."""
    if not plain(w, dw, v):
        return book.momentum_update.dispatch(object)(w, dw, v, lr, mu, nesterov)
    s, rate, _ = begin(w, lr)
    momentum(s, w, dw, v, rate, mu, nesterov)


@body(book.rmsprop_update)
def rmsprop_update(w: Array, dw: Array, v: Array, lr: float, rho: float, eps: float) -> None:
    """See the book."""
    if not plain(w, dw, v):
        return book.rmsprop_update.dispatch(object)(w, dw, v, lr, rho, eps)
    s, rate, _ = begin(w, lr)
    rmsprop(s, w, dw, v, rate, rho, eps)


@body(book.adam_update)
def adam_update(
    w: Array,
    dw: Array,
    m: Array,
    v: Array,
    t: int,
    lr: float,
    beta1: float,
    beta2: float,
    eps: float,
) -> None:
    """See the book."""
    if not plain(w, dw, m, v) or t < 1:
        return book.adam_update.dispatch(object)(w, dw, m, v, t, lr, beta1, beta2, eps)
    s, rate, clock = begin(w, lr, t)
    adam(s, w, dw, m, v, rate, clock, beta1, beta2, eps)


@body(book.average_update)
def average_update(own: Array, w: Array, decay: float) -> None:
    """See the book."""
    if not plain(own, w):
        return book.average_update.dispatch(object)(own, w, decay)
    average(Now(w.dtype.name), own, w, decay)
