from __future__ import annotations

import numpy as np
import pytest

import minicnn as mc
from minicnn import metrics

RNG = np.random.default_rng(0)
LABELS = RNG.integers(0, 5, 300)
SCORES = RNG.standard_normal((300, 6)) + np.eye(6)[LABELS]  # class 5 never occurs
PREDICTED = SCORES[:, :5].argmax(axis=1)


@pytest.fixture
def oracle():
    return pytest.importorskip("sklearn.metrics", exc_type=ImportError)


def test_accuracy_by_hand():
    labels = np.array([0, 1, 2, 2])
    assert metrics.accuracy(labels, np.array([0, 1, 2, 0])) == 0.75
    assert metrics.accuracy(labels, np.eye(3)[[0, 0, 0, 2]]) == 0.5


def test_accuracy_is_that_of_scikit_learn(oracle):
    assert metrics.accuracy(LABELS, PREDICTED) == oracle.accuracy_score(LABELS, PREDICTED)


@pytest.mark.parametrize("predicted", [np.zeros(3, int), np.zeros((3, 2))])
def test_accuracy_refuses_other_lengths(predicted):
    with pytest.raises(ValueError, match=r"accuracy: labels \(4,\)"):
        metrics.accuracy(np.zeros(4, int), predicted)
    with pytest.raises(ValueError, match="accuracy"):
        metrics.accuracy(np.zeros(0, int), np.zeros(0, int))


@pytest.mark.parametrize("k", [1, 2, 5])
def test_top_k_is_that_of_scikit_learn(oracle, k):
    expected = oracle.top_k_accuracy_score(LABELS, SCORES, k=k, labels=range(6))
    assert metrics.top_k_accuracy(LABELS, SCORES, k) == pytest.approx(expected)


def test_top_k_by_hand():
    scores = np.array([[0.1, 0.2, 0.7], [0.5, 0.4, 0.1], [0.2, 0.5, 0.3]])
    labels = np.array([1, 2, 1])
    assert metrics.top_k_accuracy(labels, scores, 1) == pytest.approx(1 / 3)
    assert metrics.top_k_accuracy(labels, scores, 2) == pytest.approx(2 / 3)
    assert metrics.top_k_accuracy(labels, scores, 3) == 1.0


def test_top_k_counts_no_prediction_that_is_nan():
    scores = np.array([[np.nan] * 3, [0.1, 0.7, 0.2]])
    assert metrics.top_k_accuracy(np.array([0, 1]), scores, 2) == 0.5


def test_confusion_matrix_by_hand():
    matrix = metrics.confusion_matrix(np.array([0, 0, 1, 2]), np.array([0, 2, 1, 1]), 4)
    expected = [[1, 0, 1, 0], [0, 1, 0, 0], [0, 1, 0, 0], [0, 0, 0, 0]]
    np.testing.assert_array_equal(matrix, expected)
    assert matrix.dtype == np.int64


def test_confusion_matrix_bears_small_integers():
    labels = np.full(3, 99, "uint8")
    assert metrics.confusion_matrix(labels, labels, 100)[99, 99] == 3


def test_confusion_matrix_is_that_of_scikit_learn(oracle):
    matrix = metrics.confusion_matrix(LABELS, PREDICTED, 6)
    expected = oracle.confusion_matrix(LABELS, PREDICTED, labels=range(6))
    np.testing.assert_array_equal(matrix, expected)


@pytest.mark.parametrize(
    ("labels", "predicted", "text"),
    [
        ([0, 1], [0], "labels"),
        ([[0]], [[0]], "labels"),
        ([0, 3], [0, 1], "class ids from 0 to 3, but 3 classes"),
        ([0, 1], [-1, 1], "class ids from -1 to 1, but 3 classes"),
    ],
)
def test_confusion_matrix_refuses(labels, predicted, text):
    with pytest.raises(ValueError, match=text):
        metrics.confusion_matrix(np.array(labels), np.array(predicted), 3)


def test_precision_recall_f1_are_those_of_scikit_learn(oracle):
    predicted = np.where(PREDICTED == 3, 0, PREDICTED)  # class 3 is never called so
    ours = metrics.precision_recall_f1(metrics.confusion_matrix(LABELS, predicted, 6))
    theirs = oracle.precision_recall_fscore_support(
        LABELS, predicted, labels=range(6), zero_division=0
    )
    for a, b in zip((ours.precision, ours.recall, ours.f1, ours.support), theirs, strict=True):
        np.testing.assert_allclose(a, b)
    for kind in ("macro", "weighted"):
        expected = oracle.precision_recall_fscore_support(
            LABELS, predicted, labels=range(6), average=kind, zero_division=0
        )
        got = ours.average(kind)
        assert [got["precision"], got["recall"], got["f1"]] == pytest.approx(expected[:3])


def test_scores_average_refuses_other_words():
    scores = metrics.precision_recall_f1(np.eye(2, dtype=int))
    with pytest.raises(ValueError, match="average 'mean': expected one of 'macro', 'micro', 'weig"):
        scores.average("mean")


def test_meter_weighs_batches_by_their_size():
    meter = mc.Meter()
    assert meter.loss == meter.accuracy == 0.0
    meter.add(np.asarray(1.0, "float32"), np.eye(3)[[0, 1, 2]], np.array([0, 1, 0]))
    meter.add(np.asarray(5.0, "float32"), np.eye(3)[[2]], np.array([2]))
    assert meter.examples == 4 and meter.loss == pytest.approx(2.0) and meter.accuracy == 0.75


def test_meter_takes_distributions():
    meter = mc.Meter()
    meter.add(np.asarray(1.0), np.eye(3)[[0, 1]], np.array([[0.6, 0.4, 0], [0.6, 0.4, 0]]))
    assert meter.accuracy == 0.5


def test_meter_adds_in_float64():
    meter, loss = mc.Meter(), np.asarray(0.1, "float32")
    for _ in range(1000):
        meter.add(loss, np.eye(2)[[0]], np.array([0]))
    assert meter.loss == pytest.approx(float(loss), rel=1e-12)


def test_top_k_breaks_ties_as_argmax_does():
    scores = np.zeros((10, 10))
    assert mc.metrics.top_k_accuracy(np.arange(10), scores, 1) == 0.1
    assert mc.metrics.top_k_accuracy(np.arange(10), scores, 5) == 0.5
