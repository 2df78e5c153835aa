"""Losses: one number for a batch, and the gradient with which backpropagation begins."""

from __future__ import annotations

from functools import singledispatch
from typing import Any

from ..backend import Array, array_module


@singledispatch
def softmax_cross_entropy_forward(
    logits: Array,
    labels: Array,
    label_smoothing: float = 0.0,
    class_weight: Array | None = None,
) -> tuple[Array, Any]:
    """Measure how improbable the right classes are, in nats, averaged over the batch.

        p[n,k] = exp(logits[n,k]) / sum_j exp(logits[n,j])
        loss   = -1/N sum_n a[n] sum_k t[n,k] log p[n,k]

    t is 1 at the label and 0 elsewhere; label smoothing e makes it (1 - e) t + e/K (Szegedy et
    al. 2016, section 7).  a[n] is the weight of the label's class, 1 if none are given; the mean
    is over N and a[n] multiplies all of a picture's loss, as in Keras.  (PyTorch divides by the sum
    of the weights, and weighs the smoothed part class by class.)  log p comes from the logits less
    their maximum, so no exponential overflows and no logarithm meets a zero.

    logits: (N, K).  labels: (N,) integer class ids, or (N, K) target distributions (MixUp).
    class_weight: (K,).  Returns loss: shape (), in the dtype of logits.  Raises ValueError where
    the labels have another shape; that ids are below K isn't checked here.
    """
    xp = array_module(logits)
    N, K = logits.shape
    if labels.shape not in ((N,), (N, K)) or N == 0:
        raise ValueError(f"cross-entropy: labels are {labels.shape}, expected {(N,)} or {(N, K)}")
    if labels.ndim == 1:
        target = (labels[:, None] == xp.arange(K)).astype(logits.dtype)  # (N, K)
    else:
        target = labels.astype(logits.dtype)
    weight = 1.0 if class_weight is None else target @ class_weight.astype(logits.dtype)[:, None]
    smooth = float(label_smoothing)
    if smooth:
        target = target * (1 - smooth) + smooth / K
    shifted = logits - logits.max(axis=1, keepdims=True)
    log_p = shifted - xp.log(xp.exp(shifted).sum(axis=1, keepdims=True))  # (N, K)
    scale = weight * (1.0 / N)  # a number, or (N, 1)
    # A class that isn't meant may be impossible: 0 times minus infinity shall be 0.
    loss = -(xp.where(target != 0, log_p, 0.0) * target * scale).sum()
    return xp.asarray(loss), (log_p, target, scale)


@singledispatch
def softmax_cross_entropy_backward(dloss: Array, cache: Any) -> Array:
    """Compare what is predicted with what should be.

    With d log p[j] / d logits[k] = [j = k] - p[k],

        dL/dlogits[n,k] = dloss a[n] (p[n,k] sum_j t[n,j] - t[n,k]) / N

    where the targets of a picture add up to 1, as they should.

    dloss: shape ().  Returns dlogits: (N, K).
    """
    log_p, target, scale = cache
    p = array_module(log_p).exp(log_p)
    return (p * target.sum(axis=1, keepdims=True) - target) * (scale * dloss)


@singledispatch
def mean_squared_error_forward(y: Array, target: Array) -> tuple[Array, Any]:
    """Average the squared differences: loss = mean (y - target)^2 over all elements.

    y, target: the same shape.  Returns loss: shape (), in the dtype of y.
    """
    if y.shape != target.shape:
        raise ValueError(f"mean squared error: y is {y.shape}, but the target is {target.shape}")
    difference = y - target.astype(y.dtype)
    return array_module(y).asarray((difference * difference).mean()), difference


@singledispatch
def mean_squared_error_backward(dloss: Array, cache: Any) -> Array:
    """Pull each element towards its target: dL/dy = dloss * 2 (y - target) / size."""
    difference = cache
    return difference * (dloss * (2.0 / difference.size))


@singledispatch
def penalty_forward(w: Array, l1: float = 0.0, l2: float = 0.0) -> tuple[Array, Any]:
    """Charge for large weights: loss = l1 * sum |w| + l2 * sum w^2 (Keras' meaning of L1 and L2).

    w: any shape.  Returns loss: shape ().
    """
    xp, l1, l2 = array_module(w), float(l1), float(l2)
    return xp.asarray(abs(w).sum() * l1 + (w * w).sum() * l2), (w, l1, l2)


@singledispatch
def penalty_backward(dloss: Array, cache: Any) -> Array:
    """Pull every weight towards zero: dL/dw = dloss * (l1 sign(w) + 2 l2 w)."""
    w, l1, l2 = cache
    return (array_module(w).sign(w) * l1 + w * (2 * l2)) * dloss
