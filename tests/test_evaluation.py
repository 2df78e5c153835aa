"""What `evaluate` returns."""

from __future__ import annotations

import json
from math import nan

import numpy as np
import pytest
from standin import installed

import minicnn as mc
from minicnn.evaluation import text

SHAPE = (8, 8, 3)


def net(classes=7):
    return mc.Sequential(
        mc.Normalize(0.5, 0.25), mc.Conv2D(4, 3), mc.ReLU(), mc.Flatten(), mc.Dense(classes)
    )


def pictures(n=50, classes=7):
    rng = np.random.default_rng(5)
    return rng.integers(0, 256, (n, *SHAPE)).astype("uint8"), rng.integers(0, classes, n)


def of(labels, logits, classes=()):
    labels, logits = np.array(labels), np.array(logits, dtype=float)
    right = float((logits.argmax(axis=1) == labels).mean())
    return mc.Evaluation(1.25, right, labels, [logits], classes)


# cat is called dog twice and cow once; nothing is called emu, and no picture is a cow.
LABELS, CALLED = [0, 0, 0, 0, 1, 1, 3], [0, 1, 1, 2, 1, 1, 0]
NAMES = ("cat", "dog", "cow", "emu")


def zoo(names=NAMES):
    return of(LABELS, 5 * np.eye(4)[CALLED], names)


def test_evaluate_says_what_predict_and_the_loss_say():
    x, y = pictures()
    model = net().build(SHAPE, seed=3)
    found = mc.evaluate(model, x, y, 16)
    p = mc.predict(model, x)
    np.testing.assert_allclose(found.probabilities, p, rtol=1e-5)
    np.testing.assert_array_equal(found.labels, y)
    np.testing.assert_array_equal(found.predicted, p.argmax(axis=1))
    assert dict(found) == {
        "loss": pytest.approx(-np.log(p[range(50), y]).mean(), rel=1e-5),
        "accuracy": (p.argmax(axis=1) == y).mean(),
        "top5": mc.metrics.top_k_accuracy(y, p, 5),
    }
    assert all(type(value) is float for value in found.values())
    assert found.confusion.sum() == 50 and np.trace(found.confusion) == 50 * found["accuracy"]
    assert found.classes == tuple(f"class {i}" for i in range(7)) and found.k == 5


def test_evaluate_takes_rows_in_their_order_and_keeps_its_own_labels():
    x, y = pictures()
    model, rows = net().build(SHAPE, seed=3), np.array([40, 3, 3, 11])
    found = mc.evaluate(model, x, y, indices=rows)
    whole = mc.evaluate(model, x, y)
    expected = y[rows].copy()
    y[:] = 0
    np.testing.assert_array_equal(found.labels, expected)
    assert whole.labels.any()
    np.testing.assert_allclose(found.probabilities, mc.predict(model, x[rows]), rtol=1e-5)


def test_evaluate_takes_the_likeliest_class_of_distributions():
    x, y = pictures()
    model = net().build(SHAPE, seed=3)
    soft = 0.6 * np.eye(7, dtype="float32")[y] + np.float32(0.4 / 7)
    hard, found = mc.evaluate(model, x, y), mc.evaluate(model, x, soft)
    np.testing.assert_array_equal(found.labels, y)
    assert found["accuracy"] == hard["accuracy"] and found["loss"] != hard["loss"]
    np.testing.assert_array_equal(found.confusion, hard.confusion)


def test_evaluate_takes_other_losses_and_the_models_names():
    x, y = pictures()
    model = net().build(SHAPE, seed=3)
    model.classes = tuple("abcdefg")
    found = mc.evaluate(model, x, y, loss=mc.MeanSquaredError())
    one_hot = np.eye(7)[y]
    assert found["loss"] == pytest.approx(((model.forward(x) - one_hot) ** 2).mean(), rel=1e-5)
    assert found.classes == tuple("abcdefg")


def test_evaluation_is_a_mapping_that_cant_be_changed():
    found = zoo()
    assert len(found) == 3 and list(found) == ["loss", "accuracy", "top5"]
    assert found.get("f1") is None and "confusion" not in found
    with pytest.raises(KeyError, match="labels"):
        found["labels"]
    with pytest.raises(TypeError):
        found["loss"] = 0.0
    assert {**found} == found and found == zoo()
    assert repr(found) == "<Evaluation of 7 pictures: loss 1.2500, accuracy 0.4286>"


def test_zero_by_zero_counts_as_zero_and_is_said():
    found = zoo()
    assert found.scores.undefined == ((3,), (2,), ())
    assert found.scores.precision.tolist() == [0.5, 0.5, 0.0, 0.0]
    assert found.scores.recall.tolist() == [0.25, 1.0, 0.0, 0.0]
    lines = str(found).splitlines()
    assert "0/0 counted as 0: precision of emu (never called so)" in lines
    assert "0/0 counted as 0: recall of cow (no picture of it)" in lines
    said = found.as_dict()["undefined"]
    assert said == {"precision": ["emu"], "recall": ["cow"], "f1": []}


def test_table_shows_all_of_it():
    lines = str(zoo()).splitlines()
    assert lines[0] == "loss 1.2500   accuracy 42.86 %   top-4 100.00 %   7 pictures"
    assert "cat               0.5000   0.2500   0.3333          4          2" in lines
    assert "micro mean        0.4286   0.4286   0.4286" in lines
    assert "  cat called dog       2   50.0 %" in lines
    start = lines.index(next(line for line in lines if line.startswith("confusion matrix")))
    assert lines[start + 1 : start + 6] == [
        "      0 1 2 3", "0 cat 1 2 1 .", "1 dog . 2 . .", "2 cow . . . .", "3 emu 1 . . .",
    ]  # fmt: skip
    assert "  0.933 - 1.000         7            0.9802     0.4286" in lines


def test_table_fits_80_columns_in_wide_letters():
    names = [chr(0x4E00 + i) * 9 for i in range(12)]  # 18 cells each
    shown = str(of([0, 1], np.eye(12)[[0, 1]], names)).splitlines()
    assert max(map(text.width, shown)) <= 80
    said = " ".join(line.strip() for line in shown)
    missing = ", ".join(names[2:])
    assert f"precision of {missing} (never called so)" in said


def test_table_without_a_mistake_has_no_mistakes():
    assert "most confused" not in str(of([0, 1], 5 * np.eye(2)))


@pytest.mark.parametrize(("K", "n"), [(2, 10), (10, 40_000), (20, 3000), (21, 100), (300, 900)])
def test_table_fits_80_columns(K, n):
    rng = np.random.default_rng(K)
    names = [f"{'long name ' * 5}{i}" for i in range(K)]
    found = of(rng.integers(0, K, n), rng.standard_normal((n, K)), names)
    lines = str(found).splitlines()
    assert max(map(len, lines)) <= 80
    assert ("lowest F1" in str(found)) == (K > 100)
    assert ("don't fit here" in str(found)) == (K > 20)
    if K == 20:
        assert len([line for line in lines if line[2:].startswith(" long")]) == K == 20


def test_confusion_matrix_in_percent_where_counts_are_too_wide():
    counts = np.diag(np.full(20, 1000))
    counts[3, 5], counts[4, 5] = 250, 1
    labels = np.repeat(np.arange(20), counts.sum(axis=1))
    called = np.concatenate([np.repeat(np.arange(20), row) for row in counts])
    shown = str(of(labels, np.eye(20)[called]))
    assert "confusion matrix: % of a true class (row)" in shown
    rows = [line for line in shown.splitlines() if line[:3] in (" 3 ", " 4 ")]
    assert rows == [
        " 3 class 3" + " " * 11 + "80    20",
        " 4 class 4" + " " * 13 + "100",  # and one of 1001 called 5
    ]


@pytest.mark.parametrize(
    ("name", "cells"),
    [("cat", 3), ("Flugzeug", 8), ("猫", 2), ("e\u0301te\u0301", 3), ("кот", 3), ("犬cat", 5)],
)
def test_names_take_the_cells_that_they_take(name, cells):
    assert text.width(name) == cells
    assert text.left(name, 10) == name + " " * (10 - cells)
    assert text.right(name, 10) == " " * (10 - cells) + name


def test_long_names_are_cut_visibly():
    assert text.cut("automobile", 10) == "automobile"
    assert text.cut("automobile", 9) == "automob.."
    assert text.left("猫猫猫猫猫", 8) == "猫猫猫.."
    assert text.left("猫猫猫猫猫", 7) == "猫猫.. " and text.width(text.left("猫猫猫猫猫", 7)) == 7


def test_names_cant_upset_a_terminal():
    shown = str(zoo(("cat\x1b[31m", "dog\n", "cow\u202e", "emu")))
    assert "\x1b" not in shown and "\u202e" not in shown
    assert r"cat\x1b[31m" in shown and r"dog\n" in shown


def test_numbers_that_arent_are_none_in_json_and_warn_of_nothing():
    found = mc.Evaluation(nan, 0.5, np.array([0, 1]), [np.array([[nan, nan], [0.0, 1.0]])])
    said = json.loads(json.dumps(found.as_dict(), allow_nan=False))
    assert said["loss"] is None and said["calibration"]["ece"] is None
    assert said["top5"] == 0.5 and said["confusion"] == [[1, 0], [0, 1]]
    assert "loss nan" in str(found)


def test_calibration_by_hand():
    p = np.array([[0.9, 0.1], [0.8, 0.2], [0.4, 0.6], [0.5, 0.5]])
    found = mc.metrics.calibration(np.array([0, 1, 1, 1]), p, 2)  # 0.5 belongs to the lower bin
    assert found.edges.tolist() == [0, 0.5, 1] and found.count.tolist() == [1, 3]
    np.testing.assert_allclose(found.confidence, [0.5, 2.3 / 3])
    np.testing.assert_allclose(found.accuracy, [0, 2 / 3])
    assert found.ece == pytest.approx(0.25 * 0.5 + 0.75 * 0.1)
    assert found.mce == pytest.approx(0.5) and found.mean_confidence == pytest.approx(0.7)


@pytest.mark.parametrize(
    ("labels", "p", "bins", "said"),
    [
        ([0], [[0.5, 0.5], [0.5, 0.5]], 15, r"\(1,\) labels, probabilities \(2, 2\)"),
        ([0], [[3.0, -1.0]], 15, "expected probabilities, got numbers from -1.0 to 3.0"),
        ([0], [[0.5, 0.5]], 0, "bins 0: expected an integer >= 1"),
        ([], np.zeros((0, 2)), 15, "calibration"),
    ],
)
def test_calibration_refuses(labels, p, bins, said):
    with pytest.raises(ValueError, match=said):
        mc.metrics.calibration(np.array(labels, int), np.array(p), bins)


@pytest.mark.parametrize(
    ("matrix", "zero", "said"),
    [
        (np.zeros((2, 3), int), 0, r"\(2, 3\) int64: expected \(K, K\) counts"),
        (np.zeros((2, 2)), 0, "float64: expected"),
        (np.eye(2, dtype=int), 0.5, "zero_division 0.5: expected 0, 1 or NaN"),
    ],
)
def test_scores_refuse(matrix, zero, said):
    with pytest.raises(ValueError, match=said):
        mc.metrics.precision_recall_f1(matrix, zero)


def test_most_confused_refuses():
    with pytest.raises(ValueError, match="n 0: expected"):
        zoo().confused(0)


# Validation costs what it did.


def test_evaluate_computes_only_what_is_asked_for():
    x, y = pictures()
    found = mc.evaluate(net().build(SHAPE), x, y, 16)
    lazy = {"logits", "probabilities", "predicted", "top5", "confusion", "scores", "calibration"}
    assert found["loss"] > 0 and found["accuracy"] >= 0
    assert lazy.isdisjoint(vars(found))
    assert found.scores.f1.shape == (7,) and {"confusion", "logits"} <= set(vars(found))


def test_fit_computes_no_more_than_loss_and_accuracy(monkeypatch):
    found = []
    evaluate = mc.fitting.evaluate
    monkeypatch.setattr(
        mc.fitting, "evaluate", lambda *a, **o: found.append(evaluate(*a, **o)) or found[-1]
    )
    x, y = pictures()
    options = {"epochs": 2, "validation": (x, y), "progress": False}
    records = list(mc.fit(net().build(SHAPE), x, y, optimizer=mc.Adam(), **options))
    assert [record.val_loss for record in records] == [scores["loss"] for scores in found]
    assert all("logits" not in vars(scores) for scores in found)


def test_evaluate_waits_for_a_gpu_at_its_end_alone():
    x, y = pictures(60)
    with installed() as cupy:
        model = net().build(SHAPE, seed=3, device="gpu")
        waits = []
        for size in (60, 5):
            before = cupy.counts.synchronizations
            found = mc.evaluate(model, x, y, size)
            waits.append(cupy.counts.synchronizations - before)
        assert waits == [2, 2]  # for the loss, and for the right answers
        before = cupy.counts.synchronizations
        on_cpu = mc.evaluate(net().build(SHAPE, seed=3), x, y)
        np.testing.assert_allclose(found.probabilities, on_cpu.probabilities, rtol=1e-4)
        np.testing.assert_array_equal(found.confusion, on_cpu.confusion)
        assert str(found) and cupy.counts.synchronizations == before + 1  # for the logits
