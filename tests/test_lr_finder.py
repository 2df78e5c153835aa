"""The range test: its rates, where it ends, what it suggests; and that it leaves no trace."""

from __future__ import annotations

import signal

import numpy as np
import pytest
from run_helpers import SHAPE, Bell, Result, assert_same, net, pictures

import minicnn as mc
from minicnn.lr_finder import RangeTest


def trained(device="cpu", optimizer=None, dtype="float32"):
    """A model in the middle of its training, with all that moves."""
    model = net().build(SHAPE, seed=1, device=device, dtype=dtype)
    result = Result(model, optimizer or mc.Adam(0.01, ema_decay=0.9))
    go_on(result)
    return result


def go_on(result, steps=3):
    x, labels = (result.model.device.asarray(array) for array in pictures())
    for _ in range(steps):
        mc.train_step(result.model, result.optimizer, x, labels)


def everything(result):
    return {
        **result.everything(), "grad": result.model.params.grad, "lr": result.optimizer.lr,
        "owner": result.optimizer.owner(), "memory": list(result.optimizer.memory),
    }  # fmt: skip


def frozen(result):
    """Copies of all numbers, and the objects themselves of the rest."""
    return {k: v.copy() if hasattr(v, "dtype") else v for k, v in everything(result).items()}


def assert_untouched(result, before):
    for name, value in everything(result).items():
        if hasattr(value, "dtype"):
            value, wanted = (getattr(v, "get", lambda v=v: v)() for v in (value, before[name]))
            np.testing.assert_array_equal(value, wanted, err_msg=name, strict=True)
        else:
            assert value == before[name], name


def find(result, **options):
    options = {"steps": 20, "batch_size": 8, "optimizer": result.optimizer, **options}
    return mc.find_lr(result.model, *pictures(), **options)


OPTIMIZERS = {
    "sgd": lambda: mc.SGD(0.05),
    "momentum": lambda: mc.SGD(mc.schedule.cosine(0.05, 100), momentum=0.9, weight_decay=0.1),
    "adam": lambda: mc.Adam(0.01, ema_decay=0.9, global_clipnorm=1.0),
    "plateau": lambda: mc.AdamW(mc.schedule.ReduceOnPlateau(0.01)),
}


@pytest.mark.parametrize("name", OPTIMIZERS)
@pytest.mark.parametrize("fresh", [False, True])
def test_find_lr_leaves_no_trace(name, fresh):
    """What comes afterwards is what would have come without it, bit for bit."""
    result, twin = trained(optimizer=OPTIMIZERS[name]()), trained(optimizer=OPTIMIZERS[name]())
    if fresh:
        result, twin = (Result(net().build(SHAPE, seed=1), OPTIMIZERS[name]()) for _ in range(2))
        find(result)
        assert result.optimizer.owner is None and result.optimizer.memory == {}
    else:
        before = frozen(result)
        find(result)
        assert_untouched(result, before)
    go_on(result)
    go_on(twin)
    assert_same(result, twin)


def test_find_lr_leaves_no_trace_on_the_gpu(standin):
    result, twin = trained("gpu"), trained("gpu")
    before = frozen(result)
    assert len(find(result).rates) == 20
    assert_untouched(result, before)
    go_on(result, 4)
    go_on(twin, 4)
    for name, array in result.model.params.items():
        np.testing.assert_array_equal(array.get(), twin.model.params[name].get())


def test_find_lr_leaves_no_trace_when_it_fails():
    result = trained()
    before, calls = frozen(result), []

    def failing(logits, labels):
        calls.append(1)
        if len(calls) == 7:
            raise RuntimeError("halfway")
        return mc.CrossEntropy()(logits, labels)

    with pytest.raises(RuntimeError, match="halfway"):
        find(result, loss=failing)
    assert_untouched(result, before)


def test_find_lr_leaves_no_trace_when_interrupted():
    result = trained()
    before = frozen(result)
    with pytest.raises(KeyboardInterrupt):
        find(result, augment=[Bell(5, signal.SIGINT)])
    assert_untouched(result, before)


def test_find_lr_takes_the_rates_in_turn():
    """The same steps by hand: a schedule of those rates, on the same batches."""
    result, twin = trained(), trained()
    found = find(result, lowest=1e-4, highest=1e-2, smoothing=0.8, seed=5)
    np.testing.assert_allclose(found.rates, 10 ** np.linspace(-4, -2, 20))
    first, losses = twin.optimizer.steps, []
    twin.optimizer.lr = lambda step: found.rates[step - first]
    batches = mc.Batches(*pictures(), 8, stream=mc.Stream(5, "shuffle"), drop_last=True)
    while len(losses) < 20:
        for batch in batches:
            losses.append(float(mc.train_step(twin.model, twin.optimizer, *batch)))
    np.testing.assert_array_equal(found.losses, losses[:20])
    for k in (0, 1, 7, 19):
        weights = 0.8 ** np.arange(k, -1, -1.0)
        mean = (weights * losses[: k + 1]).sum() / weights.sum()
        np.testing.assert_allclose(found.smoothed[k], mean)


def bowl():
    """One Dense layer under a quadratic loss: gradient descent diverges above a known rate."""
    rng = np.random.default_rng(0)
    x = rng.standard_normal((64, 6))
    labels = (x @ rng.standard_normal((6, 3))).argmax(axis=1)
    model = mc.Sequential(mc.Dense(3, use_bias=False)).build((6,), dtype="float64")
    curvature = np.linalg.eigvalsh(2 * x.T @ x / x.size * 6 / 3)[-1]
    return model, x, labels, 2 / curvature


def test_find_lr_suggests_a_rate_at_which_training_converges():
    model, x, labels, limit = bowl()
    options = {"loss": mc.MeanSquaredError(), "batch_size": 64}
    found = mc.find_lr(
        model, x, labels, optimizer=mc.SGD(1.0), lowest=1e-3, highest=1e3, smoothing=0, **options
    )
    assert found.rates[-1] < 1e3 and len(found.rates) < 200  # it ended when it diverged
    lowest = found.rates[found.losses.argmin()]
    assert limit / 2 < lowest < 2 * limit
    assert found.suggestion == pytest.approx(lowest / 10)
    assert found.losses[-1] < 4 * found.losses.min()
    first = found.losses[0]
    for _ in range(100):
        value = mc.train_step(model, mc.SGD(found.suggestion), x, labels, options["loss"])
    assert value < 0.8 * first
    assert str(found).startswith(f"suggested lr {found.suggestion:.3g}: a tenth of {lowest:.3g}")


def test_find_lr_ends_where_the_loss_is_no_number():
    model, x, labels, _ = bowl()
    calls = []

    def breaking(logits, labels):
        calls.append(1)
        loss, dlogits = mc.MeanSquaredError()(logits, labels)
        return loss * (np.nan if len(calls) > 5 else 1), dlogits

    found = mc.find_lr(model, x, labels, optimizer=mc.SGD(1.0), loss=breaking)
    assert len(found.rates) == 5 and np.isfinite(found.smoothed).all()
    with pytest.raises(ValueError, match="the loss is nan at the very first step"):
        mc.find_lr(model, x, labels, optimizer=mc.SGD(1.0), loss=breaking)


def curve(smoothed):
    rates = np.geomspace(1e-3, 1.0, len(smoothed))
    return RangeTest(rates, np.array(smoothed), np.array(smoothed), 1.0)


def test_range_test_says_what_it_knows():
    assert curve([1, 2, 3.0]).suggestion is None
    assert str(curve([1, 2, 3.0])) == "the loss never fell, from 0.001 to 1"
    assert curve([3, 2, 1, 2.0]).suggestion == pytest.approx(0.01)
    assert "still fell" not in str(curve([3, 2, 1, 2.0]))
    assert str(curve([3, 2, 1.0])).endswith("still fell at the end, so try more than highest=1")


def test_range_test_is_drawn(tmp_path, monkeypatch):
    pytest.importorskip("matplotlib")
    figures = []
    save = mc.plots.save
    monkeypatch.setattr(mc.plots, "save", lambda f, path: figures.append(f) or save(f, path))
    path = curve([3, 2, 1, 2.0]).plot(tmp_path / "new" / "rates.png")
    assert path.read_bytes().startswith(b"\x89PNG")
    (axes,) = figures[0].axes
    loss, smoothed, line = axes.lines
    assert list(loss.get_ydata()) == list(smoothed.get_ydata()) == [3, 2, 1, 2]
    assert line.get_xdata()[0] == pytest.approx(0.01) and axes.get_xscale() == "log"
    curve([1, 2.0]).plot(tmp_path / "none.svg")
    assert len(figures[1].axes[0].lines) == 2


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"lowest": 0}, "lowest 0: expected a number > 0"),
        ({"lowest": 1.0, "highest": 1.0}, "highest 1.0: expected a number > 1"),
        ({"steps": 1}, "steps 1: expected an integer >= 2"),
        ({"smoothing": 1}, "smoothing 1"),
        ({"batch_size": 0}, "batch_size 0"),
    ],
)
def test_find_lr_refuses_what_cant_be(options, text):
    with pytest.raises(ValueError, match=text):
        find(trained(), **options)


def test_find_lr_takes_fewer_pictures_than_a_batch():
    assert len(find(trained(), batch_size=500, steps=3).rates) == 3
