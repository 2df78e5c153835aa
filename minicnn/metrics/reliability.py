"""Calibration: whether of the answers given with 80 % certainty 80 % are right."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ..backend import Array, to_numpy
from ..options import whole

BINS = 15
"""As many as Guo et al. take."""


@dataclass(frozen=True)
class Calibration:
    """Answers sorted into M bins of equal width by their confidence.

    edges: (M + 1,), from 0 to 1; bin m has the confidences c with edges[m] < c <= edges[m + 1].
    count: (M,) int64.  confidence, accuracy: (M,), the means of each bin, NaN where it is empty.
    Drawn over each other, these two are the reliability diagram.
    """

    edges: np.ndarray
    count: np.ndarray
    confidence: np.ndarray
    accuracy: np.ndarray

    @property
    def ece(self) -> float:
        """The expected calibration error, sum_m count_m / N |accuracy_m - confidence_m|."""
        filled = self.count > 0
        share = self.count[filled] / max(1, self.count.sum())
        return float((share * np.abs(self.accuracy - self.confidence)[filled]).sum())

    @property
    def mce(self) -> float:
        """The maximum calibration error, max_m |accuracy_m - confidence_m|."""
        filled = self.count > 0
        return float(np.abs(self.accuracy - self.confidence)[filled].max(initial=0.0))

    @property
    def mean_confidence(self) -> float:
        """The mean confidence of all answers; above the accuracy, the model is overconfident."""
        filled = self.count > 0
        return float(np.average(self.confidence[filled], weights=self.count[filled]))


def calibration(labels: Array, probabilities: Array, bins: int = BINS) -> Calibration:
    """Compare how certain answers are with how often they are right.

    The answer is the class of the highest probability, its confidence that probability.  (Guo et
    al., "On Calibration of Modern Neural Networks", 2017, section 2; the estimate by bins is of
    Naeini et al., "Obtaining Well Calibrated Probabilities Using Bayesian Binning", 2015.)  With
    few pictures in a bin the error is overestimated, and it depends on the number of bins: say it.

    labels: (N,) class ids.  probabilities: (N, K).  Raises ValueError for other shapes, for none
    at all, for numbers beyond 0 and 1, and bins < 1.  One NaN makes the errors NaN.
    """
    labels, p = to_numpy(labels), to_numpy(probabilities)
    if p.ndim != 2 or 0 in p.shape or labels.shape != p.shape[:1]:
        raise ValueError(f"calibration: {labels.shape} labels, probabilities {p.shape}")
    M = whole(bins, "bins")
    if p.min() < 0 or p.max() > 1 + 1e-3:  # 16 bits round up
        raise ValueError(
            f"calibration: expected probabilities, got numbers from {p.min()} to {p.max()}; those "
            "of logits are functional.activation.softmax_forward(logits)[0]"
        )
    confidence, right = p.max(axis=1).astype(np.float64), p.argmax(axis=1) == labels
    edges = np.linspace(0, 1, M + 1)
    bin_of = (np.searchsorted(edges, confidence, side="left") - 1).clip(0, M - 1)
    count = np.bincount(bin_of, minlength=M)

    def mean(values: np.ndarray) -> np.ndarray:
        sums = np.bincount(bin_of, weights=values, minlength=M)
        return np.divide(sums, count, out=np.full(M, np.nan), where=count > 0)

    return Calibration(edges, count, mean(confidence), mean(right))
