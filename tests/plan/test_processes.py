"""Plans whose slices run in processes: the same to the last bit, and never in anybody's way."""

from __future__ import annotations

import copy
import gc
import os
import signal
import time
import warnings

import numpy as np
import pytest
from worker_helpers import alarm, children, ended, linux, wait_until

import minicnn as mc
from minicnn import plan, workers
from minicnn.kernels.cpu import team as team_module
from minicnn.plan.kept import plans_of

from .nets import batch, build, by_plan, collect, copy_numbers, upstream
from .test_networks import NETWORKS
from .test_plan import Failing
from .test_random_networks import Composer

pytestmark = [linux, pytest.mark.usefixtures("at_once")]

N, PICTURE, CLASSES = 13, (7, 8, 3), 4


class Own(mc.Layer):
    """A layer of the user's, which nobody has a planner for, with what it remembers."""

    def forward(self, x, training=False):
        if "words" in self.buffers:
            self.buffers["words"] = np.append(self.buffers["words"], str(len(x)))
        self.cache = x
        return np.tanh(x) * x

    def infer(self, x):
        return np.tanh(x) * x

    def backward(self, dy):
        x = self.take_cache()
        return dy * (np.tanh(x) + x * (1 - np.tanh(x) ** 2))


def net():
    return [
        mc.Normalize(0.5, 0.25), mc.Conv2D(5, 3, kernel_regularizer=mc.L2(1e-3)), mc.BatchNorm(0.5),
        mc.ReLU(), mc.Dropout(0.3), mc.Residual([mc.Conv2D(5, 3, padding="same"), mc.BatchNorm()]),
        mc.Concat([[mc.Conv2D(2, 1)], [mc.GELU()]]), Own(), mc.Dropout(0.2), mc.Flatten(),
        mc.Dense(CLASSES),
    ]  # fmt: skip


def model_of(layers=None):
    return build(net() if layers is None else layers, PICTURE, "float32")


def labels_of(x):
    return np.arange(len(x)) % CLASSES


def crews(model):
    found = [p.team.crew for p in plans_of(model).kept.values()]
    return [crew for crew in found if crew is not None and crew.close.alive]


def train(model, steps=3, optimizer=None, n=N):
    """Train; return all that comes out of it, as bytes."""
    optimizer, found = optimizer or mc.SGD(0.05, momentum=0.9), {}
    for step in range(steps):
        x = batch(model, n, seed=step)
        found[f"loss {step}"] = mc.train_step(model, optimizer, x, labels_of(x)).tobytes()
    found["p"] = mc.predict(model, batch(model, n)).tobytes()
    for name, array in collect(model, model.params.data).items():
        found[name] = array.tobytes()
    return found


def each_way(work, slices=3):
    """Do some work on a new model in threads, then in processes: the same must come out."""
    with mc.threads(slices):
        with mc.processes(False):
            wanted = work()
            assert not children()
        found = work()
    assert list(found) == list(wanted)
    assert [name for name in wanted if found[name] != wanted[name]] == []
    return found


# The same to the last bit.


def test_first_slice_has_no_gradients_of_its_own():
    """It is at work in this process, where the model's own are; only the others' are shared."""
    model = model_of()
    with mc.threads(3):
        train(model, steps=1)
    (made,) = [made for made in plans_of(model).kept.values() if made.training]
    assert made.shared and made.grads[0] is model.params.grad
    blocks = {array.__array_interface__["data"][0] for array in made.grads}
    assert len(blocks) == 3 and len(blocks & set(made.buffers)) == 2


def test_workers_keep_no_old_weights(monkeypatch):
    """Nor gradients, nor what optimizers remember: they would, as soon as those change."""
    given, real = [], team_module.Crew

    def noting(count, do, spare):
        given.append([array.__array_interface__["data"] for array in spare])
        return real(count, do, spare)

    monkeypatch.setattr(team_module, "OFTEN", 1)
    monkeypatch.setattr(team_module, "Crew", noting)
    model, optimizer, other = model_of(), mc.Adam(ema_decay=0.9), model_of()
    train(other, optimizer=mc.Adam(), steps=1)
    train(model, optimizer=optimizer)
    wanted = [model.params.data, model.params.grad, *optimizer.memory.values()]
    assert given == [[array.__array_interface__["data"] for array in wanted]]
    assert len(wanted) == 5


@pytest.mark.parametrize("slices", [2, 3, 5])
def test_training_and_prediction_are_the_same(slices):
    def work():
        model = model_of()
        found = train(model)
        if workers.processes_allowed():
            assert [len(crew.lines) for crew in crews(model)] == [slices - 1] * 2
        return found

    each_way(work, slices)


KINDS = [
    mc.SGD, lambda lr: mc.SGD(lr, momentum=0.9, nesterov=True), mc.RMSprop, mc.Adam,
    lambda lr: mc.AdamW(lr, weight_decay=0.1, ema_decay=0.9),
]  # fmt: skip


@pytest.mark.parametrize("kind", range(len(KINDS)))
def test_every_optimizer_comes_to_the_same(kind):
    each_way(lambda: train(model_of(), 4, KINDS[kind](0.01)))


@pytest.mark.parametrize("name", NETWORKS)
def test_networks_of_all_kinds_give_the_same(name):
    make, shape = NETWORKS[name]

    def work():
        model, found = build(make(), shape, "float32"), {}
        x, dy = batch(model, 10), upstream(model, 10)
        for step in range(2):
            found |= {f"{k} {step}": v.tobytes() for k, v in by_plan(model, x, dy).items()}
        return found | {"infer": plan.infer(model, x).tobytes()}

    with mc.conv_algorithm("winograd"):  # wherever it can be
        each_way(work)


@pytest.mark.parametrize("seed", range(12))
def test_random_networks_give_the_same(seed):
    composer = Composer(1000 + seed)
    layers, shape = composer.network()
    n, slices = (int(n) for n in composer.rng.integers((4, 2), (15, 6)))
    try:
        mc.Sequential(copy.deepcopy(layers)).build(shape)
    except mc.ShapeError:
        pytest.skip("the pictures have become too small")

    def work():
        model, found = build(copy.deepcopy(layers), shape, "float32"), {}
        for step in range(2):
            x = batch(model, n, step)
            results = by_plan(model, x, upstream(model, n))
            found |= {f"{k} {step}": v.tobytes() for k, v in results.items()}
        return found | {"infer": plan.infer(model, x).tobytes()}

    each_way(work, slices)


def test_layer_without_planner_keeps_what_it_likes():
    """Its buffers stay here: they may be of any kind, and grow."""

    def work():
        model = model_of([mc.Conv2D(5, 3), own := Own(), mc.Flatten(), mc.Dense(CLASSES)])
        own.buffers["words"] = np.array(["none"])
        found = train(model)
        assert own.buffers["words"].tolist() == ["none", "13", "13", "13"]
        return found

    each_way(work)


def test_it_is_the_same_before_and_after_processes_are_started(monkeypatch):
    monkeypatch.setattr(team_module, "OFTEN", 2)
    each_way(lambda: train(model_of(), 5))


# What is changed from outside.


def batchnorm(model):
    return next(layer for layer in model.walk() if isinstance(layer, mc.BatchNorm))


def dropout(model):
    return next(layer for layer in model.walk() if isinstance(layer, mc.Dropout))


def load(model, folder):
    other = mc.Sequential(*net()[:4], *net()[8:]).build(PICTURE, seed=9)
    mc.save(other, folder / "other.safetensors")
    mc.load(folder / "other.safetensors", model)


def weights(model):
    twin = mc.Sequential(*net()[:4], *net()[8:]).build(PICTURE, seed=9)
    copy_numbers(twin, model)


CHANGES = {
    "weights in place": lambda model: model.params.data.__imul__(0.5),
    "weights of another": weights,
    "weight in another array": lambda model: setattr(model[1], "w", model[1].w * 2),
    "statistics in place": lambda m: batchnorm(m).buffers["running_mean"].fill(0.7),
    "statistics in another array": lambda m: batchnorm(m).buffers.update(
        running_var=np.full_like(batchnorm(m).buffers["running_var"], 3)
    ),
    "normalization": lambda model: model[0].buffers["mean"].fill(0.9),
    "stream": lambda m: setattr(dropout(m), "stream", mc.Stream(77, "other")),
    "position": lambda m: setattr(dropout(m).stream, "position", 40),
    "rate": lambda model: setattr(dropout(model), "rate", 0.8),
    "eps": lambda model: setattr(batchnorm(model), "eps", 0.3),
    "momentum": lambda model: setattr(batchnorm(model), "momentum", 0.1),
    "built again": lambda model: model.build(PICTURE, seed=8),
    "forgotten": plan.forget,
}  # fmt: skip


@pytest.mark.parametrize("name", CHANGES)
def test_what_is_changed_between_steps_is_seen(name):
    def work(change=CHANGES[name]):
        model = model_of([*net()[:4], *net()[8:]])
        before = train(model)
        change(model)
        return {"before": before["p"], **train(model, 2)}

    found = each_way(work)
    if name != "forgotten":
        assert work(lambda model: None) != found, "the change matters"


def test_model_that_is_loaded_goes_on_as_it_was(tmp_path):
    """Weights, statistics and the place in the stream are taken up by the workers."""

    def work():
        model = model_of([*net()[:4], *net()[8:]])
        optimizer = mc.Adam(0.01)
        train(model, 2, optimizer)
        mc.save(model, tmp_path / "model.safetensors")
        loaded = mc.load(tmp_path / "model.safetensors")
        dropout(loaded).stream = copy.copy(dropout(model).stream)
        wanted = train(model, 2)
        assert train(loaded, 2) == wanted
        return wanted

    each_way(work)


# Errors.


def test_numbers_that_are_asked_to_be_errors_are():
    model = model_of([mc.Conv2D(5, 3), mc.ReLU(), mc.Flatten(), mc.Dense(CLASSES)])
    x = batch(model, N).copy()
    with mc.threads(2):
        train(model)
        x[-1] = 3e38  # in the worker's slice
        model.params.data *= 100
        for _ in range(2):
            with np.errstate(all="raise"), pytest.raises(FloatingPointError):
                plan.infer(model, x)
        with np.errstate(all="ignore"):
            plan.infer(model, x)
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            plan.infer(model, x)
        assert {w.category for w in caught} == {RuntimeWarning}
        called = []
        with np.errstate(all="call", call=lambda *said: called.append(said)):
            plan.infer(model, x)
    assert called, "it is called here"


def test_no_memory_in_a_worker_names_the_layer(monkeypatch):
    def refuse(*_):
        if os.getpid() != here:
            raise MemoryError("on purpose")
        return real(*_)

    here, real = os.getpid(), mc.functional.activation.leaky_relu_forward
    model = model_of([mc.Conv2D(6, 3), mc.LeakyReLU(2), mc.Flatten(), mc.Dense(CLASSES)])
    monkeypatch.setattr("minicnn.functional.activation.leaky_relu_forward", refuse)
    named = r"leakyrelu_1 \(LeakyReLU\)"  # odd slopes run by the layer's own methods
    with mc.threads(3), pytest.raises(mc.layers.base.OutOfMemory, match=named):
        train(model)
    gc.collect()  # the error holds on to it
    assert not children(), "all is given back"


@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt])
@pytest.mark.parametrize("where", ["forward", "backward", "infer"])
def test_step_after_one_that_failed_in_a_layer(where, error):
    def work():
        model = model_of([*net()[:5], failing := Failing(), *net()[8:]])
        train(model, 2)
        failing.where, failing.error = where, error
        with pytest.raises(error, match="on purpose"):
            train(model, 1)
        return train(model, 2)

    each_way(work)


def test_interrupt_at_any_moment_leaves_the_next_step_working():
    """Ctrl-C comes when it likes; from the same numbers, the same step then gives the same."""
    model, start = model_of(), model_of()
    x, dy = batch(model, N), upstream(model, N)

    def step():
        copy_numbers(start, model)
        return {name: array.tobytes() for name, array in by_plan(model, x, dy).items()}

    rng, count = np.random.default_rng(0), 0
    with mc.threads(3):
        wanted, end = step(), time.monotonic() + 2
        while time.monotonic() < end:
            try:
                with alarm(rng.uniform(0.0005, 0.03)):
                    while True:
                        assert step() == wanted
            except KeyboardInterrupt:
                count += 1
            assert len(children()) == sum(len(crew.lines) for crew in crews(model))
            assert step() == wanted
    assert count > 5


def test_step_after_a_worker_was_killed():
    def work():
        model = model_of()
        train(model, 2)
        if workers.processes_allowed():
            victim = max(children())
            os.kill(victim, signal.SIGKILL)
            wait_until(lambda: ended(victim))
            with pytest.raises(RuntimeError, match="ended from outside"):
                for _ in range(2):  # one of them is training's, one prediction's
                    plan.infer(model, batch(model, N))
                    mc.backpropagate(model, batch(model, N), labels_of(batch(model, N)))
            copy_numbers(twin, model)
        else:
            copy_numbers(model, twin)
        return train(model, 2)

    twin = model_of()
    each_way(work)


def refuse_to_fork():
    raise BlockingIOError(11, "on purpose")


FAILURES = {
    "no fork": ("os.fork", refuse_to_fork),
    "hangs": ("minicnn.workers.serve", lambda *_: time.sleep(60)),
    "ends": ("minicnn.workers.serve", lambda *_: os._exit(1)),
}


@pytest.mark.parametrize("name", FAILURES)
def test_threads_do_it_where_there_can_be_no_processes(name, monkeypatch):
    monkeypatch.setattr(*FAILURES[name])
    monkeypatch.setattr(workers, "READY", 0.05)

    def work():
        model = model_of()
        found = train(model)
        assert not crews(model) and not children()
        return found

    each_way(work)
