"""Losses (``loss.cu``).

logits, dlogits: (N, K) in the storage type.  labels: int64 (N,) class ids, or (N, K) distributions
in the type of sums.  A loss: shape () in the type of sums.  upstream: the loss's own gradient, one
number in the type of sums on the device, such as the scale of losses in mixed precision; None is 1.
"""

from __future__ import annotations

import numpy as np

from ...backend import Array
from .writer import Writer

Counters = tuple[Array, Array]
"""The sum of the losses of all pictures, float64 (1,), and how many were right, int64 (1,)."""

SUMS = 264  # blocks of sums over flat arrays: two for each of 132 processors


def cross_entropy(
    s: Writer,
    logits: Array,
    labels: Array,
    smoothing: float,
    class_weight: Array | None,
    loss: Array | None,
    dlogits: Array | None,
    upstream: Array | None = None,
    counters: Counters | None = None,
) -> None:
    """Write the softmax cross-entropy and its gradient, what of both isn't None.

    class_weight: (K,) in the type of sums, or None.  counters: take in this batch, as `counters`
    would; that needs the loss.
    """
    N, K = logits.shape
    ids, shares = split(s, logits, labels)
    losses = None if loss is None else s.new((N,), s.acc_dtype)
    right = None if counters is None else s.new((N,), np.dtype("int32"))
    s.launch(
        "cross_entropy_rows", 32 * N,
        logits, ids, shares, class_weight, smoothing, upstream, losses, right, dlogits, N, K,
    )  # fmt: skip
    if loss is not None:
        finish(s, losses, 1 / N, loss, right, counters, N)
    s.free(losses, right)


def counters(
    s: Writer, loss: Array, logits: Array, labels: Array, loss_sum: Array, correct: Array
) -> None:
    """Write loss_sum += loss * N and correct += how many largest scores are the labels'."""
    N, K = logits.shape
    ids, shares = split(s, logits, labels)
    right = s.new((N,), np.dtype("int32"))
    s.launch("right_rows", 32 * N, logits, ids, shares, right, N, K)
    finish(s, None, 0.0, loss, right, (loss_sum, correct), N)
    s.free(right)


def mean_squared_error(
    s: Writer,
    y: Array,
    target: Array,
    loss: Array | None,
    dy: Array | None,
    upstream: Array | None = None,
    counters: Counters | None = None,
) -> None:
    """Write the mean of (y - target)^2 and its gradient, what of both isn't None.

    y, dy: the storage type.  target: like y, in its type or that of sums; or int64 (N,) class ids
    where y is (N, K).  counters: as in `cross_entropy`; y is (N, K) then, and the target labels.
    """
    if y.size == 0:
        raise ValueError(f"mean squared error: y is {y.shape}, expected one value at least")
    ids = target if target.ndim < y.ndim else None
    shares = target if ids is None and target.dtype != s.dtype else None
    numbers = target if ids is None and shares is None else None
    blocks = min(SUMS, -(-y.size // 256))
    sums = None if loss is None else s.new((blocks,), s.acc_dtype)
    s.launch(
        "squared_errors", 0,
        y, numbers, shares, ids, upstream, sums, dy, y.size, y.shape[-1] if y.ndim else 1,
        grid=blocks,
    )  # fmt: skip
    if loss is not None:
        finish(s, sums, 1 / y.size, loss, None, None, len(y) if y.ndim else 1)
    s.free(sums)
    if counters is not None and loss is not None:
        count(s, loss, y, target, *counters)


def penalty(s: Writer, w: Array, l1: float, l2: float, loss: Array) -> None:
    """Write loss = l1 sum |w| + l2 sum w^2.  w: any shape, in the storage type."""
    blocks = min(SUMS, max(1, -(-w.size // 256)))
    sums = s.new((blocks,), s.acc_dtype)
    s.launch("penalties", 0, w, l1, l2, sums, w.size, grid=blocks)
    finish(s, sums, 1.0, loss, None, None, 1)
    s.free(sums)


def penalty_backward(
    s: Writer, w: Array, l1: float, l2: float, dw: Array, upstream: Array | None = None
) -> None:
    """Write dw = l1 sign(w) + 2 l2 w."""
    s.launch("penalty_backward", w.size, w, l1, l2, upstream, dw, w.size)


def finish(
    s: Writer,
    losses: Array | None,
    factor: float,
    loss: Array,
    right: Array | None,
    into: Counters | None,
    N: int,
) -> None:
    """Write loss = factor * sum(losses), and what the counters take in, by one block."""
    many = 0 if losses is None else losses.size
    loss_sum, correct = into or (None, None)
    s.launch("loss_finish", 256, losses, many, factor, loss, right, loss_sum, correct, N, grid=1)


count = counters  # under another name where that one is an argument


def split(s: Writer, logits: Array, labels: Array) -> tuple[Array | None, Array | None]:
    """Return the labels as (class ids, None) or (None, distributions)."""
    if logits.size == 0:
        raise ValueError(f"logits are {logits.shape}: expected one value at least")
    if labels.shape == logits.shape[:1] and labels.dtype == "int64":
        return labels, None
    if labels.shape == logits.shape and labels.dtype == s.acc_dtype:
        return None, labels
    raise ValueError(
        f"labels are {labels.dtype} {labels.shape}, expected int64 {logits.shape[:1]} or "
        f"{s.acc_dtype} {logits.shape}"
    )
