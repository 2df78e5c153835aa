"""Curves: of a training, and of `find_lr`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from .figure import BLUE, GREEN, ORANGE, new_figure, plain

if TYPE_CHECKING:
    from ..run import Epoch

MARKED = 40
"""Epochs of which each has its mark; with more, a line is enough."""


def training_curves(epochs: Sequence[Epoch], columns: int = 3) -> Any:
    """Draw loss, accuracy and learning rate over the epochs, and return the figure.

    epochs: the records of `fit`.  Validation, where there was one, is dashed.  columns: 3, side by
    side, or 1, one above the other.
    """
    if not epochs or columns not in (1, 3):
        raise ValueError(
            f"training_curves: {len(epochs)} epochs, {columns} columns: expected at least one "
            "epoch, and 1 or 3 columns"
        )
    figure = new_figure(11, 3.4) if columns == 3 else new_figure(4.2, 8.4)
    mark = "o" if len(epochs) <= MARKED else ""
    for i, name in enumerate(("loss", "accuracy", "lr")):
        axes = plain(figure.add_subplot(3 // columns, columns, 1 + i))
        series = [("training", BLUE, "-", name), ("validation", ORANGE, "--", f"val_{name}")]
        if name == "lr":
            series = [("", GREEN, "-", name)]
        for title, color, style, field in series:
            known = [e for e in epochs if getattr(e, field) is not None]
            if known:
                values = [getattr(e, field) for e in known]
                line = {"ls": style, "color": color, "marker": mark, "markersize": 4}
                axes.plot([e.epoch for e in known], values, label=title, **line)
        axes.set_title("learning rate, at the end" if name == "lr" else name, fontsize=11)
        axes.set_xlabel("epoch")
        axes.xaxis.get_major_locator().set_params(integer=True, min_n_ticks=1)
        if len(epochs) == 1:
            axes.set_xlim(epochs[0].epoch - 1, epochs[0].epoch + 1)
        if name == "lr":
            axes.set_ylim(bottom=0)
            axes.ticklabel_format(axis="y", scilimits=(-3, 3))
        else:
            axes.legend(frameon=False)
        if name == "accuracy":
            axes.yaxis.set_major_formatter(lambda share, _: f"{round(100 * share, 3):g}%")
    return figure


def range_test(
    rates: np.ndarray, losses: np.ndarray, smoothed: np.ndarray, suggestion: float | None
) -> Any:
    """Draw what `find_lr` found, losses over learning rates, and return the figure."""
    figure = new_figure(6, 3.6)
    axes = plain(figure.add_subplot())
    axes.plot(rates, losses, color=BLUE, alpha=0.35, linewidth=1, label="loss")
    axes.plot(rates, smoothed, color=BLUE, label="smoothed")
    if suggestion is not None:
        axes.axvline(suggestion, color=ORANGE, ls="--", label=f"suggested: {suggestion:.3g}")
    axes.set_xscale("log")
    axes.set_ylim(0.9 * min(smoothed), 1.1 * max(smoothed[0], 1.5 * min(smoothed)))
    axes.set_xlabel("learning rate")
    axes.set_ylabel("loss")
    axes.legend(frameon=False)
    return figure
