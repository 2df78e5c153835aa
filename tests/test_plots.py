"""Plots: that they show what they were given.  What they look like was looked at."""

import sys
from types import SimpleNamespace

import numpy as np
import pytest

import minicnn as mc
from minicnn import plots
from minicnn.run import Epoch

ODD = ("$x_1$ & $y", "a_b^c{", "\\frac{1}{2}$", "漢字", "line\nbreak\x00", "", "<b>x</b>", "w" * 70)
GREEN, RED = "#00734F", "#B8360B"


@pytest.fixture(autouse=True)
def matplotlib():
    return pytest.importorskip("matplotlib")


def epochs(validation=True):
    return [
        Epoch(n, 2 / n, n / 4, 2.1 / n if validation else None, n / 5 if validation else None,
              1e-3 / n, 1.0, 100.0)
        for n in (1, 2, 3)
    ]  # fmt: skip


def pictures(n, shape=(8, 8, 3)):
    return np.random.default_rng(0).integers(0, 256, (n, *shape), "uint8")


def scores(n, K, seed=0):
    values = np.random.default_rng(seed).random((n, K)) + 1e-3
    return values / values.sum(axis=1, keepdims=True)


def counts(K):
    rng = np.random.default_rng(K)
    return rng.integers(0, 20, (K, K)) + np.diag(rng.integers(50, 90, K))


def calibration(bins=10):
    edges = np.linspace(0, 1, bins + 1)
    middle = (edges[1:] + edges[:-1]) / 2
    count = np.arange(bins) * 30
    nan = np.where(count > 0, middle, np.nan)
    return SimpleNamespace(edges=edges, confidence=nan, accuracy=nan**2, count=count, ece=0.1234)


def convolution(C=3, O=10):
    return mc.Sequential(mc.Conv2D(O, 3)).build((8, 8, C))[0]


def texts(axes):
    """The texts of a cell of a page, as they are seen."""
    seen = [axes.get_title(), axes.get_xlabel()]
    return [text.replace(r"\$", "$") for text in seen]


def everything():
    """Every kind of figure, names and numbers as inconvenient as they may be."""
    K = len(ODD)
    x, y = pictures(9), np.arange(9) % K
    some = mc.metrics.precision_recall_f1(counts(K))
    return {
        "curves": lambda: plots.training_curves(epochs()),
        "one epoch": lambda: plots.training_curves(epochs(False)[:1]),
        "rates": lambda: plots.range_test(np.geomspace(1e-3, 1, 4), *np.ones((2, 4)), 0.01),
        "grid": lambda: plots.image_grid(x, y, ODD, columns=4),
        "grey grid": lambda: plots.image_grid(pictures(3, (28, 20, 1))),
        "predictions": lambda: plots.predictions(scores(9, K), x, y, ODD),
        "one": lambda: plots.predictions(scores(1, K), x[:1], y[:1], ODD),
        "errors": lambda: plots.misclassified(scores(9, K), x, y, ODD),
        "two classes": lambda: plots.confusion_matrix(counts(2), ODD[-2:]),
        "confusion": lambda: plots.confusion_matrix(counts(K), ODD, "true"),
        "many classes": lambda: plots.confusion_matrix(
            counts(60), [f"the long name of class {i}" for i in range(60)], "predicted"
        ),
        "reliability": lambda: plots.reliability(calibration()),
        "scores": lambda: plots.class_scores(some, ODD),
        "filters": lambda: plots.filters(convolution()),
        "one filter": lambda: plots.filters(convolution(1, 1)),
        "maps": lambda: plots.feature_maps(scores(64, 30).reshape(8, 8, 30), x[0]),
        "explanations": lambda: plots.explanations(
            x[:3], {"Grad-CAM": x[:3], "sal$i$": scores(24, 8).reshape(3, 8, 8)}, ODD[:3]
        ),
    }


@pytest.mark.parametrize("name", everything())
def test_figure_is_whole(name):
    """No text sticks out of a figure, and none is a formula."""
    from matplotlib.text import Text

    figure = everything()[name]()
    figure.draw_without_rendering()
    box, (width, height) = figure.get_tightbbox(), figure.get_size_inches()
    assert box.x0 >= 0 and box.y0 >= 0 and box.x1 <= width and box.y1 <= height
    for text in figure.findobj(Text):
        formula = text._preprocess_math(text.get_text())[1]
        assert not formula or r"\mathdefault{" in text.get_text()  # numbers at the axes


@pytest.mark.parametrize("validation", [True, False])
def test_training_curves_draws_every_series(validation):
    loss, accuracy, rate = plots.training_curves(epochs(validation)).axes
    assert [list(line.get_ydata()) for line in loss.lines] == (
        [[2, 1, 2 / 3], [2.1, 1.05, 2.1 / 3]] if validation else [[2, 1, 2 / 3]]
    )
    assert len(accuracy.lines) == 1 + validation
    assert list(rate.lines[0].get_ydata()) == [1e-3, 5e-4, 1e-3 / 3]


def test_training_curves_draws_validation_of_some_epochs():
    loss = plots.training_curves([epochs()[0], epochs(False)[1], epochs()[2]]).axes[0]
    assert list(loss.lines[1].get_xdata()) == [1, 3]


def test_predictions_marks_right_and_wrong():
    p = np.array([[0.9, 0.1], [0.2, 0.8], [0.6, 0.4]])
    figure = plots.predictions(p, pictures(3), np.array([0, 0, 0]), ("cat", "dog"))
    assert [texts(axes) for axes in figure.axes] == [
        ["✓ cat 90%", ""], ["✗ dog 80%", "is cat"], ["✓ cat 60%", ""]
    ]  # fmt: skip
    styles = [axes.spines["top"].get_linestyle() for axes in figure.axes]
    assert styles == ["-", "--", "-"]
    assert [axes.title.get_color() for axes in figure.axes] == [GREEN, RED, GREEN]
    np.testing.assert_array_equal(figure.axes[1].images[0].get_array(), pictures(3)[1])


def test_misclassified_begins_with_the_most_certain_error():
    p = np.array([[0.9, 0.1], [0.3, 0.7], [0.05, 0.95], [0.4, 0.6]])
    labels = np.array([0, 0, 0, 0])
    figure = plots.misclassified(p, pictures(4), labels, ("cat", "dog"), count=2)
    assert [texts(axes)[0] for axes in figure.axes] == ["✗ dog 95%", "✗ dog 70%"]
    figure = plots.misclassified(p[:1], pictures(1), labels[:1], ("cat", "dog"))
    assert not figure.axes and "none of 1" in figure.texts[0].get_text()


def test_image_grid_writes_the_names():
    figure = plots.image_grid(pictures(3), np.array([2, 0, 1]), ("a", "b", "c"))
    assert [texts(axes)[0] for axes in figure.axes] == ["c", "a", "b"]
    assert [texts(axes)[0] for axes in plots.image_grid(pictures(2)).axes] == ["", ""]


@pytest.mark.parametrize("normalize", [None, "true", "predicted"])
def test_confusion_matrix_writes_its_numbers(normalize):
    matrix = np.array([[90, 10, 0], [1, 399, 0], [0, 0, 0]])
    expected = {
        None: matrix,
        "true": [[90, 10, 0], [0.25, 99.75, 0], [0, 0, 0]],
        "predicted": [[98.9, 2.44, 0], [1.1, 97.56, 0], [0, 0, 0]],
    }[normalize]
    (axes,) = plots.confusion_matrix(matrix, ("a", "b", "c"), normalize).axes
    found = np.full((3, 3), np.nan)
    for text in axes.texts:
        j, i = text.get_position()
        assert np.isnan(found[i, j])
        found[i, j] = float(text.get_text())
    np.testing.assert_allclose(found, expected, atol=0.5)
    right, wrong = (image.get_array() for image in axes.images)
    np.testing.assert_allclose(np.diag(right), np.diag(expected), atol=0.01)
    assert np.isnan(np.ma.filled(np.diag(wrong), np.nan)).all()
    assert [label.get_text() for label in axes.get_yticklabels()] == ["a", "b", "c"]
    assert (axes.get_ylabel(), axes.get_xlabel()) == ("true", "predicted")


def test_confusion_matrix_of_many_classes_has_bars_for_numbers():
    figure = plots.confusion_matrix(counts(100), [str(i) for i in range(100)], "true")
    axes, *bars = figure.axes
    assert not axes.texts and len(bars) == 2
    assert len(axes.get_xticklabels()) == 100


def test_confusion_matrix_letters_can_be_read_on_their_cells():
    """Their contrast, as WCAG 2 measures it, is at least 4 to 1."""
    matrix = np.add.outer(np.arange(12), np.arange(12)) + 1
    (axes,) = plots.confusion_matrix(matrix, [str(i) for i in range(12)]).axes
    from matplotlib.colors import to_rgb

    def light(color):
        c = np.asarray(to_rgb(color))
        return np.where(c <= 0.04045, c / 12.92, ((c + 0.055) / 1.055) ** 2.4) @ (
            0.2126, 0.7152, 0.0722
        )  # fmt: skip

    def on_white(rgba):
        return 1 - rgba[3] * (1 - np.asarray(rgba[:3]))

    for text in axes.texts:
        j, i = text.get_position()
        image = axes.images[int(i != j)]
        pair = sorted([light(text.get_color()), light(on_white(image.to_rgba(matrix[i, j])))])
        assert (pair[1] + 0.05) / (pair[0] + 0.05) > 4


def test_reliability_leaves_out_empty_bins():
    above, below = plots.reliability(calibration()).axes
    assert len(above.patches) == len(below.patches) == 9
    assert above.patches[0].get_height() == pytest.approx(0.15**2)
    assert [bar.get_height() for bar in below.patches] == [30 * i for i in range(1, 10)]
    assert "0.123" in above.get_title()


def test_class_scores_are_sorted():
    matrix = np.array([[5, 5, 0], [0, 10, 0], [1, 0, 9]])
    found = mc.metrics.precision_recall_f1(matrix)
    (axes,) = plots.class_scores(found, ("a", "b", "c")).axes
    assert [label.get_text() for label in axes.get_yticklabels()] == ["a", "b", "c"]
    precision, recall, f1 = (axes.collections[i].get_offsets()[:, 0] for i in (1, 2, 3))
    np.testing.assert_allclose(precision, found.precision)
    np.testing.assert_allclose(recall, found.recall)
    np.testing.assert_allclose(f1, found.f1)


def test_filters_are_drawn_with_zero_as_grey():
    layer = convolution()
    layer.w[...] = 0
    layer.w[1, 2, 0, 3] = -2
    tile = plots.filters(layer).axes[3].images[0].get_array()
    assert tile[1, 2, 0] == 0 and (tile == 0.5).sum() == 26
    figure = plots.filters(layer, count=4)
    assert len(figure.axes) == 4 and "first 4 of 10" in figure.get_suptitle()


def test_feature_maps_draws_the_channels_that_vary():
    maps = np.zeros((4, 5, 6))
    maps[0, 0, 1], maps[0, 0, 4], maps[0, 0, 5] = 1, 3, 2
    figure = plots.feature_maps(maps, pictures(1)[0], count=2)
    assert [axes.get_title() for axes in figure.axes] == ["picture", "4", "5"]
    np.testing.assert_array_equal(figure.axes[1].images[0].get_array(), maps[:, :, 4])


def test_explanations_lie_below_their_pictures():
    x, heat = pictures(2), scores(16, 8).reshape(2, 8, 8)
    axes = plots.explanations(x, {"looked": heat}, ("a", "b")).axes
    np.testing.assert_array_equal(axes[1].images[0].get_array(), x[1])
    np.testing.assert_array_equal(axes[3].images[0].get_array(), heat[1])
    assert axes[3].images[0].get_clim() == (0, heat[1].max())
    assert [a.get_title() for a in axes[:2]] == ["a", "b"]
    assert axes[2].get_ylabel() == "looked"


def test_names_are_written_as_they_are():
    labels = [label.replace(r"\$", "$") for label in plots.figure.labels_of(ODD)]
    assert labels[:3] == list(ODD[:3])
    assert labels[3:6] == ["class 3", "line break", "class 5"] and labels[6] == ODD[6]
    assert len(labels[7]) == 24 and "…" in labels[7]


def small():
    """A figure that is soon drawn."""
    return plots.image_grid(pictures(2), np.arange(2), ("cat", "dog"))


@pytest.mark.parametrize("kind", ["png", "svg", "pdf"])
def test_save_writes_the_same_bytes_again(kind, tmp_path):
    a, b = (plots.save(small(), tmp_path / "new" / f"{n}.{kind}").read_bytes() for n in "ab")
    assert a == b and a.startswith({"png": b"\x89PNG", "svg": b"<?xml", "pdf": b"%PDF"}[kind])


def test_save_writes_whole_files_or_none(tmp_path, monkeypatch):
    path = tmp_path / "curves.png"
    path.write_bytes(b"before")
    monkeypatch.setattr("os.replace", lambda *a: (_ for _ in ()).throw(OSError(28, "full")))
    with pytest.raises(OSError, match="full"):
        plots.save(small(), path)
    assert path.read_bytes() == b"before" and list(tmp_path.iterdir()) == [path]
    with pytest.raises(ValueError, match=r"expected a name that ends in \.png, \.svg, \.pdf"):
        plots.save(small(), tmp_path / "curves.exe")


@pytest.mark.parametrize(
    ("draw", "text"),
    [
        (lambda: plots.training_curves([]), "at least one epoch"),
        (lambda: plots.predictions(scores(2, 3), pictures(3), np.zeros(3, int), "abc"), "3 pictur"),
        (lambda: plots.predictions(scores(3, 3), pictures(3), np.zeros(3, int), "ab"), "2 names"),
        (lambda: plots.predictions(scores(1, 2), pictures(1), np.array([2]), "ab"), "labels 2 to"),
        (lambda: plots.image_grid(pictures(0)), "at least 1"),
        (lambda: plots.image_grid(pictures(1), columns=0), "columns 0"),
        (lambda: plots.confusion_matrix(np.ones((2, 3)), "ab"), "expected .K, K."),
        (lambda: plots.confusion_matrix(counts(2), "ab", "all"), "normalize 'all'"),
        (lambda: plots.filters(convolution(4)), "1 or 3 channels"),
        (lambda: plots.filters(mc.ReLU()), "no such weights"),
        (lambda: plots.feature_maps(np.zeros(3)), r"expected \(h, w, C\)"),
        (lambda: plots.explanations(pictures(2), {"a": pictures(3)}), "a is"),
    ],
)
def test_plots_refuse_what_cant_be_drawn(draw, text):
    with pytest.raises(ValueError, match=text):
        draw()


def test_plots_without_matplotlib_name_the_extra(monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    with pytest.raises(ImportError, match=r"minicnn\[plot\]"):
        plots.training_curves(epochs())


def test_plots_leave_pyplot_alone(tmp_path):
    plots.save(small(), tmp_path / "a.png")
    assert (
        "matplotlib.pyplot" not in sys.modules or not sys.modules["matplotlib.pyplot"].get_fignums()
    )
