"""Losses on the GPU equal the book's."""

from __future__ import annotations

import numpy as np
import pytest

from minicnn.functional import loss as book
from minicnn.kernels.cuda import loss as gpu
from minicnn.metrics import Meter

SIZES = [(1, 1), (1, 2), (5, 3), (128, 10), (300, 31), (7, 32), (3, 33), (4, 1000)]

each_size = pytest.mark.parametrize("N,K", SIZES)


def prepared(floor, rng, N, K, shares):
    logits = floor.exact(rng, (N, K)) * 3
    if not shares:
        return logits, rng.integers(0, K, N)
    labels = rng.dirichlet(np.ones(K), N).astype("float32").astype("float64")
    return logits, labels


def on_gpu(floor, labels):
    return floor.cupy.asarray(labels) if labels.ndim == 1 else floor.acc(labels)


def counters(floor):
    zeros = np.zeros(1)
    return floor.cupy.asarray(zeros), floor.cupy.asarray(zeros.astype("int64"))


@each_size
@pytest.mark.parametrize("shares", [False, True], ids=["ids", "shares"])
@pytest.mark.parametrize("smoothing", [0.0, 0.1])
@pytest.mark.parametrize("weighted", [False, True])
def test_cross_entropy(floor, rng, N, K, shares, smoothing, weighted):
    logits, labels = prepared(floor, rng, N, K, shares)
    logits = floor.round(logits)
    weight = rng.random(K).astype("float32").astype("float64") if weighted else None
    loss, cache = book.softmax_cross_entropy_forward(logits, labels, smoothing, weight)
    dlogits = book.softmax_cross_entropy_backward(np.asarray(3.0), cache)
    on_loss, on_dlogits = floor.s.new((), floor.s.acc_dtype), floor.s.new((N, K))
    into, apart = counters(floor), counters(floor)
    arguments = (
        floor.real(logits), on_gpu(floor, labels), smoothing,
        floor.acc(weight) if weighted else None,
    )  # fmt: skip
    gpu.cross_entropy(floor.s, *arguments, on_loss, on_dlogits, floor.acc([3.0]), into)
    floor.check_sums(on_loss, loss)
    floor.check(on_dlogits, dlogits, 3 / N)

    gpu.counters(floor.s, on_loss, floor.real(logits), on_gpu(floor, labels), *apart)
    meter = Meter()
    meter.add(floor.get(on_loss), logits, labels)
    for loss_sum, correct in (into, apart):
        assert float(loss_sum.get()[0]) == pytest.approx(meter.loss_sum, abs=0)
        assert int(correct.get()[0]) == meter.correct

    gpu.cross_entropy(floor.s, *arguments, None, on_dlogits)  # the gradient alone, of a loss of 1
    floor.check(on_dlogits, dlogits / 3, 1 / N)
    again = floor.s.new((), floor.s.acc_dtype)
    gpu.cross_entropy(floor.s, *arguments, again, None)  # the loss alone
    assert floor.get(again) == floor.get(on_loss)


def test_counters_add_up(floor32, rng, order):
    into, meter = counters(floor32), Meter()
    for N in (5, 300, 1):
        logits, labels = prepared(floor32, rng, N, 10, shares=False)
        loss = floor32.s.new((), floor32.s.acc_dtype)
        gpu.cross_entropy(
            floor32.s, floor32.real(logits), on_gpu(floor32, labels), 0.0, None, loss, None,
            counters=into,
        )  # fmt: skip
        meter.add(loss.get(), logits.astype("float32"), labels)
    assert float(into[0].get()[0]) == meter.loss_sum and int(into[1].get()[0]) == meter.correct


@pytest.mark.filterwarnings("ignore")
def test_cross_entropy_of_hard_cases(floor):
    inf, nan = np.inf, np.nan
    logits = np.array(
        [[1e4, -1e4, 0], [-inf, 0, 1], [nan, 0, 0], [0, 0, 0], [0, nan, 9], [-inf, -inf, -inf]]
    )
    labels = np.array([1, 2, 0, 0, 1, 0])
    for rows in ([0, 1, 3], [2], [4], [5]):
        x, ids = floor.round(logits[rows]), labels[rows]
        loss, cache = book.softmax_cross_entropy_forward(x, ids)
        dlogits = book.softmax_cross_entropy_backward(np.asarray(1.0), cache)
        on_loss, on_dlogits = floor.s.new((), floor.s.acc_dtype), floor.s.new(x.shape)
        into, meter = counters(floor), Meter()
        gpu.cross_entropy(
            floor.s, floor.real(x), on_gpu(floor, ids), 0.0, None, on_loss, on_dlogits,
            counters=into,
        )  # fmt: skip
        floor.check_sums(on_loss, loss)
        floor.check(on_dlogits, dlogits)
        meter.add(loss, x, ids)
        assert int(into[1].get()[0]) == meter.correct


@pytest.mark.filterwarnings("ignore")
def test_right_answers_are_those_of_argmax(floor, rng):
    scores = rng.choice(
        [0.0, 1.0, np.nan, np.inf, -np.inf], (500, 40), p=[0.5, 0.4, 0.02, 0.04, 0.04]
    )
    scores[:100] = rng.integers(0, 3, (100, 40))
    for labels in (rng.integers(0, 40, 500), scores.argmax(axis=1), scores):
        into, loss = counters(floor), floor.acc(1.0)
        gpu.counters(floor.s, loss, floor.real(scores), on_gpu(floor, labels), *into)
        ids = labels if labels.ndim == 1 else labels.argmax(axis=1)
        assert int(into[1].get()[0]) == (scores.argmax(axis=1) == ids).sum()
        assert float(into[0].get()[0]) == 500


def test_labels_out_of_range_are_nobody(floor32):
    logits = np.array([[1.0, 2.0], [0.0, 1.0]])
    ids = np.array([7, -1])
    loss, cache = book.softmax_cross_entropy_forward(logits, ids, 0.1)
    on_loss, on_dlogits = floor32.s.new((), "float32"), floor32.s.new((2, 2))
    gpu.cross_entropy(
        floor32.s, floor32.real(logits), on_gpu(floor32, ids), 0.1, None, on_loss, on_dlogits
    )
    floor32.check_sums(on_loss, loss)
    floor32.check(on_dlogits, book.softmax_cross_entropy_backward(np.asarray(1.0), cache))


def test_wrong_labels_are_refused(floor32):
    logits = floor32.real(np.zeros((4, 3)))
    for labels in (np.zeros(3, "int64"), np.zeros(4, "int32"), np.zeros((4, 3), "float64")):
        with pytest.raises(ValueError, match=r"labels are .*, expected int64 \(4,\) or float32"):
            gpu.cross_entropy(
                floor32.s, logits, floor32.cupy.asarray(labels), 0.0, None, None, None
            )


def test_losses_of_nothing_are_refused(floor32):
    none, loss = floor32.s.new((0, 3)), floor32.s.new(())
    with pytest.raises(ValueError, match="expected one value at least"):
        gpu.mean_squared_error(floor32.s, none, none, loss, None)
    with pytest.raises(ValueError, match="expected one value at least"):
        gpu.cross_entropy(floor32.s, none, none, 0.0, None, loss, None)


@pytest.mark.parametrize("shape", [(1, 1), (3, 7), (200, 9), (2, 70_001)], ids=str)
@pytest.mark.parametrize("how", ["numbers", "sums", "ids"])
def test_mean_squared_error(floor, rng, shape, how):
    y, target = floor.exact(rng, shape), floor.exact(rng, shape)
    given = floor.real(target) if how == "numbers" else floor.acc(target)
    if how == "ids":
        ids = rng.integers(0, shape[1], shape[0])
        target, given = (ids[:, None] == np.arange(shape[1])).astype(float), on_gpu(floor, ids)
    loss, cache = book.mean_squared_error_forward(y, target)
    on_loss, dy = floor.s.new((), floor.s.acc_dtype), floor.s.new(shape)
    gpu.mean_squared_error(floor.s, floor.real(y), given, on_loss, dy, floor.acc([2.0]))
    floor.check_sums(on_loss, loss)
    floor.check(
        dy,
        book.mean_squared_error_backward(np.asarray(2.0), cache),
        4 / y.size,
        0.05 if floor.kind == "float16" and y.size > 10_000 else None,
    )
    if how != "numbers":
        into, meter = counters(floor), Meter()
        gpu.mean_squared_error(floor.s, floor.real(y), given, on_loss, None, counters=into)
        meter.add(floor.get(on_loss), y, ids if how == "ids" else target)
        assert int(into[1].get()[0]) == meter.correct
        assert float(into[0].get()[0]) == pytest.approx(meter.loss_sum, abs=0)


@pytest.mark.parametrize("size", [1, 5, 1000, 70_001])
def test_penalty(floor, rng, order, size):
    w = floor.exact(rng, size)
    w[0] = 0
    loss, cache = book.penalty_forward(w, 0.25, 0.5)
    on_loss, dw = floor.s.new((), floor.s.acc_dtype), floor.s.new(w.shape)
    gpu.penalty(floor.s, floor.real(w), 0.25, 0.5, on_loss)
    floor.check_sums(on_loss, loss)
    gpu.penalty_backward(floor.s, floor.real(w), 0.25, 0.5, dw, floor.acc([0.5]))
    floor.check(dw, book.penalty_backward(np.asarray(0.5), cache))
