"""Numbers that go wrong: said at once and exactly, and nothing good is lost by it."""

from __future__ import annotations

import re
from math import inf, nan

import numpy as np
import pytest
import run_helpers as runs
from run_helpers import Plan, assert_same, net, pictures, saved, states
from standin import installed

import minicnn as mc
from minicnn import run as run_module

pytestmark = [  # what NumPy says of such numbers
    pytest.mark.filterwarnings("ignore:(overflow|invalid value|divide by zero):RuntimeWarning")
]

X, Y = pictures(8)


class Spoiler(mc.Layer):
    """Pass everything on; from the call ``at`` on, with a value that isn't finite."""

    at, value, calls = 1, nan, 0

    def forward(self, x, training=False):
        self.cache = ()
        if training:
            type(self).calls += 1
        if not training or self.calls < self.at:
            return x
        y = x.copy()
        y.reshape(-1)[-1] = self.value
        return y

    def backward(self, dy):
        self.take_cache()
        return dy


@pytest.fixture
def spoiler():
    """Return a layer that spoils what goes through it."""
    Spoiler.at, Spoiler.value, Spoiler.calls = 1, nan, 0
    return Spoiler()


def built(*layers, shape=runs.SHAPE, **options):
    return mc.Sequential(*layers).build(shape, **options)


def fails(model, x=X, y=Y, optimizer=None, **options):
    """Take a step that can't be taken; return what is said."""
    optimizer = optimizer or mc.SGD(0.125)
    before = model.params.data.copy()
    with pytest.raises(mc.NotFinite) as caught:
        mc.train_step(model, optimizer, x, y, **options)
    np.testing.assert_array_equal(model.params.data, before)
    assert optimizer.steps == 0 and optimizer.memory == {}
    assert all(layer.cache is None for layer in model.walk())
    return str(caught.value)


# One step.


def test_not_finite_is_an_arithmetic_error():
    assert issubclass(mc.NotFinite, ArithmeticError)


@pytest.mark.parametrize("value", [inf, -inf, nan])
def test_train_step_names_the_weight(value):
    model = net().build(runs.SHAPE)
    model.params["dense_1/w"][3, 1] = value
    text = fails(model)
    assert "the first layer that shows it is dense_1, in its w" in text
    assert "at step 1 (lr 0.125, norm of the last gradient 0)" in text
    assert "The weights weren't changed by this batch" in text and "check_finite=False" in text


def test_train_step_names_the_first_of_several():
    model = net().build(runs.SHAPE)
    for name in ("dense_1/b", "batchnorm_1/gamma", "conv2d_1/b"):
        model.params[name][0] = nan
    assert "shows it is conv2d_1, in its b" in fails(model)


def test_train_step_names_the_norm_of_the_last_gradient():
    model, optimizer = net().build(runs.SHAPE), mc.SGD(0.5)
    mc.train_step(model, optimizer, X, Y)
    norm = np.sqrt((model.params.grad.astype("float64") ** 2).sum())
    model.params["dense_1/b"][0] = nan
    with pytest.raises(mc.NotFinite, match=re.escape(f"norm of the last gradient {norm:.3g})")):
        mc.train_step(model, optimizer, X, Y)
    assert optimizer.steps == 1


@pytest.mark.parametrize("value", [inf, nan])
@pytest.mark.parametrize(
    ("wrap", "path"),
    [
        (lambda layer: layer, "spoiler_1"),
        (lambda layer: mc.Sequential(mc.ReLU(), layer), "sequential_1/spoiler_1"),
        (lambda layer: mc.Residual([mc.ReLU(), layer]), "residual_1/body/spoiler_1"),
        (lambda layer: mc.Residual([mc.ReLU()], [layer]), "residual_1/shortcut/spoiler_1"),
        (lambda layer: mc.Concat([mc.ReLU(), [mc.Tanh(), layer]]), "concat_1/branch_2/spoiler_1"),
        (lambda layer: mc.Concat([mc.Residual([layer])]), "concat_1/branch_1/body/spoiler_1"),
    ],
    ids=["plain", "sequential", "body", "shortcut", "concat", "nested"],
)
def test_train_step_names_the_layer_whose_output_it_is(spoiler, wrap, path, value):
    spoiler.__class__.value = value
    model = built(mc.Normalize(), mc.Conv2D(2, 3), wrap(spoiler), mc.Flatten(), mc.Dense(4))
    assert f"the first layer that shows it is {path} (Spoiler), in its output" in fails(model)


@pytest.mark.parametrize(
    ("wrap", "path"),
    [
        (lambda layer: mc.Residual([mc.ReLU(), layer]), "residual_1/body/conv2d_1"),
        (lambda layer: mc.Residual([mc.ReLU()], [layer]), "residual_1/shortcut/conv2d_1"),
        (lambda layer: mc.Concat([mc.ReLU(), [mc.Tanh(), layer]]), "concat_1/branch_2/conv2d_1"),
    ],
    ids=["body", "shortcut", "concat"],
)
def test_train_step_names_the_weight_inside_a_branch(wrap, path):
    model = built(mc.Normalize(), wrap(mc.Conv2D(3, 1)), mc.Flatten(), mc.Dense(4))
    model.params[f"{path}/w"][0, 0, 0, 0] = nan
    assert f"the first layer that shows it is {path}, in its w" in fails(model)


@pytest.mark.parametrize("value", [inf, nan])
def test_train_step_names_the_pictures(value):
    x = np.ones((8, 5, 4, 3), "float32")
    x[5, 1, 2, 0] = value
    model = built(mc.Conv2D(2, 3), mc.Flatten(), mc.Dense(4))
    assert "the pictures hold values that aren't finite" in fails(model, x)


def test_train_step_names_pictures_too_large_for_the_models_dtype():
    x = np.full((8, 5, 4, 3), 1e300)  # finite, but not as float32
    text = fails(built(mc.Conv2D(2, 3), mc.Flatten(), mc.Dense(4)), x)
    assert "the pictures hold values that aren't finite" in text


def test_train_step_names_a_loss_of_its_own():
    def spoiled(logits, labels):
        value, dlogits = mc.CrossEntropy()(logits, labels)
        return value * nan, dlogits

    assert "it arises in the loss or in a penalty" in fails(net().build(runs.SHAPE), loss=spoiled)


def test_train_step_finds_a_penalty_that_isnt_finite():
    """The weights are finite, their squares aren't."""
    model = built(
        mc.Normalize(), mc.Flatten(), mc.Dense(4, kernel_regularizer=mc.L2(1.0)), shape=(2, 2, 1)
    )
    model.params["dense_1/w"][...] = 1e25
    x, y = np.zeros((8, 2, 2, 1), "uint8"), Y
    optimizer, before = mc.SGD(0.1), model.params.data.copy()
    with pytest.raises(mc.NotFinite, match="it arises in the loss or in a penalty"):
        mc.train_step(model, optimizer, x, y)
    np.testing.assert_array_equal(model.params.data, before)
    assert optimizer.steps == 0


def test_train_step_leaves_running_statistics_alone():
    """They are part of what is saved: a batch that can't be learned from mustn't spoil them."""
    x = np.ones((8, 5, 4, 3), "float32")
    x[0, 0, 0, 0] = nan
    model = built(mc.BatchNorm(), mc.Flatten(), mc.Dense(4))
    before = {name: array.copy() for name, array in model.state.items()}
    fails(model, x)
    for name, array in before.items():
        np.testing.assert_array_equal(model.state[name], array)


def test_train_step_leaves_dropout_where_a_step_would_have():
    model = net().build(runs.SHAPE)
    model.params["dense_1/b"][0] = nan
    fails(model)
    assert {stream.position for stream in model.streams.values()} <= {0, 1}


def test_train_step_unchecked_goes_on():
    model, optimizer = net().build(runs.SHAPE), mc.SGD(0.1)
    model.params["dense_1/b"][0] = nan
    assert np.isnan(mc.train_step(model, optimizer, X, Y, check_finite=False))
    assert optimizer.steps == 1


def test_train_step_stops_at_the_first_loss_that_isnt_finite():
    model, optimizer = net().build(runs.SHAPE), mc.SGD(1e6, momentum=0.9)
    losses = []
    with pytest.raises(mc.NotFinite, match=r"lr 1e\+06"):
        for _ in range(1000):
            losses.append(float(mc.train_step(model, optimizer, X, Y)))
    assert np.isfinite(losses).all() and optimizer.steps == len(losses) >= 1


# A run.

LARGE = Plan(lambda: mc.SGD(1e6, momentum=0.9))


@pytest.mark.parametrize("folder", [False, True])
@pytest.mark.parametrize("batch_size", [3, 4, 22])
def test_fit_names_epoch_and_batch(tmp_path, folder, batch_size):
    plan = Plan(LARGE.optimizer, options={"batch_size": batch_size})
    with pytest.raises(mc.NotFinite) as caught:
        plan.train(100, tmp_path if folder else None)
    found = re.match(
        r"epoch (\d+), batch (\d+): the loss is (nan|inf) at step (\d+) ", str(caught.value)
    )
    epoch, batch, step = (int(found[n]) for n in (1, 2, 4))
    assert step == (epoch - 1) * -(-22 // batch_size) + batch


@pytest.mark.parametrize("at", range(1, 13))
def test_run_that_fails_keeps_the_last_state(tmp_path, spoiler, at):
    """Six batches an epoch; before the spoilt one is trained on, a whole epoch may be saved."""
    spoiler.__class__.at = at
    plan = Plan(model=lambda: mc.Sequential(*net().layers[:-1], Spoiler(), *net().layers[-1:]))
    with pytest.raises(mc.NotFinite, match=f"epoch {(at - 1) // 6 + 1}, batch {(at - 1) % 6 + 1}:"):
        plan.train(3, tmp_path)
    assert states(tmp_path) == ([] if at <= 6 else ["best", "epoch-0001", "last"])
    assert not at > 6 or saved(tmp_path / "last.safetensors")["epoch"] == 1
    Spoiler.at = 10**6  # the cause is mended
    assert_same(plan.train(3, tmp_path), plan.train(3))


def test_run_whose_weights_break_in_an_epochs_last_batch_says_so_as_ever(tmp_path):
    """The loss was finite, the step after it wasn't: validation and saving come next."""
    plan = Plan(lambda: mc.SGD(1e39), options={"batch_size": 100, "validation": 0.25})
    with pytest.raises(mc.NotFinite, match="epoch 1"):
        plan.train(3, tmp_path)
    assert states(tmp_path) == []


def test_run_whose_gradient_isnt_finite_says_so(tmp_path):
    class Backward(Spoiler):
        def forward(self, x, training=False):
            self.cache = ()
            return x

        def backward(self, dy):
            return super().backward(dy) * nan

    plan = Plan(model=lambda: mc.Sequential(*net().layers[:-1], Backward(), *net().layers[-1:]))
    plan.options = {"batch_size": 100}
    with pytest.raises(mc.NotFinite):
        plan.train(2, tmp_path)
    assert states(tmp_path) == []


@pytest.mark.parametrize("folder", [False, True])
def test_run_unchecked_goes_on_and_never_saves_it(tmp_path, folder):
    """From the second epoch on nothing is finite: the first one's state stays."""
    plan = Plan(lambda: mc.SGD(lambda step: 0.01 if step < 6 else 1e30))
    options = {"check_finite": False}
    if folder:
        with pytest.warns(mc.CheckpointWarning, match="nothing was saved, since .* aren't finite"):
            result = plan.train(4, tmp_path, **options)
        assert saved(tmp_path / "last.safetensors")["epoch"] == 1
        assert states(tmp_path) == ["best", "epoch-0001", "last"]
        assert np.isfinite(mc.load(tmp_path / "last.safetensors").params.data).all()
    else:
        result = plan.train(4, **options)
    assert [record.epoch for record in result.records] == [1, 2, 3, 4]
    assert not np.isfinite(result.model.params.data).all()


def test_interrupted_run_whose_weights_arent_finite_still_ends_as_interrupted(tmp_path):
    plan = Plan(lambda: mc.SGD(lambda step: 0.01 if step < 6 else 1e30))
    with pytest.warns(mc.CheckpointWarning, match="nothing was saved"):
        stopped = plan.train(4, tmp_path, 9, check_finite=False)
    assert stopped.interrupted is not None and stopped.interrupted.code == 130
    assert saved(tmp_path / "last.safetensors")["epoch"] == 1


# On a GPU a step isn't to wait.


@pytest.fixture
def cupy():
    with installed() as module:
        yield module


def waits(cupy, *, check_finite, batches, monkeypatch, every=100):
    """Count the synchronizations in an epoch of a run on the GPU, without its end."""
    monkeypatch.setattr(run_module, "CHECK_EVERY", every)
    model, optimizer = net().build(runs.SHAPE, device="gpu"), mc.SGD(0.01)
    x, y = pictures(batches * 2)
    data = mc.Batches(model.device.asarray(x), model.device.asarray(y), 2)
    run = mc.Run(model, optimizer, data, progress=False, check_finite=check_finite)
    with run:
        for number, (x_batch, labels) in enumerate(run.rest_of_epoch(), start=1):
            if number == 2:
                before = cupy.counts.synchronizations
            mc.train_step(model, optimizer, x_batch, labels, meter=run.meter)
            if number == batches:
                return cupy.counts.synchronizations - before


@pytest.mark.parametrize(("every", "looks"), [(100, 0), (10, 2), (5, 4), (1, 23)])
def test_run_on_the_gpu_waits_for_its_looks_only(cupy, monkeypatch, every, looks):
    """A look at the loss waits once; the steps between two looks never do."""
    plain = waits(cupy, check_finite=False, batches=25, monkeypatch=monkeypatch)
    found = waits(cupy, check_finite=True, batches=25, monkeypatch=monkeypatch, every=every)
    assert plain == 0 and found == looks


def gpu_run(monkeypatch, every, batches, spoiled, epochs=1, folder=None):
    """Train on the GPU; after batch ``spoiled`` a weight isn't a number any more."""
    monkeypatch.setattr(run_module, "CHECK_EVERY", every)
    model, optimizer = net().build(runs.SHAPE, device="gpu"), mc.SGD(0.01)
    x, y = pictures(batches * 2)
    data = mc.Batches(model.device.asarray(x), model.device.asarray(y), 2)
    run, count = mc.Run(model, optimizer, data, folder=folder, progress=False), 0
    with run:
        while run.epoch < epochs:
            for x_batch, labels in run.rest_of_epoch():
                mc.train_step(model, optimizer, x_batch, labels, meter=run.meter)
                count += 1
                if count == spoiled:
                    model.params["conv2d_1/b"][0] = nan
            run.end_epoch()


@pytest.mark.parametrize(("every", "noticed"), [(1, 4), (5, 5), (8, 8)])
def test_run_on_the_gpu_is_stopped_at_the_next_look(cupy, monkeypatch, every, noticed):
    with pytest.raises(mc.NotFinite) as caught:
        gpu_run(monkeypatch, every, batches=20, spoiled=3)
    text = str(caught.value)
    assert text.startswith(f"epoch 1, batch {noticed}: ")
    assert re.search("the first layer that shows it is conv2d_1, in its [wb]", text)


def test_run_on_the_gpu_says_nothing_of_unchanged_weights(cupy, monkeypatch):
    """There they were changed since: by the batch itself, and by those before the look."""
    with pytest.raises(mc.NotFinite) as caught:
        gpu_run(monkeypatch, 5, batches=20, spoiled=3)
    assert "weren't changed by this batch" not in str(caught.value)


@pytest.mark.parametrize(("batches", "every"), [(7, 100), (7, 5), (101, 100)])
def test_run_on_the_gpu_is_stopped_at_an_epochs_end_at_the_latest(
    cupy, monkeypatch, tmp_path, batches, every
):
    """However few batches an epoch has: at its end the loss is read anyway."""
    with pytest.raises(mc.NotFinite, match=r"^epoch 2"):
        gpu_run(monkeypatch, every, batches, spoiled=2 * batches - 1, epochs=9, folder=tmp_path)
    assert saved(tmp_path / "last.safetensors")["epoch"] == 1


# The example.


@pytest.mark.parametrize("optimizer", ["sgd", "adam"])
@pytest.mark.parametrize(("batch_size", "lr"), [(16, 1e6), (120, 1e30), (120, 1e39)])
def test_train_cifar_exits_with_3(tmp_path, optimizer, batch_size, lr):
    flags = ["--epochs", 9, "--lr", lr, "--batch-size", batch_size]
    flags += ["--optimizer", optimizer, "--out", tmp_path]
    with runs.example(*flags) as started:
        _, said = started.communicate(timeout=60)
    assert started.returncode == 3, said
    assert re.search(r"train_cifar: epoch \d", said) and "Traceback" not in said
    assert not (tmp_path / "model.safetensors").exists()
