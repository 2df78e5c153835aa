"""Pictures of training and of predictions, by matplotlib (extra ``plot``)."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from .run import Epoch

TRAINING, VALIDATION, RIGHT, WRONG = "#1f5fa8", "#d9791a", "#2a7f3f", "#b3261e"


def training_curves(epochs: Sequence[Epoch], path: str | os.PathLike[str]) -> Path:
    """Draw loss and accuracy over the epochs, training and validation, and return the file.

    epochs: the records of `fit`.  path: a .png, .svg or .pdf file.
    """
    if not epochs:
        raise ValueError("training_curves: expected at least one epoch")
    figure = new_figure(9, 3.6)
    numbers = [e.epoch for e in epochs]
    for column, (title, name) in enumerate((("loss", "loss"), ("accuracy", "accuracy")), start=1):
        axes = figure.add_subplot(1, 2, column)
        series = (("training", TRAINING, name), ("validation", VALIDATION, f"val_{name}"))
        for label, color, field in series:
            values = [getattr(e, field) for e in epochs]
            if None not in values:
                axes.plot(numbers, values, color=color, marker="o", markersize=3.5, label=label)
        axes.set_title(title)
        axes.set_xlabel("epoch")
        axes.xaxis.get_major_locator().set_params(integer=True)
        axes.grid(alpha=0.25)
        axes.spines[["top", "right"]].set_visible(False)
        axes.legend(frameon=False)
    return write(figure, path)


def range_test(
    rates: np.ndarray,
    losses: np.ndarray,
    smoothed: np.ndarray,
    suggestion: float | None,
    path: str | os.PathLike[str],
) -> Path:
    """Draw what `find_lr` found, losses over learning rates, and return the file."""
    figure = new_figure(6, 3.6)
    axes = figure.add_subplot()
    axes.plot(rates, losses, color=TRAINING, alpha=0.3, linewidth=1, label="loss")
    axes.plot(rates, smoothed, color=TRAINING, label="smoothed")
    if suggestion is not None:
        axes.axvline(suggestion, color=VALIDATION, label=f"suggested: {suggestion:.3g}")
    axes.set_xscale("log")
    axes.set_ylim(0.9 * min(smoothed), 1.1 * max(smoothed[0], 1.5 * min(smoothed)))
    axes.set_xlabel("learning rate")
    axes.grid(alpha=0.25)
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(frameon=False)
    return write(figure, path)


def predictions(
    probabilities: np.ndarray,
    x: np.ndarray,
    labels: np.ndarray,
    classes: Sequence[str],
    path: str | os.PathLike[str],
    columns: int = 8,
) -> Path:
    """Draw pictures with the predicted class, its probability and the true one; return the file.

    probabilities: (N, K).  x: (N, H, W, C) uint8.  labels: (N,).  Green is right, red is wrong.
    """
    if not len(x) == len(labels) == len(probabilities) > 0:
        raise ValueError(f"predictions: {len(x)} pictures, {len(labels)} labels")
    rows = -(-len(x) // columns)
    figure = new_figure(1.5 * columns, 1.85 * rows)
    for i, (picture, label, scores) in enumerate(zip(x, labels, probabilities, strict=True)):
        axes = figure.add_subplot(rows, columns, i + 1)
        guess = int(scores.argmax())
        axes.imshow(picture.squeeze(), cmap="gray", interpolation="nearest")
        axes.set_xticks([])
        axes.set_yticks([])
        color = RIGHT if guess == label else WRONG
        axes.spines[:].set(color=color, linewidth=2)
        axes.set_title(f"{classes[guess]} {scores[guess]:.0%}", color=color, fontsize=9, pad=3)
        axes.set_xlabel("" if guess == label else f"is {classes[label]}", fontsize=9, labelpad=2)
    return write(figure, path)


def new_figure(width: float, height: float) -> Any:
    """Return an empty figure; raises ImportError with the install line without matplotlib."""
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        raise ImportError("plots need matplotlib: pip install 'minicnn[plot]'") from error
    return Figure(figsize=(width, height), layout="constrained")


def write(figure: Any, path: str | os.PathLike[str]) -> Path:
    """Save a figure, making its folder, and return its path."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=130)
    return path
