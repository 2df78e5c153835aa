"""Class by class: which are taken for which, and precision, recall and F1."""

from __future__ import annotations

from dataclasses import dataclass
from math import isnan
from typing import NamedTuple

import numpy as np

from ..backend import Array, to_numpy
from ..options import whole

AVERAGES = ("macro", "micro", "weighted")
FIGURES = ("precision", "recall", "f1")


def unnamed(classes: int) -> tuple[str, ...]:
    """Return what so many classes are called that nobody has named."""
    return tuple(f"class {i}" for i in range(classes))


def confusion_matrix(labels: Array, predicted: Array, classes: int) -> np.ndarray:
    """Count how often class i was called j: (classes, classes) int64, rows are true classes."""
    labels, predicted = to_numpy(labels), to_numpy(predicted)
    if labels.shape != predicted.shape or labels.ndim != 1:
        raise ValueError(f"confusion_matrix: {labels.shape} labels, {predicted.shape} predictions")
    for ids in (labels, predicted):
        if ids.size and not 0 <= ids.min() <= ids.max() < classes:
            raise ValueError(f"class ids from {ids.min()} to {ids.max()}, but {classes} classes")
    pairs = labels.astype(np.int64) * classes + predicted
    return np.bincount(pairs, minlength=classes * classes).reshape(classes, classes)


def most_confused(matrix: np.ndarray, n: int = 10) -> list[tuple[int, int, int]]:
    """Return the n commonest mistakes of a `confusion_matrix`, the commonest first.

    Each is (true class, what it was called, how often), of ids.  Of equal ones those of lower ids
    come first; what never happened isn't among them, so that there may be fewer than n.
    """
    whole(n, "n")
    wrong = matrix - np.diag(np.diag(matrix))
    order = np.argsort(-wrong, axis=None, kind="stable")[:n]
    pairs = zip(*np.unravel_index(order, matrix.shape), strict=True)
    return [(int(i), int(j), int(matrix[i, j])) for i, j in pairs if wrong[i, j]]


class Undefined(NamedTuple):
    """The classes, as tuples of ids, whose figure is 0/0."""

    precision: tuple[int, ...]
    recall: tuple[int, ...]
    f1: tuple[int, ...]


@dataclass(frozen=True)
class ClassScores:
    """Precision, recall and F1 of each of K classes, and what they come from; (K,) each.

    right: pictures of the class that were called so.  called: all that were called so.  support:
    pictures of the class.  zero_division: what stands for 0/0.
    """

    precision: np.ndarray
    recall: np.ndarray
    f1: np.ndarray
    support: np.ndarray
    called: np.ndarray
    right: np.ndarray
    zero_division: float = 0.0

    @property
    def undefined(self) -> Undefined:
        """Where ``zero_division`` stands: the classes never called, never there, and neither."""
        denominators = (self.called, self.support, self.called + self.support)
        return Undefined(*(tuple(np.flatnonzero(d == 0).tolist()) for d in denominators))

    def average(self, kind: str = "macro") -> dict[str, float]:
        """Return precision, recall and F1 of all classes together.

        "macro": the mean over the classes, each alike, absent ones too.  "weighted": the mean
        weighted by support.  "micro": of the counts of all classes added up; where each picture has
        one label and one answer all three are the accuracy.  F1 is averaged as the others are, it
        isn't the F1 of the averages.  Where NaN stands for 0/0, such classes are left out.
        """
        if kind not in AVERAGES:
            raise ValueError(f"average {kind!r}: expected one of {', '.join(map(repr, AVERAGES))}")
        if kind == "micro":
            right, called, support = (
                np.array(counts.sum()) for counts in (self.right, self.called, self.support)
            )
            scores = scores_of(right, called, support, self.zero_division)
            return {name: float(getattr(scores, name)) for name in FIGURES}
        weights = self.support if kind == "weighted" else np.ones_like(self.support)
        return {name: self.mean(getattr(self, name), weights) for name in FIGURES}

    def mean(self, values: np.ndarray, weights: np.ndarray) -> float:
        """Return the weighted mean of the values that are numbers; all alike if no weight is."""
        known = ~np.isnan(values)
        values, weights = values[known], weights[known]
        if not values.size:
            return self.zero_division
        return float(np.average(values, weights=weights if weights.any() else None))


def precision_recall_f1(matrix: np.ndarray, zero_division: float = 0.0) -> ClassScores:
    """Return each class's precision, recall and F1 from a `confusion_matrix`.

        precision = right / called so     recall = right / truly so     F1 = 2 right / (both)

    A class that was never called so has no precision, one that never occurs no recall: 0/0.
    zero_division: what stands there instead: 0, 1 or NaN, as in scikit-learn.  `ClassScores` says
    where it does.  Raises ValueError for another number, and unless the matrix is square.
    """
    if matrix.ndim != 2 or matrix.shape[0] != matrix.shape[1] or matrix.dtype.kind not in "iu":
        raise ValueError(
            f"matrix {matrix.shape} {matrix.dtype}: expected (K, K) counts, as of confusion_matrix"
        )
    if zero_division not in (0, 1) and not isnan(zero_division):
        raise ValueError(f"zero_division {zero_division!r}: expected 0, 1 or NaN")
    right, called, support = np.diag(matrix), matrix.sum(axis=0), matrix.sum(axis=1)
    return scores_of(right, called, support, float(zero_division))


def scores_of(
    right: np.ndarray, called: np.ndarray, support: np.ndarray, zero_division: float
) -> ClassScores:
    """Return the scores that counts, of any one shape, give."""

    def share(part: np.ndarray, of: np.ndarray) -> np.ndarray:
        return np.where(of > 0, part / np.maximum(of, 1), zero_division)

    return ClassScores(
        precision=share(right, called),
        recall=share(right, support),
        f1=share(2 * right, called + support),
        support=support,
        called=called,
        right=right,
        zero_division=zero_division,
    )
