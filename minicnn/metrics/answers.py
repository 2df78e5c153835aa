"""The share of right answers, of all at once or batch by batch."""

from __future__ import annotations

from typing import Any

from ..backend import Array, array_module


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
