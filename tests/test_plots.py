"""Plots: that they show what they were given.  What they look like was looked at."""

import sys

import numpy as np
import pytest

from minicnn import plots
from minicnn.run import Epoch


def epochs(validation=True):
    return [
        Epoch(n, 2 / n, n / 4, 2.1 / n if validation else None, n / 5 if validation else None,
              1e-3, 1.0, 100.0)
        for n in (1, 2, 3)
    ]  # fmt: skip


def drawn(monkeypatch):
    """Return the list that figures are put into instead of being forgotten."""
    figures = []
    write = plots.write
    monkeypatch.setattr(plots, "write", lambda f, path: figures.append(f) or write(f, path))
    return figures


@pytest.mark.parametrize("validation", [True, False])
def test_training_curves_draws_every_series(tmp_path, monkeypatch, validation):
    pytest.importorskip("matplotlib")
    figures = drawn(monkeypatch)
    path = plots.training_curves(epochs(validation), tmp_path / "new" / "curves.png")
    assert path.read_bytes().startswith(b"\x89PNG")
    loss, accuracy = figures[0].axes
    assert [list(line.get_ydata()) for line in loss.lines] == (
        [[2, 1, 2 / 3], [2.1, 1.05, 2.1 / 3]] if validation else [[2, 1, 2 / 3]]
    )
    assert len(accuracy.lines) == 1 + validation


def test_predictions_marks_right_and_wrong(tmp_path, monkeypatch):
    pytest.importorskip("matplotlib")
    figures = drawn(monkeypatch)
    x = np.zeros((3, 8, 8, 3), "uint8")
    scores = np.array([[0.9, 0.1], [0.2, 0.8], [0.6, 0.4]])
    plots.predictions(scores, x, np.array([0, 0, 0]), ("cat", "dog"), tmp_path / "page.png")
    titles = [axes.get_title() for axes in figures[0].axes]
    assert titles == ["cat 90%", "dog 80%", "cat 60%"]
    assert [axes.get_xlabel() for axes in figures[0].axes] == ["", "is cat", ""]


def test_plots_without_matplotlib_name_the_extra(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    with pytest.raises(ImportError, match=r"minicnn\[plot\]"):
        plots.training_curves(epochs(), tmp_path / "curves.png")
