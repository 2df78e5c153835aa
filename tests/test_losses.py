from __future__ import annotations

from math import log

import numpy as np
import pytest

import minicnn as mc

LOGITS = np.random.default_rng(0).standard_normal((4, 3))
LABELS = np.array([0, 2, 1, 2])


def textbook(logits, labels, smoothing=0.0, weight=None):
    """The definition, number by number."""
    N, K = logits.shape
    total = 0.0
    for n in range(N):
        p = np.exp(logits[n]) / np.exp(logits[n]).sum()
        one_hot = labels[n] if np.ndim(labels[n]) else np.eye(K)[labels[n]]
        target = one_hot * (1 - smoothing) + smoothing / K
        total -= (1 if weight is None else one_hot @ weight) * (target * np.log(p)).sum() / N
    return total


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
@pytest.mark.parametrize("weight", [None, (1.0, 2.0, 0.5)])
@pytest.mark.parametrize("labels", [LABELS, np.eye(3)[LABELS] * 0.7 + 0.1])
def test_cross_entropy_is_the_definition(smoothing, weight, labels):
    loss = mc.CrossEntropy(smoothing, weight)
    value, dlogits = loss(LOGITS, labels)
    expected = textbook(LOGITS, labels, smoothing, None if weight is None else np.array(weight))
    assert value.shape == () and float(value) == pytest.approx(expected, rel=1e-12)
    h = 1e-6
    for index in np.ndindex(LOGITS.shape):
        moved = LOGITS.copy()
        moved[index] += h
        up = float(loss(moved, labels)[0])
        moved[index] -= 2 * h
        assert dlogits[index] == pytest.approx((up - float(loss(moved, labels)[0])) / (2 * h), 1e-6)


def test_cross_entropy_of_a_guess_is_log_k():
    value, dlogits = mc.CrossEntropy()(np.zeros((2, 10)), np.array([3, 7]))
    assert float(value) == pytest.approx(log(10))
    np.testing.assert_allclose(dlogits.sum(axis=1), 0, atol=1e-15)


def test_mean_squared_error_makes_one_hot_targets():
    value, dlogits = mc.MeanSquaredError()(LOGITS, LABELS)
    difference = LOGITS - np.eye(3)[LABELS]
    assert float(value) == pytest.approx((difference**2).mean())
    np.testing.assert_allclose(dlogits, 2 * difference / 12)
    targets = np.random.default_rng(1).random((4, 3))
    value, _ = mc.MeanSquaredError()(LOGITS, targets)
    assert float(value) == pytest.approx(((LOGITS - targets) ** 2).mean())


@pytest.mark.parametrize("loss", [mc.CrossEntropy(0.1, (1, 2, 3)), mc.MeanSquaredError()])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_loss_keeps_dtype_and_arguments(loss, dtype):
    logits, labels = LOGITS.astype(dtype), LABELS.copy()
    value, dlogits = loss(logits, labels)
    assert value.dtype == dlogits.dtype == dtype
    np.testing.assert_array_equal(logits, LOGITS.astype(dtype))
    np.testing.assert_array_equal(labels, LABELS)


@pytest.mark.parametrize("loss", [mc.CrossEntropy(), mc.MeanSquaredError()])
@pytest.mark.parametrize(
    ("labels", "text"),
    [
        (np.array([0, 1, 2, 3]), "class ids from 0 to 2, got 0 to 3; does the model's last layer"),
        (np.array([0, 1, -1, 2]), "got -1 to 2"),
        (np.array([0, 1]), r"expected \(4,\) integer class ids, or \(4, 3\) float .* got \(2,\)"),
        (LABELS.astype(float), r"got \(4,\) float64"),
        (LABELS > 0, r"got \(4,\) bool"),
    ],
)
def test_loss_refuses_labels(loss, labels, text):
    with pytest.raises(ValueError, match=text):
        loss(LOGITS, labels)


@pytest.mark.parametrize(
    ("labels", "text"),
    [
        (np.eye(3, dtype=int)[LABELS], r"or \(4, 3\) float distributions, got \(4, 3\) int64"),
        (np.ones((4, 5)), r"or \(4, 3\) float distributions, got \(4, 5\) float64"),
        (LABELS[:, None], r"got \(4, 1\) int64; take labels\[:, 0\]"),
    ],
)
def test_cross_entropy_refuses_targets(labels, text):
    with pytest.raises(ValueError, match=text):
        mc.CrossEntropy()(LOGITS, labels)


def test_mean_squared_error_refuses_targets():
    with pytest.raises(ValueError, match="take labels"):
        mc.MeanSquaredError()(LOGITS, LABELS[:, None])


@pytest.mark.parametrize("value", [-0.1, 1.0, 2])
def test_label_smoothing_is_a_share(value):
    with pytest.raises(ValueError, match=r"label_smoothing .*: expected a number >= 0 and < 1"):
        mc.CrossEntropy(value)


def test_class_weight_needs_one_for_each_class():
    with pytest.raises(ValueError, match="class_weight has 2 numbers, the model 3 classes"):
        mc.CrossEntropy(class_weight=(1, 2))(LOGITS, LABELS)
