"""Batches in parts: the gradient of the whole batch, in the memory of a part."""

from __future__ import annotations

import signal

import numpy as np
import pytest
from run_helpers import Plan, assert_same, figures

import minicnn as mc
from minicnn.backend import to_numpy
from minicnn.plan.kept import plans_of

SHAPE, CLASSES, N = (6, 5, 3), 4, 11


def net(*more):
    return mc.Sequential(
        mc.Normalize(0.5, 0.25),
        mc.Conv2D(5, 3, kernel_regularizer=mc.L2(1e-2), kernel_initializer="he_normal"),
        *more,
        mc.ReLU(),
        mc.Flatten(),
        mc.Dense(CLASSES, kernel_regularizer=mc.L1(1e-2)),
    )


def built(*more, **options):
    return net(*more).build(SHAPE, seed=1, **{"dtype": "float64", **options})


def pictures(n=N, shares=False):
    rng = np.random.default_rng(0)
    x, labels = rng.integers(0, 256, (n, *SHAPE)).astype("uint8"), rng.integers(0, CLASSES, n)
    return x, rng.dirichlet(np.ones(CLASSES), n) if shares else labels


LOSSES = {
    "plain": mc.CrossEntropy(),
    "smoothed, weighted": mc.CrossEntropy(0.2, (0.1, 3.0, 1.0, 0.4)),
    "squares": mc.MeanSquaredError(),
}


def compare(device, accumulate, loss, shares):
    """Take two steps, whole and in parts; compare weights, gradients, losses and meters."""
    x, labels = pictures(shares=shares)
    sides = []
    for parts in (1, accumulate):
        model, meter = built(device=device), mc.Meter()
        optimizer = mc.SGD(0.1, momentum=0.9)
        losses = [
            float(mc.train_step(model, optimizer, x, labels, loss, meter, accumulate=parts))
            for _ in range(2)
        ]
        arrays = {**model.params, **{f"d {k}": v for k, v in model.grads.items()}}
        sides.append(({k: to_numpy(v) for k, v in arrays.items()}, losses, meter, optimizer.steps))
    (whole, losses, meter, _), (parts, again, other, steps) = sides
    for name, array in whole.items():
        np.testing.assert_allclose(parts[name], array, rtol=1e-10, atol=1e-12, err_msg=name)
    np.testing.assert_allclose(again, losses, rtol=1e-12)
    assert other.loss == pytest.approx(meter.loss, rel=1e-12)
    assert (other.accuracy, other.examples, steps) == (meter.accuracy, 2 * N, 2)


@pytest.mark.parametrize("accumulate", [2, 3, 4, N])
@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize("shares", [False, True], ids=["ids", "distributions"])
def test_parts_have_the_gradient_of_the_whole(accumulate, loss, shares):
    compare("cpu", accumulate, LOSSES[loss], shares)


@pytest.mark.parametrize("loss", LOSSES)
def test_parts_have_the_gradient_of_the_whole_on_the_gpu(standin, loss):
    compare("gpu", 3, LOSSES[loss], shares=False)


def test_parts_do_not_wait_for_the_gpu(standin):
    model = built(mc.BatchNorm(), mc.Dropout(0.2), device="gpu")
    x, labels = map(model.device.asarray, pictures())
    optimizer, meter = mc.Adam(), mc.Meter()
    mc.train_step(model, optimizer, x, labels, meter=meter, accumulate=3)
    standin.counts.reset()
    mc.train_step(model, optimizer, x, labels, meter=meter, accumulate=3)
    assert standin.counts.synchronizations == 0


def test_parts_of_a_loss_of_ones_own():
    compare("cpu", 4, lambda logits, labels: mc.MeanSquaredError()(logits, labels), shares=True)


def test_batchnorm_takes_the_statistics_of_each_part():
    """Its running mean moves once for every part, and its gradient is that part's."""
    x, labels = pictures()
    model, twin = built(mc.BatchNorm(0.5)), built(mc.BatchNorm(0.5))
    before = twin.params.data.copy()
    mc.train_step(model, mc.SGD(1.0), x, labels, accumulate=2)
    total = 0
    for part in (slice(0, 5), slice(5, N)):
        mc.backpropagate(twin, x[part], labels[part])
        total = total + twin.params.grad * (part.stop - part.start) / N
    np.testing.assert_allclose(model.params.data, before - total, atol=1e-12)
    for name, array in twin.state.items():
        np.testing.assert_array_equal(model.state[name], array, err_msg=name)


def test_parts_take_the_memory_of_a_part():
    x, labels = pictures(64)
    sizes = {}
    for parts in (1, 8):
        model = built(dtype="float32")
        mc.train_step(model, mc.SGD(0.1), x, labels, accumulate=parts)
        plans = plans_of(model).kept
        assert {key[0] for key in plans} == {64 // parts}
        sizes[parts] = sum(plan.nbytes for plan in plans.values())
    assert sizes[8] < sizes[1] / 3


def test_loss_that_is_not_finite_in_a_part_changes_nothing():
    x, labels = pictures()
    model = built(mc.BatchNorm(), mc.Dropout(0.2))
    optimizer, calls = mc.Adam(), []

    def late(logits, labels):
        calls.append(len(logits))
        loss, dlogits = mc.CrossEntropy()(logits, labels)
        return (loss * np.nan if len(calls) == 2 else loss), dlogits

    before = model.params.data.copy(), {k: v.copy() for k, v in model.state.items()}
    with pytest.raises(mc.NotFinite, match="weights weren't changed"):
        mc.train_step(model, optimizer, x, labels, late, accumulate=3)
    assert calls == [3, 4] and optimizer.steps == 0
    np.testing.assert_array_equal(model.params.data, before[0])
    for name, array in before[1].items():
        np.testing.assert_array_equal(model.state[name], array)
    assert all(stream.position == 0 for stream in model.streams.values())


PARTS = Plan(
    lambda: mc.Adam(0.02),
    options={"accumulate": 2, "validation": 0.25, "batch_size": 5, "drop_last": True},
)  # 16 pictures in three batches of 3 and 2


@pytest.mark.parametrize("stop", [1, 2, 3, 5])
def test_run_in_parts_is_resumed_exactly(tmp_path, stop):
    whole = PARTS.train(3)
    first = PARTS.train(3, tmp_path, stop, signal.SIGINT)
    assert first.interrupted is not None and first.optimizer.steps == stop
    rest = PARTS.train(3, tmp_path)
    assert_same(rest, whole)
    assert figures(first.records + rest.records) == figures(whole.records)


def test_ctrl_c_in_a_part_leaves_no_half_step():
    x, labels = pictures()
    model, optimizer, calls = built(mc.BatchNorm()), mc.SGD(0.1), []

    def stopped(logits, labels):
        calls.append(1)
        if len(calls) == 2:
            signal.raise_signal(signal.SIGINT)
        return mc.CrossEntropy()(logits, labels)

    before = {k: v.copy() for k, v in {**model.params, **model.state}.items()}
    with pytest.raises(KeyboardInterrupt):
        mc.train_step(model, optimizer, x, labels, stopped, accumulate=2)
    for name, array in {**model.params, **model.state}.items():
        np.testing.assert_array_equal(array, before[name])


def test_fit_in_parts_is_fit():
    x, labels = pictures(30)
    records = []
    for parts in (1, 4):
        model = built()
        fitted = mc.fit(
            model, x, labels, optimizer=mc.Adam(), epochs=2, batch_size=12, accumulate=parts,
            progress=False,
        )  # fmt: skip
        records.append([(epoch.loss, epoch.accuracy) for epoch in fitted])
    np.testing.assert_allclose(records[1], records[0], rtol=1e-9)


@pytest.mark.parametrize("accumulate", [0, -1, 2.0, True, None, "2"])
def test_accumulate_has_to_be_a_count(accumulate):
    model, (x, labels) = built(), pictures()
    with pytest.raises(ValueError, match=r"accumulate .*expected an integer >= 1"):
        mc.train_step(model, mc.SGD(0.1), x, labels, accumulate=accumulate)
    with pytest.raises(ValueError, match=r"accumulate .*expected an integer >= 1"):
        mc.fit(model, x, labels, optimizer=mc.SGD(0.1), accumulate=accumulate)


def test_parts_that_would_be_empty_are_refused():
    model, (x, labels) = built(), pictures()
    with pytest.raises(ValueError, match=r"accumulate 12: a batch of 11 can't be cut"):
        mc.train_step(model, mc.SGD(0.1), x, labels, accumulate=12)
    with pytest.raises(ValueError, match=r"leave a batch of 3, which can't be cut into 4 parts"):
        mc.fit(model, x, labels, optimizer=mc.SGD(0.1), batch_size=8, accumulate=4)
    with pytest.raises(ValueError, match=r"11 pictures but labels of shape \(12,\)"):
        mc.train_step(model, mc.SGD(0.1), x, np.zeros(12, int), accumulate=2)


def test_parts_of_one_picture_are_refused_where_batchnorm_needs_two():
    x, labels = pictures(12)
    model = mc.Sequential(mc.Normalize(), mc.Flatten(), mc.Dense(3), mc.BatchNorm(), mc.Dense(4))
    model.build(SHAPE)
    with pytest.raises(ValueError, match=r"a part of one \(4 a batch\), whose variance"):
        mc.fit(model, x, labels, optimizer=mc.SGD(0.1), batch_size=6, accumulate=4)
