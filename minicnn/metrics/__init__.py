"""Metrics: how good predictions are.  Class ids and scores in, numbers out."""

from __future__ import annotations

from .answers import Meter, accuracy, top_k_accuracy
from .by_class import (
    ClassScores,
    Undefined,
    confusion_matrix,
    most_confused,
    precision_recall_f1,
)
from .reliability import Calibration, calibration

__all__ = [
    "Calibration",
    "ClassScores",
    "Meter",
    "Undefined",
    "accuracy",
    "calibration",
    "confusion_matrix",
    "most_confused",
    "precision_recall_f1",
    "top_k_accuracy",
]
