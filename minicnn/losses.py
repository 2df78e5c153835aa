"""Losses to train with: callables (logits, labels) -> (loss, dlogits)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np

from .backend import Array, array_module
from .functional.loss import (
    mean_squared_error_backward,
    mean_squared_error_forward,
    softmax_cross_entropy_backward,
    softmax_cross_entropy_forward,
)
from .options import number

Loss: TypeAlias = Callable[[Array, Array], tuple[Array, Array]]


@dataclass(frozen=True)
class CrossEntropy:
    """Softmax cross-entropy on logits (`functional.loss`).

    labels: (N,) integer class ids, or (N, K) target distributions.  class_weight: one number per
    class; a picture's loss is multiplied by its class's.
    """

    label_smoothing: float = 0.0
    class_weight: Sequence[float] | None = None

    def __post_init__(self) -> None:
        number(self.label_smoothing, "label_smoothing", least=0, below=1)
        if self.class_weight is None:
            return
        if isinstance(self.class_weight, str | dict) or np.ndim(self.class_weight) != 1:
            raise ValueError(
                f"class_weight {self.class_weight!r}: expected a list, a number for each class"
            )
        if len(self.class_weight) == 0:
            raise ValueError("class_weight []: expected a number for each class")
        for weight in self.class_weight:
            number(weight, "class_weight", least=0)
        object.__setattr__(self, "class_weight", tuple(self.class_weight))  # can be compared

    def __call__(self, logits: Array, labels: Array) -> tuple[Array, Array]:
        """Return the loss, shape (), and its gradient, (N, K)."""
        check_labels(labels, *logits.shape)
        xp, weight = array_module(logits), None
        if self.class_weight is not None:
            self.check_weight(logits.shape[1])
            weight = xp.asarray(self.class_weight, dtype=logits.dtype)
        loss, cache = softmax_cross_entropy_forward(logits, labels, self.label_smoothing, weight)
        return loss, softmax_cross_entropy_backward(xp.ones_like(loss), cache)

    def check_weight(self, K: int) -> None:
        """Raise ValueError unless ``class_weight`` fits K classes."""
        if self.class_weight is not None and len(self.class_weight) != K:
            raise ValueError(
                f"class_weight has {len(self.class_weight)} numbers, the model {K} classes: give "
                "one for each"
            )


@dataclass(frozen=True)
class MeanSquaredError:
    """Mean squared error, for comparison and teaching; class ids become one-hot targets."""

    def __call__(self, logits: Array, labels: Array) -> tuple[Array, Array]:
        """Return the loss, shape (), and its gradient, (N, K)."""
        xp = array_module(logits)
        check_labels(labels, *logits.shape)
        if labels.ndim == 1:
            labels = labels[:, None] == xp.arange(logits.shape[1])
        loss, cache = mean_squared_error_forward(logits, labels.astype(logits.dtype))
        return loss, mean_squared_error_backward(xp.ones_like(loss), cache)


def check_labels(labels: Array, N: int, K: int) -> None:
    """Raise ValueError unless ``labels`` fit N pictures and K classes.

    The range is checked for NumPy arrays only: on a GPU the question would stop the pipeline, and
    `fit` and `evaluate` have asked it before the labels went there.
    """
    if labels.shape == (N, K) and labels.dtype.kind == "f":
        if array_module(labels) is np and not np.isfinite(labels).all():
            raise ValueError("labels: expected distributions, got values that aren't finite")
        return
    if labels.shape != (N,) or labels.dtype.kind not in "iu":
        hint = "; take labels[:, 0]" if labels.shape == (N, 1) else ""
        raise ValueError(
            f"labels: expected ({N},) integer class ids, or ({N}, {K}) float distributions, got "
            f"{labels.shape} {labels.dtype}{hint}"
        )
    if array_module(labels) is np and (labels.min() < 0 or labels.max() >= K):
        raise ValueError(
            f"labels: expected class ids from 0 to {K - 1}, got {labels.min()} to {labels.max()}; "
            "does the model's last layer have as many units as there are classes?"
        )
