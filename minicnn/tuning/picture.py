"""The picture of a search: the accuracy of every trial over each of its parameters."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from ..plots import new_figure
from ..plots.figure import BLUE, ORANGE, plain
from ..plots.figure import label as literal
from .settings import Value
from .space import Choices, Numbers, Range

if TYPE_CHECKING:
    from .results import Results, Trial

COMPLETE, PRUNED, BEST = BLUE, ORANGE, "#111111"
COLUMNS = 3
ASIDE = 0.12
"""How far trials of one choice lie apart, of the distance between two choices."""


def draw(results: Results) -> Any:
    """Return a figure of one panel for each parameter.

    Discs are complete trials, crosses pruned ones, at the accuracy when they were given up, or at
    the bottom if they have none; a ring is around the best.  A title has the rank correlation of a
    number with the accuracy of complete trials (Spearman 1904), where there are at least four.
    Raises ValueError if no trial has been judged, ImportError without matplotlib.
    """
    judged = [t for t in results.trials if t.state in ("complete", "pruned")]
    if not judged:
        raise ValueError(f"study {results.study!r} has no trial that could be drawn")
    columns = min(COLUMNS, len(results.space))
    rows = -(-len(results.space) // columns)
    figure = new_figure(max(3.4 * columns, 6), 2.9 * rows + 0.8)
    lowest = min((t.accuracy for t in judged if t.accuracy is not None), default=0.0)
    for place, (name, found) in enumerate(results.space.items(), start=1):
        axes = plain(figure.add_subplot(rows, columns, place))
        panel(axes, name, found, judged, results.best, lowest)
        if place % columns == 1 or columns == 1:
            axes.set_ylabel("accuracy, held-out pictures")
    figure.suptitle(f"study {literal(results.study)}: {results.count('complete')} complete trials, "
                    f"{results.count('pruned')} pruned", fontsize=11)  # fmt: skip
    handles, labels = figure.axes[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=len(labels), frameon=False)
    return figure


def panel(
    axes: Any,
    name: str,
    found: Range,
    judged: list[Trial],
    best: Trial | None,
    lowest: float,
) -> None:
    """Draw the trials over one parameter."""
    for state, color, marker in (("complete", COMPLETE, "o"), ("pruned", PRUNED, "x")):
        mine = [t for t in judged if t.state == state and name in t.values]
        across = [position(found, t.values[name], t.number) for t in mine]
        up = [lowest if t.accuracy is None else t.accuracy for t in mine]
        axes.scatter(across, up, s=30, color=color, marker=marker, alpha=0.85, label=state)
    if best is not None and name in best.values and best.accuracy is not None:
        place = position(found, best.values[name], best.number)
        ring = {"facecolors": "none", "edgecolors": BEST, "linewidths": 1.5}
        axes.scatter([place], [best.accuracy], s=110, **ring, label="best")
    if isinstance(found, Choices):
        axes.set_xticks(range(len(found.values)), [label(v) for v in found.values], fontsize=8)
        axes.set_xlim(-0.5, len(found.values) - 0.5)
    elif found.log:
        axes.set_xscale("log")
    axes.set_title(f"{name}{correlation(found, name, judged)}", fontsize=10)


def position(found: Range, value: Value, number: int) -> float:
    """Return where a value lies; trials of one choice lie side by side."""
    if isinstance(found, Choices):
        return found.values.index(value) + ASIDE * (number % 5 - 2)
    return float(value)


def label(value: Value) -> str:
    """Return a choice's name on the axis, in lines."""
    return literal(str(value), 60).replace("+", "\n+")


def correlation(found: Range, name: str, judged: list[Trial]) -> str:
    """Return ", rank correlation 0.50" for a number that enough trials tell about, else ""."""
    complete = [t for t in judged if t.state == "complete" and name in t.values]
    numbers = isinstance(found, Numbers) or not any(isinstance(v, str) for v in found.values)
    if not numbers or len(complete) < 4:
        return ""
    a = ranks(np.array([float(t.values[name]) for t in complete]))
    b = ranks(np.array([t.accuracy or 0.0 for t in complete]))
    if np.ptp(a) == 0 or np.ptp(b) == 0:
        return ""
    return f", rank correlation {np.corrcoef(a, b)[0, 1]:+.2f}"


def ranks(values: np.ndarray) -> np.ndarray:
    """Return the rank of each value, (N,) float64; equal ones share the mean of theirs."""
    below = (values[:, None] > values).sum(axis=1)
    return below + ((values[:, None] == values).sum(axis=1) - 1) / 2
