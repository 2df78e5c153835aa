"""Early stopping: when it stops, what it gives back, and that a stopped run goes on with it."""

from __future__ import annotations

import shutil
from dataclasses import replace
from math import inf, nan

import numpy as np
import pytest
from run_helpers import SHAPE, Plan, Result, assert_same, figures, net, pictures, saved

import minicnn as mc
from minicnn.backend import to_numpy

RECORD = mc.Epoch(1, 1.0, 0.5, 1.0, 0.5, 0.1, 1.0, 100.0)


def judged(costs, monitor="val_loss", **options):
    """Let it observe these figures; return it and the epoch at which it stopped, or None."""
    stopping = mc.EarlyStopping(monitor=monitor, restore=False, **options)
    for epoch, cost in enumerate(costs, start=1):
        if stopping.observe(replace(RECORD, epoch=epoch, **{monitor: cost})):
            return stopping, epoch
    return stopping, None


@pytest.mark.parametrize(
    ("costs", "options", "stop", "best"),
    [
        ([3, 2, 1, 0.5], {"patience": 1}, None, 4),
        ([3, 2, 2.5], {"patience": 1}, 3, 2),
        ([3, 2, 2, 2], {"patience": 2}, 4, 2),  # as good is no better
        ([3, 2, 2.5, 1.9, 2, 2, 2], {"patience": 3}, 7, 4),
        ([3, 2, 2.5, 1.9, 2, 2], {"patience": 3}, None, 4),
        ([3, 2.95, 2.9, 2.85], {"patience": 2, "min_delta": 0.2}, 3, 3),  # the best all the same
        ([3, 2.9, 2.75, 2.7, 2.6], {"patience": 2, "min_delta": 0.2}, 5, 5),
        ([nan, 3, nan, nan], {"patience": 2}, 4, 2),
        ([nan, nan], {"patience": 2}, 2, 0),
        ([inf, inf, 3, nan, 2], {"patience": 3}, None, 5),
    ],
)
def test_observe_stops_when_nothing_got_better(costs, options, stop, best):
    found, stopped = judged(costs, **options)
    assert (stopped, found.best_epoch) == (stop, best)
    assert found.best == (costs[best - 1] if best else None)
    assert bool(found.stopped) == (stop is not None)
    if stop and best:
        assert found.stopped == f"no better val_loss than the {costs[best - 1]:.4f} of epoch {best}"
    higher = [-cost for cost in costs]
    found, stopped = judged(higher, "val_accuracy", **options)
    assert (stopped, found.best_epoch) == (stop, best)


@pytest.mark.parametrize("monitor", ["val_loss", "val_accuracy", "loss", "accuracy"])
def test_observe_watches_one_figure(monitor):
    worse = [0.1, 0.2] if "loss" in monitor else [0.2, 0.1]
    stopping, stopped = judged(worse, monitor, patience=1)
    assert stopped == 2 and stopping.best == worse[0]


# In fit.

OVERFIT = Plan(
    lambda: mc.SGD(0.1, momentum=0.9), options={"validation": pictures(12, seed=5)}
)  # labels that nothing explains: the validation loss rises soon


def fit(plan, epochs, folder=None, stop=0, **options):
    return plan.train(epochs, folder, stop, early_stopping=mc.EarlyStopping(**options))


def snapshots(plan, epochs, **more):
    """Return the records of a run without early stopping, and the numbers after each epoch."""
    model = net().build(SHAPE, seed=1)
    options = {"batch_size": 4, "seed": 3, "progress": False, **plan.options, **more}
    found = []
    for record in mc.fit(model, *plan.data, optimizer=plan.optimizer(), epochs=epochs, **options):
        numbers = {**model.params, **model.state}
        found.append((record, {name: array.copy() for name, array in numbers.items()}))
    return found


@pytest.fixture(scope="module")
def plain():
    """Twelve epochs without early stopping."""
    return snapshots(OVERFIT, 12)


@pytest.mark.parametrize("monitor", ["val_loss", "val_accuracy", "loss", "accuracy"])
@pytest.mark.parametrize("patience", [1, 2, 4])
def test_fit_stops_and_restores_the_best_epoch(plain, monitor, patience):
    _, stop = judged([getattr(r, monitor) for r, _ in plain], monitor, patience=patience)
    result = fit(OVERFIT, 12, monitor=monitor, patience=patience)
    assert figures(result.records) == figures([r for r, _ in plain[:stop]])
    worth = [getattr(r, monitor) * (1 if "loss" in monitor else -1) for r in result.records]
    best = int(np.argmin(worth))
    for name, array in {**result.model.params, **result.model.state}.items():
        np.testing.assert_array_equal(array, plain[best][1][name], err_msg=name)
    *others, last = result.records
    assert not any(r.stopped for r in others)
    assert bool(last.stopped) == (stop is not None)
    if stop:
        assert f"of epoch {best + 1}" in last.stopped and str(last).endswith(last.stopped)


def test_fit_restores_when_all_epochs_are_done(plain):
    losses = [record.val_loss for record, _ in plain[:8]]
    assert 0 < np.argmin(losses) < 7
    result = fit(OVERFIT, 8, patience=100)
    assert len(result.records) == 8 and not result.records[-1].stopped
    for name, array in {**result.model.params, **result.model.state}.items():
        np.testing.assert_array_equal(array, plain[int(np.argmin(losses))][1][name], err_msg=name)


def test_fit_without_restore_keeps_the_last_weights(plain):
    result = fit(OVERFIT, 12, patience=1, restore=False)
    stop = len(result.records)
    assert stop < 12 and result.records[-1].stopped
    for name, array in {**result.model.params, **result.model.state}.items():
        np.testing.assert_array_equal(array, plain[stop - 1][1][name], err_msg=name)


def test_break_leaves_the_weights_and_restore_best_brings_them(plain):
    model, stopping = net().build(SHAPE, seed=1), mc.EarlyStopping(patience=100)
    options = {"batch_size": 4, "seed": 3, "progress": False, **OVERFIT.options}
    for record in mc.fit(
        model, *OVERFIT.data, optimizer=OVERFIT.optimizer(), early_stopping=stopping, **options
    ):
        if record.epoch == 9:
            break
    last = plain[8][1]
    assert all((array == last[name]).all() for name, array in model.params.items())
    stopping.restore_best(model)
    best = plain[stopping.best_epoch - 1][1]
    assert all(
        (array == best[name]).all() for name, array in {**model.params, **model.state}.items()
    )


# Stopped and taken up again.


def whole_and_parts(folder, plan, stops, epochs=12, **options):
    whole, records = fit(plan, epochs, **options), []
    for stop in stops:
        part = fit(plan, epochs, folder, stop, **options)
        assert part.interrupted is not None
        records += part.records
    rest = fit(plan, epochs, folder, **options)
    assert_same(rest, whole)
    assert figures(records + rest.records) == figures(whole.records)
    assert [r.stopped for r in records + rest.records] == [r.stopped for r in whole.records]
    return whole


@pytest.mark.parametrize("stops", [[1], [7], [18], [2, 3, 9]])
@pytest.mark.parametrize("monitor", ["val_loss", "accuracy"])
def test_resumed_run_stops_and_restores_alike(tmp_path, stops, monitor):
    whole_and_parts(tmp_path, OVERFIT, stops, monitor=monitor, patience=4)


@pytest.mark.parametrize("monitor", ["val_loss", "val_accuracy"])
def test_best_epoch_outlives_the_newest_ones(tmp_path, monitor):
    """It is older than the epochs that stay in the folder."""
    whole = whole_and_parts(tmp_path, OVERFIT, [41], patience=7, monitor=monitor)
    last = whole.records[-1]
    assert last.stopped
    best = saved(tmp_path / "best.safetensors")["epoch"]
    assert f"of epoch {best}" in last.stopped and best <= last.epoch - 7
    again = fit(
        OVERFIT, 12, tmp_path, patience=7, monitor=monitor
    )  # a run that has stopped is over
    assert again.records == []
    assert_same(again, whole)
    assert saved(tmp_path / "last.safetensors")["epoch"] == last.epoch


def test_run_goes_on_with_more_patience(tmp_path):
    first = fit(OVERFIT, 12, tmp_path, patience=1)
    more = fit(OVERFIT, 12, tmp_path, patience=4)
    whole = fit(OVERFIT, 12, patience=4)
    assert len(first.records) < len(whole.records)
    assert figures(first.records + more.records) == figures(whole.records)
    assert_same(more, whole)


def test_weights_that_are_gone_are_missed(tmp_path):
    whole = fit(OVERFIT, 12, tmp_path, patience=7)
    best = saved(tmp_path / "best.safetensors")["epoch"]
    (tmp_path / "best.safetensors").unlink()
    with pytest.raises(mc.CheckpointError, match=f"the weights of epoch {best}, the best one"):
        fit(OVERFIT, 20, tmp_path, patience=20)
    result = fit(OVERFIT, len(whole.records), tmp_path, patience=20, restore=False)
    assert result.records == []


def test_damaged_best_is_found_elsewhere(tmp_path):
    whole = fit(OVERFIT, 12, tmp_path, patience=2)
    best = tmp_path / "best.safetensors"
    shutil.copy(best, tmp_path / "copy")
    best.unlink()
    best.write_bytes((tmp_path / "copy").read_bytes()[:-20])
    assert_same(fit(OVERFIT, 12, tmp_path, patience=2), whole)


# In a loop of one's own.


@pytest.mark.parametrize("by_run", [False, True])
def test_own_loop_stops_and_restores(tmp_path, by_run):
    whole = fit(OVERFIT, 12, patience=3)
    model, stopping = net().build(SHAPE, seed=1), mc.EarlyStopping(patience=3)
    x_val, y_val = OVERFIT.options["validation"]
    streams = {"stream": mc.Stream(3, "shuffle")}
    optimizer = OVERFIT.optimizer()
    batches = mc.Batches(*pictures(), 4, **streams)
    watching = {"early_stopping": stopping} if by_run else {}
    with mc.Run(model, optimizer, batches, progress=False, **watching) as run:
        while run.epoch < 12:
            for x, labels in run.rest_of_epoch():
                mc.train_step(model, optimizer, x, labels, meter=run.meter)
            record = run.end_epoch(mc.evaluate(model, x_val, y_val))
            if record.stopped if by_run else stopping.observe(record, model):
                break
    stopping.restore_best(model)
    assert figures(run.records) == figures(whole.records)
    result = Result(model, optimizer, run.records)
    assert_same(result, whole)


def test_gpu_gets_its_best_weights_back(standin):
    x, y = pictures(16)
    model = net().build(SHAPE, device="gpu")
    stopping, numbers = mc.EarlyStopping(patience=2), []
    for _ in mc.fit(
        model, x, y, optimizer=mc.SGD(0.3, momentum=0.9), epochs=6, batch_size=8, progress=False,
        validation=pictures(12, seed=5), early_stopping=stopping,
    ):  # fmt: skip
        numbers.append(to_numpy(model.params.data).copy())
    assert 0 < stopping.best_epoch < len(numbers)
    np.testing.assert_array_equal(to_numpy(model.params.data), numbers[stopping.best_epoch - 1])


# What is refused.


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"patience": 0}, "patience 0: expected an integer >= 1"),
        ({"patience": 1.5}, r"patience 1\.5"),
        ({"monitor": "val_f1"}, "monitor 'val_f1': expected one of val_loss, val_accuracy"),
        ({"monitor": ["loss"]}, "monitor"),
        ({"min_delta": -0.1}, "min_delta"),
        ({"min_delta": nan}, "min_delta"),
    ],
)
def test_options_that_cant_be_are_refused(options, text):
    with pytest.raises(ValueError, match=text):
        mc.EarlyStopping(**options)


def test_fit_refuses_to_watch_what_there_wont_be():
    model, (x, y) = net().build(SHAPE), pictures()
    with pytest.raises(ValueError, match=r"watches val_loss, but nothing is held out"):
        mc.fit(model, x, y, optimizer=mc.Adam(), early_stopping=mc.EarlyStopping())
    with pytest.raises(TypeError, match="expected one such as EarlyStopping"):
        mc.fit(model, x, y, optimizer=mc.Adam(), early_stopping=3)


def test_observe_refuses_what_it_cant_use():
    model, other = net().build(SHAPE), net(5).build(SHAPE)
    stopping = mc.EarlyStopping()
    with pytest.raises(ValueError, match="no epoch was observed"):
        stopping.restore_best(model)
    with pytest.raises(TypeError, match="expected the model too"):
        stopping.observe(RECORD)
    with pytest.raises(ValueError, match="watches val_loss, but epoch 1 has none"):
        stopping.observe(replace(RECORD, val_loss=None), model)
    stopping.observe(RECORD, model)
    with pytest.raises(ValueError, match="of another model"):
        stopping.restore_best(other)
    with pytest.raises(ValueError, match="restore=False"):
        judged([1])[0].restore_best(model)
