"""How good a network is, class by class: confusion, scores, and what its certainty is worth."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from .figure import BLUE, GREY, ORANGE, check_classes, labels_of, new_figure, plain

NUMBERED = 30
"""Classes up to which every cell of a confusion matrix has its number."""
NAMED = 150
"""Classes up to which they have their names there; beyond, it is their numbers."""


def confusion_matrix(
    matrix: np.ndarray, classes: Sequence[str], normalize: str | None = None
) -> Any:
    """Draw a confusion matrix, rows true, columns predicted, and return the figure.

    Right answers are blue and errors orange, each on its own scale: errors are few, and are what
    one looks for.  Up to 30 classes every cell has its number; with more, colour bars say it.
    Beyond 150 classes they are numbered, not named.

    matrix: (K, K), counts.  normalize: None writes counts, "true" percent of each row, "predicted"
    percent of each column.
    """
    matrix = np.asarray(matrix)
    if matrix.ndim != 2 or matrix.shape[0] != matrix.shape[1] or not matrix.size:
        raise ValueError(f"confusion_matrix: shape {matrix.shape}, expected (K, K)")
    K = len(matrix)
    check_classes("confusion_matrix", classes, K)
    values = normalized(matrix, normalize)
    names = labels_of(classes, 20)
    cell = min(0.52 if K > 4 else 0.8, max(0.13, 10 / K)) if K <= NAMED else 18 / K  # inches
    letters = min(9.5, 55 * cell) if K <= NAMED else 9.5
    longest = max(map(len, names)) * letters * 0.62 / 72 if K <= NAMED else 0.4
    numbered = K <= NUMBERED
    upright = longest > cell
    figure = new_figure(
        cell * K + longest + (0.5 if numbered else 2.2),
        cell * K + (longest if upright else 0.2) + 0.5,
    )
    figure.set_layout_engine("compressed")
    axes = figure.add_subplot()
    diagonal = np.eye(K, dtype=bool)
    for part, colors, title in (
        (diagonal, BLUE, "right"),
        (~diagonal, ORANGE, "wrong"),
    ):
        shown = np.where(part, values, np.nan)
        top = shown[part].max(initial=0) or 1
        drawn = axes.imshow(shown, cmap=shades(colors), vmin=0, vmax=top)
        if numbered:
            write_numbers(axes, shown, drawn, min(9.0, 20 * cell))
        else:
            bar = figure.colorbar(drawn, ax=axes, shrink=0.45, aspect=25, pad=0.02)
            bar.set_label(f"{title}, {'pictures' if normalize is None else 'percent'}")
            bar.outline.set_visible(False)
    if K <= NAMED:
        axes.set_xticks(range(K), names, rotation=90 if upright else 0, fontsize=letters)
        axes.set_yticks(range(K), names, fontsize=letters)
    axes.set_xlabel("predicted", fontsize=11)
    axes.set_ylabel("true", fontsize=11)
    axes.tick_params(length=0)
    axes.spines[:].set_visible(False)
    if numbered:  # cells apart
        edges = np.arange(K + 1) - 0.5
        axes.hlines(edges, -0.5, K - 0.5, color="black", alpha=0.1, linewidth=1)
        axes.vlines(edges, -0.5, K - 0.5, color="black", alpha=0.1, linewidth=1)
    else:
        axes.spines[:].set(visible=True, color="black", alpha=0.2)
    return figure


def normalized(matrix: np.ndarray, normalize: str | None) -> np.ndarray:
    """Return counts, or percent of their rows ("true") or columns ("predicted"); 0 of 0 is 0."""
    sums = {None: None, "true": 1, "predicted": 0}
    if normalize not in sums:
        raise ValueError(f"normalize {normalize!r}: expected None, 'true' or 'predicted'")
    axis = sums[normalize]
    if axis is None:
        return matrix.astype("float64")
    return 100 * matrix / np.maximum(matrix.sum(axis=axis, keepdims=True), 1)


def write_numbers(axes: Any, shown: np.ndarray, drawn: Any, size: float) -> None:
    """Write the cells that aren't NaN, light on dark and dark on light; 0 faintly."""
    for i, j in np.argwhere(~np.isnan(shown)):
        value = shown[i, j]
        *color, share = drawn.to_rgba(value)
        light = share * np.dot(color, (0.3, 0.59, 0.11)) + 1 - share > 0.4
        ink = "#8A8A8A" if value == 0 else "black" if light else "white"
        text = f"{value:.1f}" if value % 1 and value < 0.95 else f"{value:.0f}"
        axes.text(j, i, text, ha="center", va="center", color=ink, fontsize=size)


def shades(color: str) -> Any:
    """Return the colour map from nothing, whatever lies below, to a colour."""
    from matplotlib.colors import LinearSegmentedColormap, to_rgba

    return LinearSegmentedColormap.from_list("shades", [to_rgba(color, 0.0), to_rgba(color)])


def reliability(calibration: Any) -> Any:
    """Draw how often answers of each certainty are right, and return the figure.

    On the dashed line certainty is what it says; bars below it are too sure.  Below: how many
    answers there are of each certainty.

    calibration: with ``edges`` (B + 1,), ``confidence``, ``accuracy``, ``count`` (B,) and ``ece``,
    as `evaluate` gives it (Guo et al., "On calibration of modern neural networks", 2017, sec. 2).
    """
    edges, count = np.asarray(calibration.edges), np.asarray(calibration.count)
    some = count > 0
    figure = new_figure(5, 5.4)
    above, below = figure.subplots(2, 1, sharex=True, height_ratios=(3, 1))
    plain(above), plain(below)
    left, width = edges[:-1], np.diff(edges)
    bars = {"width": width[some], "align": "edge", "edgecolor": "white"}
    above.bar(left[some], np.asarray(calibration.accuracy)[some], color=BLUE, label="right", **bars)
    above.plot([0, 1], [0, 1], "--", color=GREY, label="as certain as right")
    above.plot(
        np.asarray(calibration.confidence)[some],
        np.asarray(calibration.accuracy)[some],
        "o",
        color=ORANGE,
        markeredgecolor="white",
        label="at the mean certainty",
    )
    above.set(xlim=(0, 1), ylim=(0, 1), ylabel="share that is right")
    above.set_title(f"expected calibration error {calibration.ece:.3f}", fontsize=11)
    figure.legend(loc="outside upper center", ncols=3, frameon=False, fontsize=9)
    below.bar(left[some], count[some], color=GREY, **bars)
    below.set(xlabel="certainty of the answer", ylabel="answers")
    for axis in (above.xaxis, above.yaxis):
        axis.set_major_formatter("{x:.0%}")
    below.yaxis.set_major_formatter("{x:,.0f}")
    below.yaxis.get_major_locator().set_params(integer=True, nbins=3)
    return figure


def class_scores(scores: Any, classes: Sequence[str]) -> Any:
    """Draw precision, recall and F1 of each class, the best on top, and return the figure.

    scores: with ``precision``, ``recall``, ``f1``, (K,) each: `metrics.precision_recall_f1`.
    """
    K = len(scores.f1)
    check_classes("class_scores", classes, K)
    order = np.argsort(scores.f1, kind="stable")
    names = labels_of(classes)
    rows = np.arange(K)
    figure = new_figure(5.2, 1.1 + 0.29 * K)
    axes = plain(figure.add_subplot(), "x")
    low = np.minimum(scores.precision, scores.recall)[order]
    high = np.maximum(scores.precision, scores.recall)[order]
    axes.hlines(rows, low, high, color="#BBBBBB", linewidth=3, zorder=1)
    for values, name, color, mark in (
        (scores.precision, "precision", BLUE, "o"),
        (scores.recall, "recall", ORANGE, "s"),
        (scores.f1, "F1", "#222222", "|"),
    ):
        size = 150 if mark == "|" else 34
        axes.scatter(values[order], rows, s=size, color=color, marker=mark, label=name, zorder=2)
    axes.set_yticks(rows, [names[i] for i in order])
    axes.tick_params(axis="y", length=0)
    axes.set_ylim(-0.7, K - 0.3)
    lowest = max(0.0, np.floor(10 * float(low.min()) - 0.3) / 10)
    axes.set_xlim(lowest, 1.01)
    axes.xaxis.set_major_formatter("{x:.0%}")
    figure.legend(loc="outside upper center", ncols=3, frameon=False)
    return figure
