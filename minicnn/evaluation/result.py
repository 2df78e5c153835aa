"""Everything that can be said about a model's answers to pictures whose classes are known."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property
from math import isfinite
from typing import Any

import numpy as np

from ..backend import Array, array_module, to_numpy
from ..functional.activation import softmax_forward
from ..metrics import (
    Calibration,
    ClassScores,
    calibration,
    confusion_matrix,
    most_confused,
    precision_recall_f1,
    top_k_accuracy,
)
from ..metrics.by_class import AVERAGES, FIGURES, unnamed
from .table import table


class Evaluation(Mapping[str, float]):
    """How good a model is: ``e["loss"]``, ``e["accuracy"]``, ``e["top5"]``, and why.

        e = evaluate(model, x, y)
        print(e)                      # a table
        e.confusion, e.scores.f1, e.calibration.ece, e.confused(3)

    A mapping of three numbers, which can't be changed.  All but loss and accuracy is computed when
    it is asked for, from the logits; these stay on the model's device until then.

    labels: (N,) int64, the true class ids; of target distributions the likeliest.  classes: the K
    names.  k: 5, or the number of classes if that is less; "top5" is the share of pictures whose
    class is among the k likeliest.

    0/0, the precision of a class that no picture was called or the recall of one without pictures,
    counts as 0; `scores.undefined`, the table and `as_dict` say where.
    """

    def __init__(
        self,
        loss: float,
        accuracy: float,
        labels: np.ndarray,
        logits: Sequence[Array],
        classes: Sequence[str] = (),
    ) -> None:
        """Take the labels (N,), and the logits in batches (n, K) that together are (N, K)."""
        K = logits[0].shape[-1]
        self.loss, self.accuracy = loss, accuracy
        self.labels = labels
        self.classes = tuple(classes) or unnamed(K)
        self.k = min(5, K)
        self._logits = list(logits)

    def __getitem__(self, key: str) -> float:
        if key not in ("loss", "accuracy", "top5"):
            raise KeyError(key)
        return float(getattr(self, key))

    def __iter__(self) -> Iterator[str]:
        return iter(("loss", "accuracy", "top5"))

    def __len__(self) -> int:
        return 3

    def __repr__(self) -> str:
        return (
            f"<Evaluation of {len(self.labels):,} pictures: loss {self.loss:.4f}, "
            f"accuracy {self.accuracy:.4f}>"
        )

    def __str__(self) -> str:
        return table(self)

    @cached_property
    def logits(self) -> np.ndarray:
        """The model's answers, (N, K) in its dtype; on a GPU, the first look waits and copies."""
        parts, self._logits = self._logits, []
        return to_numpy(array_module(parts[0]).concatenate(parts))

    @cached_property
    def probabilities(self) -> np.ndarray:
        """The softmax of the logits, (N, K): what `predict` returns."""
        return softmax_forward(self.logits)[0]

    @cached_property
    def predicted(self) -> np.ndarray:
        """What the pictures were called, (N,) int64."""
        return self.logits.argmax(axis=1)

    @cached_property
    def top5(self) -> float:
        """The share of pictures whose class is among the ``k`` likeliest."""
        return top_k_accuracy(self.labels, self.logits, self.k)

    @cached_property
    def confusion(self) -> np.ndarray:
        """How often class i was called j, (K, K) int64."""
        return confusion_matrix(self.labels, self.predicted, len(self.classes))

    @cached_property
    def scores(self) -> ClassScores:
        """Precision, recall, F1 of each class, how often it is there, and how often called."""
        return precision_recall_f1(self.confusion)

    @cached_property
    def calibration(self) -> Calibration:
        """Confidence and accuracy in 15 bins, and the expected calibration error."""
        return calibration(self.labels, self.probabilities)

    def confused(self, n: int = 10) -> list[tuple[int, int, int]]:
        """Return the n commonest mistakes: (true class id, the id it was called, how often)."""
        return most_confused(self.confusion, n)

    def as_dict(self) -> dict[str, Any]:
        """Return all figures as strict JSON can hold them: None stands for what isn't finite."""
        scores, bins, names = self.scores, self.calibration, self.classes
        rows = zip(
            names, *(getattr(scores, f) for f in (*FIGURES, "support", "called")), strict=True
        )
        found = {
            "pictures": len(self.labels),
            **self,
            "k": self.k,
            "classes": list(names),
            "per_class": [
                dict(zip(("name", *FIGURES, "support", "called"), map(plain, row), strict=True))
                for row in rows
            ],
            "averages": {kind: scores.average(kind) for kind in AVERAGES},
            "undefined": {
                figure: [names[i] for i in ids]
                for figure, ids in scores.undefined._asdict().items()
            },
            "confusion": self.confusion.tolist(),
            "confused": [
                {"true": names[i], "called": names[j], "count": count}
                for i, j, count in self.confused()
            ],
            "calibration": {
                "ece": bins.ece,
                "mce": bins.mce,
                "mean_confidence": bins.mean_confidence,
                "edges": bins.edges.tolist(),
                "count": bins.count.tolist(),
                "confidence": bins.confidence.tolist(),
                "accuracy": bins.accuracy.tolist(),
            },
        }
        return finite(found)


def plain(value: Any) -> Any:
    """Return Python's own number for NumPy's."""
    return value.item() if isinstance(value, np.generic) else value


def finite(value: Any) -> Any:
    """Return a value with None for every number in it that isn't finite."""
    if isinstance(value, dict):
        return {key: finite(each) for key, each in value.items()}
    if isinstance(value, list):
        return [finite(each) for each in value]
    return None if isinstance(value, float) and not isfinite(value) else value
