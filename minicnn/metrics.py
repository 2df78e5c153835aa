"""Metrics: how good predictions are.  Class ids and scores in, numbers out."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from .backend import Array, array_module, to_numpy


class Meter:
    """Running loss and accuracy, kept where the network is and read only when asked."""

    def __init__(self) -> None:
        self.examples = 0
        self.loss_sum: Any = 0.0
        self.correct: Any = 0

    def add(self, loss: Array, logits: Array, labels: Array) -> None:
        """Take in a batch: its mean loss, shape (), logits (N, K), and labels (N,) or (N, K)."""
        ids = labels if labels.ndim == 1 else labels.argmax(axis=1)
        self.examples += len(logits)
        self.loss_sum = self.loss_sum + loss.astype("float64") * len(logits)
        self.correct = self.correct + (logits.argmax(axis=1) == ids).sum()

    @property
    def loss(self) -> float:
        """The mean loss over all pictures so far; on a GPU, reading it waits."""
        return float(self.loss_sum) / max(1, self.examples)

    @property
    def accuracy(self) -> float:
        """The share of pictures that were right; on a GPU, reading it waits."""
        return float(self.correct) / max(1, self.examples)


def accuracy(labels: Array, predicted: Array) -> float:
    """Return the share of right answers.

    labels: (N,) class ids.  predicted: (N,) class ids, or (N, K) scores.
    """
    ids = predicted.argmax(axis=1) if predicted.ndim == 2 else predicted
    if labels.shape != ids.shape or len(labels) == 0:
        raise ValueError(f"accuracy: labels {labels.shape}, predicted {predicted.shape}")
    return float((labels == ids).mean())


def top_k_accuracy(labels: Array, scores: Array, k: int = 5) -> float:
    """Return the share of pictures whose label is among the k highest scores.

    labels: (N,).  scores: (N, K).  Of equal scores the first is the higher, as in argmax; a label
    whose score isn't a number doesn't count.
    """
    xp = array_module(scores)
    K = scores.shape[1]
    if labels.shape != scores.shape[:1] or not 1 <= k <= K:
        raise ValueError(f"top_k_accuracy: {labels.shape} labels, scores {scores.shape}, k {k}")
    ids = labels[:, None]
    own = scores[xp.arange(len(scores)), labels][:, None]
    above = (scores > own) | ((scores == own) & (xp.arange(K) < ids))
    among = (above.sum(axis=1) < k) & ~xp.isnan(own[:, 0])
    return float(among.mean())


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


@dataclass(frozen=True)
class ClassScores:
    """Precision, recall and F1 of each class, (K,) each, and how often it occurs."""

    precision: np.ndarray
    recall: np.ndarray
    f1: np.ndarray
    support: np.ndarray

    def average(self, kind: str = "macro") -> dict[str, float]:
        """Return the mean over the classes: "macro", each alike, or "weighted" by occurrence."""
        if kind not in ("macro", "weighted"):
            raise ValueError(f"average {kind!r}: expected 'macro' or 'weighted'")
        weights = self.support if kind == "weighted" else np.ones_like(self.support)
        return {
            name: float(np.average(getattr(self, name), weights=weights))
            for name in ("precision", "recall", "f1")
        }


def precision_recall_f1(matrix: np.ndarray) -> ClassScores:
    """Return each class's precision, recall and F1 from a `confusion_matrix`.

        precision = right / called so     recall = right / truly so     F1 = 2 right / (both)

    A class that was never called so has precision 0, one that never occurs has recall 0.
    """
    right, called, true = np.diag(matrix), matrix.sum(axis=0), matrix.sum(axis=1)
    return ClassScores(
        precision=right / np.maximum(called, 1),
        recall=right / np.maximum(true, 1),
        f1=2 * right / np.maximum(called + true, 1),
        support=true,
    )
