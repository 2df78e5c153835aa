"""The table that an evaluation prints: 80 columns."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import numpy as np

from ..metrics.by_class import AVERAGES, FIGURES
from .text import cut, left, printable, right, width

if TYPE_CHECKING:
    from .result import Evaluation

WIDTH = 80
MOST_CLASSES = 100  # that are listed
MOST_COLUMNS = 20  # of the confusion matrix
CONFUSED = 10


def table(found: Evaluation) -> str:
    """Return everything about an evaluation that fits a terminal."""
    names = [printable(name) for name in found.classes]
    parts = [headline(found), per_class(found, names)]
    if wrong := found.confused(CONFUSED):
        parts.append(confused(wrong, names, found.scores.support))
    parts += [matrix(found.confusion, names), reliability(found)]
    return "\n\n".join("\n".join(part) for part in parts)


def headline(found: Evaluation) -> Iterator[str]:
    """Yield the figures of all pictures."""
    yield (
        f"loss {found.loss:.4f}   accuracy {100 * found.accuracy:.2f} %   "
        f"top-{found.k} {100 * found.top5:.2f} %   {len(found.labels):,} pictures"
    )


def per_class(found: Evaluation, names: list[str]) -> Iterator[str]:
    """Yield precision, recall and F1 of each class and their means, and where they were 0/0."""
    scores, K = found.scores, len(names)
    cells = min(max(width(name) for name in (*names, "weighted mean")), 28)
    yield left("class", cells) + "  precision   recall       F1   pictures     called"

    def line(name: str, figures: list[float], *counts: int) -> str:
        precision, recall, f1 = figures
        text = f"{left(name, cells)}  {precision:9.4f}{recall:9.4f}{f1:9.4f}"
        return text + "".join(f"{count:11,}" for count in counts)

    shown = range(K) if K <= MOST_CLASSES else np.argsort(scores.f1, kind="stable")[:MOST_COLUMNS]
    for i in shown:
        figures = [float(getattr(scores, name)[i]) for name in FIGURES]
        yield line(names[i], figures, int(scores.support[i]), int(scores.called[i]))
    if len(shown) < K:
        yield f"(the {len(shown)} of the lowest F1; as_dict, --json have all {K})"
    for kind in AVERAGES:
        yield line(f"{kind} mean", list(scores.average(kind).values()))
    reasons = zip(
        ("precision", "recall"),
        ("never called so", "no picture of it"),
        scores.undefined,
        strict=False,
    )
    for figure, why, ids in reasons:
        if ids:
            some = ", ".join(cut(names[i], 32) for i in ids[:MOST_COLUMNS])
            more = f" and {len(ids) - MOST_COLUMNS} more" if len(ids) > MOST_COLUMNS else ""
            yield from wrapped(f"0/0 counted as 0: {figure} of {some}{more} ({why})")


def wrapped(text: str) -> Iterator[str]:
    """Yield the lines of a text, cut between its words."""
    line = ""
    for word in text.split(" "):
        if line and width(f"{line} {word}") > WIDTH:
            yield line
            line = "  " + word
        else:
            line = f"{line} {word}" if line else word
    yield line


def confused(
    pairs: list[tuple[int, int, int]], names: list[str], support: np.ndarray
) -> Iterator[str]:
    """Yield the commonest mistakes."""
    first = min(max(width(names[i]) for i, _, _ in pairs), 26)
    second = min(max(width(names[j]) for _, j, _ in pairs), 26)
    yield "most confused, and what share that is of the class's pictures"
    for i, j, count in pairs:
        share = 100 * count / support[i]
        yield f"  {left(names[i], first)} called {left(names[j], second)}{count:8,}{share:7.1f} %"


def matrix(counts: np.ndarray, names: list[str]) -> Iterator[str]:
    """Yield the confusion matrix, in percent of its rows where the counts are too wide."""
    K = len(names)
    if K > MOST_COLUMNS:
        yield f"confusion matrix: {K} x {K} don't fit here; as_dict, --json have it"
        return
    number = len(str(K - 1))
    title = "confusion matrix: rows are true classes, columns what they were called"
    cell, shown, nothing = max(len(str(counts.max())), number) + 1, counts, "."
    if number + 9 + K * cell > WIDTH:
        title = "confusion matrix: % of a true class (row) called so (column); blank: under 0.5"
        sums = np.maximum(counts.sum(axis=1, keepdims=True), 1)
        shown, nothing = np.rint(100 * counts / sums).astype(int), ""
        cell = 4 if number + 9 + K * 4 <= WIDTH else 3
    cells = min(max(map(width, names)), WIDTH - number - 1 - K * cell)
    yield title
    yield " " * (number + 1 + cells) + "".join(f"{j:{cell}}" for j in range(K))
    for i, (name, row) in enumerate(zip(names, shown, strict=True)):
        numbers = "".join(right(str(one) if one else nothing, cell) for one in row)
        yield f"{i:{number}} {left(name, cells)}{numbers}".rstrip()


def reliability(found: Evaluation) -> Iterator[str]:
    """Yield confidence and accuracy, bin by bin."""
    bins = found.calibration
    yield (
        f"calibration: expected error (ECE) {bins.ece:.4f}, in {len(bins.count)} bins; "
        f"mean confidence {bins.mean_confidence:.4f}"
    )
    yield "  confidence     pictures   mean confidence   accuracy"
    for m in np.flatnonzero(bins.count):
        yield (
            f"  {bins.edges[m]:.3f} - {bins.edges[m + 1]:.3f}{bins.count[m]:10,}"
            f"{bins.confidence[m]:18.4f}{bins.accuracy[m]:11.4f}"
        )
