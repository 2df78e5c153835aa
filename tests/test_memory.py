"""Memory: what summary says, what a step takes, and what is said where there is none."""

from __future__ import annotations

import gc
import os
import subprocess
import sys
import time
import tracemalloc
import weakref
from functools import partial
from math import inf
from pathlib import Path

import numpy as np
import pytest
from standin import installed

import minicnn as mc
from minicnn.functional import activation
from minicnn.kernels import memory
from minicnn.kernels.cpu.update import BLOCK_BYTES
from minicnn.kernels.cuda import blas
from minicnn.parallel import thread_count
from minicnn.plan import kept as keeper
from minicnn.plan import plan as plan_module
from minicnn.plan.kept import plans_of

FACTOR, SLACK = 1.6, 8 << 20  # the slack is for what doesn't grow: nobody runs out by 8 MB


def block(filters):
    return mc.Residual(
        [mc.Conv2D(filters, 3, padding="same"), mc.BatchNorm(), mc.ReLU()],
        mc.Conv2D(filters, 1),
    )


NETS = {
    "tutorial": (mc.models.tutorial_cnn, (32, 32, 3)),
    "dense": (
        lambda: mc.Sequential(
            mc.Normalize(), mc.Flatten(), mc.Dense(1024), mc.ReLU(), mc.Dense(512), mc.ReLU(),
            mc.Dense(10),
        ),
        (32, 32, 3),
    ),
    "batchnorm": (
        lambda: mc.Sequential(
            mc.Normalize(), mc.Conv2D(32, 3, padding="same"), mc.BatchNorm(), mc.ReLU(),
            mc.Conv2D(32, 3, padding="same"), mc.BatchNorm(), mc.ReLU(),
            mc.GlobalAveragePool2D(), mc.Dense(10),
        ),
        (32, 32, 3),
    ),
    "residual": (
        lambda: mc.Sequential(
            mc.Normalize(), block(16), block(24), mc.MaxPool2D(2), block(24),
            mc.GlobalAveragePool2D(), mc.Dense(10),
        ),
        (32, 32, 3),
    ),
    "concat": (
        lambda: mc.Sequential(
            mc.Normalize(),
            mc.Concat([
                mc.Conv2D(16, 1),
                [mc.Conv2D(8, 1), mc.ReLU(), mc.Conv2D(16, 3, padding="same")],
                [mc.MaxPool2D(3, 1, "same"), mc.Conv2D(8, 1)],
            ]),
            mc.ReLU(), mc.AveragePool2D(2), mc.Flatten(), mc.Dense(10),
        ),
        (24, 24, 3),
    ),
    "dropout": (
        lambda: mc.Sequential(
            mc.Normalize(), mc.Conv2D(32, 3), mc.ReLU(), mc.Dropout(0.3), mc.MaxPool2D(2),
            mc.Conv2D(64, 3), mc.Tanh(), mc.Dropout(0.3), mc.Flatten(), mc.Dense(10),
        ),
        (24, 24, 3),
    ),
    "gelu": (
        lambda: mc.Sequential(
            mc.Normalize(), mc.Conv2D(32, 3, padding="same"), mc.GELU(), mc.MaxPool2D(2),
            mc.Conv2D(32, 3, padding="same"), mc.GELU(), mc.Flatten(), mc.Dense(10),
        ),
        (24, 24, 3),
    ),
    "activations": (
        lambda: mc.Sequential(
            mc.Normalize(), mc.Conv2D(16, 3, padding="same"), mc.SiLU(), mc.LeakyReLU(),
            mc.Sigmoid(), mc.Tanh(), mc.AveragePool2D(2), mc.Flatten(), mc.Dense(10),
        ),
        (32, 32, 3),
    ),
    "large_pictures": (
        lambda: mc.Sequential(
            mc.Normalize(), mc.Conv2D(16, 5, 2), mc.ReLU(), mc.AveragePool2D(2), mc.Conv2D(32, 3),
            mc.ReLU(), mc.GlobalAveragePool2D(), mc.Dense(10),
        ),
        (96, 96, 3),
    ),
}  # fmt: skip


@pytest.fixture(autouse=True)
def memory_is_traced():
    """Let slices run in threads: what processes share is mapped, and tracemalloc doesn't see it."""
    with mc.processes(False):
        yield


def peak(work) -> int:
    """Return the bytes that ``work`` took at most, beside what was there before."""
    gc.collect()
    tracemalloc.start()
    try:
        work()
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


def array_bytes() -> int:
    """Return the bytes of all arrays made since tracing began; not Python's own tables, which grow.

    (An interpreter's table of strings doubles some day, by megabytes.)
    """
    arrays = tracemalloc.DomainFilter(True, np.lib.tracemalloc_domain)
    return sum(trace.size for trace in tracemalloc.take_snapshot().filter_traces([arrays]).traces)


def batch(shape, n, classes=10):
    rng = np.random.default_rng(0)
    return rng.integers(0, 256, (n, *shape)).astype("uint8"), rng.integers(0, classes, n)


def kept(model):
    """Return the plans that a model keeps."""
    return list(plans_of(model).kept.values())


def held(model):
    """Return the bytes of all memory that a model's plans hold, by where it lies."""
    return {place: size for plan in kept(model) for place, size in plan.buffers.items()}


def check_estimate(estimate, measured, slack=SLACK):
    assert measured / FACTOR < estimate < FACTOR * measured + slack, (
        f"estimated {estimate / 1e6:.1f} MB, measured {measured / 1e6:.1f} MB"
    )


@pytest.mark.parametrize("n", [8, 64, 160])
@pytest.mark.parametrize("name", NETS)
def test_summary_estimates_a_training_step(name, n):
    make, shape = NETS[name]
    model, optimizer, (x, y) = make().build(shape), mc.Adam(), batch(shape, n)
    measured = 2 * model.params.data.nbytes  # the weights and their gradients
    measured += peak(lambda: mc.train_step(model, optimizer, x, y))
    check_estimate(model.summary(n).training_bytes, measured)


@pytest.mark.parametrize("n", [8, 64, 160])
@pytest.mark.parametrize("name", NETS)
def test_summary_estimates_a_prediction(name, n):
    """What layers by the book take for a moment coincides in the threads, or doesn't.

    So two threads may take less than is estimated, by chance; one thread always takes the same.
    """
    make, shape = NETS[name]
    for threads, slack in ((1, SLACK), (2, inf)):
        model, (x, _) = make().build(shape), batch(shape, n)
        with mc.threads(threads):
            measured = model.params.data.nbytes + peak(partial(mc.predict, model, x, n))
            check_estimate(model.summary(n).prediction_bytes, measured, slack)


@pytest.mark.parametrize("name", ["tutorial", "residual", "concat"])
def test_summary_estimates_float64(name):
    make, shape = NETS[name]
    model, (x, y) = make().build(shape, dtype="float64"), batch(shape, 64)
    measured = 2 * model.params.data.nbytes
    measured += peak(lambda: mc.train_step(model, mc.Adam(), x, y))
    check_estimate(model.summary(64).training_bytes, measured)


@pytest.mark.parametrize("name", NETS)
def test_summary_grows_in_a_line_with_the_batch(name):
    make, shape = NETS[name]
    model = make().build(shape)
    few, more, many = (model.summary(n) for n in (100, 200, 400))
    for kind in ("training_bytes", "prediction_bytes"):
        one, two, four = (getattr(s, kind) for s in (few, more, many))
        assert 0 < one < two and four - two == 2 * (two - one)


def test_summary_leaves_the_model_alone():
    model = NETS["dropout"][0]().build((24, 24, 3))
    before = model.params.data.copy(), {k: v.copy() for k, v in model.state.items()}
    assert "MB to train in batches of 64" in str(model.summary(64))
    np.testing.assert_array_equal(model.params.data, before[0])
    for name, array in before[1].items():
        np.testing.assert_array_equal(model.state[name], array)
    assert all(layer.cache is None for layer in model.walk())
    assert all(stream.position == 0 for stream in model.streams.values())


@pytest.mark.parametrize("size", [0, -1, 2.5, True, "64", float("nan")])
def test_summary_refuses_batch_sizes(size):
    model = mc.Sequential(mc.Flatten(), mc.Dense(2)).build((2, 2, 1))
    with pytest.raises((ValueError, TypeError), match="batch_size"):
        model.summary(size)


# Where there are no plans, the layers run one after the other, and keep other things than a plan.


@pytest.mark.parametrize("n", [3, 16])
@pytest.mark.parametrize("name", NETS)
def test_summary_estimates_a_step_on_a_gpu(name, n):
    """Measured on the stand-in, whose arrays are NumPy's."""
    make, shape = NETS[name]
    with installed():
        model, optimizer = make().build(shape, device="gpu"), mc.Adam()
        blas.prepare()  # which takes memory of its own, once
        x, y = map(model.device.asarray, batch(shape, n))
        trained = 2 * model.params.data.nbytes
        trained += peak(lambda: mc.train_step(model, optimizer, x, y))
        keeper.forget(model)
        predicted = model.params.data.nbytes + peak(lambda: mc.predict(model, x, n))
        summary = model.summary(n)
    check_estimate(summary.training_bytes, trained)
    check_estimate(summary.prediction_bytes, predicted)


class Own(mc.Sequential):
    """A subclass might do anything in its methods: it gets no plan."""


@pytest.mark.parametrize("n", [8, 64])
@pytest.mark.parametrize("name", NETS)
def test_summary_estimates_a_model_without_plans(name, n):
    make, shape = NETS[name]
    model, (x, y) = Own(*make().layers).build(shape), batch(shape, n)
    trained = 2 * model.params.data.nbytes
    trained += peak(lambda: mc.train_step(model, mc.Adam(), x, y))
    assert plans_of(model).kept == {}
    predicted = model.params.data.nbytes + peak(lambda: mc.predict(model, x, n))
    summary = model.summary(n)
    check_estimate(summary.training_bytes, trained)
    check_estimate(summary.prediction_bytes, predicted)


@pytest.mark.parametrize("n", [8, 64, 160])
def test_summary_knows_layers_of_the_users(n):
    """Their memory isn't a plan's: what they keep, and the copy of x that they are given."""

    class Doubled(mc.Layer):
        def forward(self, x, training=False):
            self.cache = x, x + x
            return 2 * self.cache[1]

        def backward(self, dy):
            self.take_cache()
            return 4 * dy

    model = mc.Sequential(
        mc.Normalize(), mc.Conv2D(32, 3), Doubled(), mc.ReLU(), Doubled(), mc.MaxPool2D(2),
        mc.Flatten(), mc.Dense(10),
    ).build((24, 24, 3))  # fmt: skip
    x, y = batch((24, 24, 3), n)
    measured = 2 * model.params.data.nbytes
    measured += peak(lambda: mc.train_step(model, mc.Adam(), x, y))
    check_estimate(model.summary(n).training_bytes, measured)


def test_summary_takes_little_memory_itself():
    """It makes small plans, whatever the batch, and keeps none."""
    model = NETS["tutorial"][0]().build((32, 32, 3))
    few, many = (peak(lambda n=n: model.summary(n)) for n in (64, 64_000))
    assert many < few + 1_000_000 and plans_of(model).kept == {}
    assert model.summary(64_000).training_bytes > 5e9


# Nothing piles up.


def test_train_step_leaks_nothing():
    model = mc.Sequential(
        mc.Normalize(), mc.Conv2D(4, 3), mc.BatchNorm(), mc.GELU(), mc.Dropout(0.2),
        mc.Residual([mc.Conv2D(4, 1), mc.ReLU()]), mc.Flatten(), mc.Dense(10),
    ).build((8, 8, 3))  # fmt: skip
    (x, y), optimizer, meter = batch((8, 8, 3), 16), mc.Adam(), mc.Meter()
    for _ in range(20):
        mc.train_step(model, optimizer, x, y, meter=meter)
    gc.collect()
    tracemalloc.start()
    try:
        mc.train_step(model, optimizer, x, y, meter=meter)
        before = tracemalloc.get_traced_memory()[0]
        for _ in range(300):
            mc.train_step(model, optimizer, x, y, meter=meter)
        assert tracemalloc.get_traced_memory()[0] - before < 100_000
    finally:
        tracemalloc.stop()


def uses(model, optimizer, x, y):
    """What takes turns in a run: a batch and the last one, in training and in validation."""
    return [
        lambda: mc.train_step(model, optimizer, x, y),
        lambda: mc.train_step(model, optimizer, x[:19], y[:19]),
        lambda: mc.evaluate(model, x, y),
        lambda: mc.predict(model, x[:19]),
    ]


# All layers of these have planners; in the others, layers' own methods make arrays in each step.
@pytest.mark.parametrize("name", ["tutorial", "dense", "batchnorm"])
def test_second_step_allocates_nothing_in_the_size_of_activations(name):
    """All is there from the first on, whoever took his turn meanwhile."""
    make, shape = NETS[name]
    model, optimizer, (x, y) = make().build(shape), mc.Adam(), batch(shape, 32)
    for use in uses(model, optimizer, x, y):
        use()
    blocks = thread_count() * min(2 * BLOCK_BYTES, model.params.data.nbytes)  # the optimizer's
    for use in uses(model, optimizer, x, y):
        assert peak(use) < blocks + 300_000


@pytest.mark.parametrize("name", NETS)
def test_plans_of_a_model_share_their_memory(name):
    """Together they hold little more than the largest of them; each has copies of gradients."""
    make, shape = NETS[name]
    model, (x, y) = make().build(shape), batch(shape, 64)
    for use in uses(model, mc.Adam(), x, y):
        use()
    copies = sum(array.nbytes for plan in kept(model) for array in plan.grads[1:])
    together, alone = sum(held(model).values()) - copies, [plan.nbytes for plan in kept(model)]
    assert len(alone) == 4 and together < 1.3 * max(alone) + (1 << 20)
    assert together < 0.7 * sum(alone)


@pytest.mark.parametrize("name", NETS)
def test_plans_go_with_their_model_at_once(name):
    """Without waiting for the garbage collector, which comes when it likes."""
    make, shape = NETS[name]
    x, y = batch(shape, 20)
    mc.predict(make().build(shape), x)  # what is made once in a process
    mc.train_step(make().build(shape), mc.Adam(), x, y)
    gc.collect()
    gc.disable()
    tracemalloc.start()
    try:
        before = array_bytes()
        model = make().build(shape)
        for use in uses(model, mc.Adam(), x, y):
            use()
        grown = array_bytes() - before
        assert grown > 1_000_000
        assert all(part.cache is None for part in model.walk())
        del model, use
        limit, patience = before + 0.02 * grown + 50_000, 50
        while array_bytes() > limit and patience:
            time.sleep(0.02)  # a thread that has done its job lets go of it when it's on again
            patience -= 1
        assert array_bytes() < limit
    finally:
        gc.enable()
        tracemalloc.stop()


def test_forget_gives_the_memory_of_plans_back():
    model = NETS["tutorial"][0]().build((32, 32, 3))
    (x, y), optimizer = batch((32, 32, 3), 32), mc.Adam()
    mc.train_step(model, optimizer, x[:1], y[:1])
    mc.plan.forget(model)
    tracemalloc.start()
    try:
        before = tracemalloc.get_traced_memory()[0]
        for use in uses(model, optimizer, x, y):
            use()
        assert tracemalloc.get_traced_memory()[0] - before > 5_000_000
        mc.plan.forget(model)
        assert tracemalloc.get_traced_memory()[0] - before < 100_000
    finally:
        tracemalloc.stop()
    assert np.isfinite(float(mc.train_step(model, optimizer, x, y)))  # and it goes on


def test_model_keeps_few_plans_however_many_sizes_its_batches_have():
    model = small()
    (x, y), optimizer = batch((32, 32, 3), 64, 3), mc.SGD(0.01)
    sizes = [*range(64, 0, -3), *range(1, 64, 5)]
    for n in sizes:
        mc.train_step(model, optimizer, x[:n], y[:n])
        mc.predict(model, x[:n])
    assert 1 < len(kept(model)) <= 4
    assert sum(held(model).values()) < 4 * max(plan.nbytes for plan in kept(model))


@pytest.mark.parametrize("use", ["predict", "evaluate"])
def test_prediction_in_large_batches_keeps_nothing(use, monkeypatch):
    model, (x, y) = small(), batch((32, 32, 3), 128, 3)
    mc.predict(model, x[:16])
    small_one = kept(model)
    monkeypatch.setattr(keeper, "LARGE", max(plan.own for plan in small_one))
    made = []
    make = keeper.make_plan
    monkeypatch.setattr(keeper, "make_plan", lambda *args: made.append(make(*args)) or made[-1])
    mc.predict(model, x, 64) if use == "predict" else mc.evaluate(model, x, y, 64)
    assert kept(model) == small_one  # what small batches took stays for the next
    assert len(made) == 1  # for both batches of 64: it went at the end
    mc.train_step(model, mc.SGD(0.01), x, y)
    assert len(kept(model)) == 2  # in training each step needs it again


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="/proc")
def test_fit_with_validation_takes_little_memory(tmp_path):
    """The tutorial's network in batches of 128; a process with PyTorch takes 400 MB for it."""
    script = """
from pathlib import Path
import numpy as np, minicnn as mc
rng = np.random.default_rng(0)
x = rng.integers(0, 256, (2000, 32, 32, 3), dtype="uint8")
y = rng.integers(0, 10, 2000)
model = mc.models.tutorial_cnn().build((32, 32, 3))
for _ in mc.fit(model, x, y, optimizer=mc.Adam(), epochs=2, validation=0.3, progress=False):
    pass
print(Path("/proc/self/status").read_text().partition("VmHWM:")[2].split()[0])
"""
    ran = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, timeout=60, cwd=tmp_path
    )
    assert ran.returncode == 0, ran.stderr[-2000:]
    assert int(ran.stdout) < 150_000  # kilobytes, Python and NumPy included


def test_predict_memory_doesnt_grow_with_the_pictures():
    model = NETS["tutorial"][0]().build((32, 32, 3))
    x, _ = batch((32, 32, 3), 640)
    mc.predict(model, x[:32], 32)
    few, many = (peak(lambda n=n: mc.predict(model, x[:n], 32)) for n in (64, 640))
    assert many < few + 2 * 640 * 10 * 4 + 100_000  # what it returns, in parts and whole


# Without memory: which layer, how much, and what to do.

SIZE = 50_000_000  # pictures that lie in one byte


def endless(shape, dtype="uint8", n=SIZE):
    return np.broadcast_to(np.zeros((), dtype), (n, *shape))


def small():
    return mc.Sequential(
        mc.Normalize(), mc.Conv2D(4, 3), mc.ReLU(), mc.Flatten(), mc.Dense(3)
    ).build((32, 32, 3))


def check_text(error, *texts):
    for text in (*texts, "batch_size", "summary(batch_size)"):
        assert text in str(error), str(error)
    assert isinstance(error, MemoryError) and len(str(error)) < 1000


@pytest.mark.parametrize("use", ["forward", "infer", "predict", "evaluate", "train_step"])
def test_out_of_memory_names_the_layer_and_the_cure(use):
    model, x = small(), endless((32, 32, 3))
    y = np.broadcast_to(np.zeros((), "int64"), (SIZE,))
    do = {
        "forward": lambda: model.forward(x),
        "infer": lambda: model.infer(x),
        "predict": lambda: mc.predict(model, x, SIZE),
        "evaluate": lambda: mc.evaluate(model, x, y, SIZE),
        "train_step": lambda: mc.train_step(model, mc.Adam(), x, y),
    }[use]
    with pytest.raises(MemoryError) as caught:
        do()
    check_text(caught.value, "normalize_1 (Normalize)", f"({SIZE}, 32, 32, 3)", "GiB")
    x, y = batch((32, 32, 3), 8, 3)
    assert mc.predict(model, x).shape == (8, 3)  # and a smaller one works
    assert np.isfinite(float(mc.train_step(model, mc.Adam(), x, y)))


def test_out_of_memory_in_the_pictures_themselves():
    """A model that takes floats turns other floats into its own dtype before its first layer."""
    model = mc.Sequential(mc.Conv2D(4, 3), mc.Flatten(), mc.Dense(3)).build((32, 32, 3))
    with pytest.raises(MemoryError) as caught:
        model.forward(endless((32, 32, 3), "float64"))
    check_text(caught.value, f"({SIZE}, 32, 32, 3)")


class Hungry(mc.Layer):
    """A layer that finds no memory when it is told to."""

    where = ""

    def find(self, where):
        if self.where == where:
            raise MemoryError("Unable to allocate 9.31 GiB")

    def forward(self, x, training=False):
        self.find("forward")
        self.cache = ()
        return x

    def infer(self, x):
        self.find("infer")
        return x

    def backward(self, dy):
        self.find("backward")
        self.take_cache()
        return dy


def hungry(where):
    layer = Hungry()
    layer.where = where
    return layer


PATHS = {
    "top": (lambda a: [a], "hungry_1 (Hungry)"),
    "nested": (lambda a: [mc.Sequential(mc.ReLU(), a)], "sequential_1/hungry_1 (Hungry)"),
    "body": (lambda a: [mc.Residual(a)], "residual_1/body (Hungry)"),
    "body_list": (lambda a: [mc.Residual([mc.ReLU(), a])], "residual_1/body/hungry_1 (Hungry)"),
    "shortcut": (
        lambda a: [mc.ReLU(), mc.Residual([mc.ReLU()], a)], "residual_1/shortcut (Hungry)"),
    "branch": (lambda a: [mc.Concat([mc.ReLU(), a])], "concat_1/branch_2 (Hungry)"),
    "branch_list": (
        lambda a: [mc.Concat([[mc.ReLU()], [a]])], "concat_1/branch_2/hungry_1 (Hungry)"),
    "deep": (
        lambda a: [mc.Residual([mc.Concat([mc.Residual([a])])])],
        "residual_1/body/concat_1/branch_1/body/hungry_1 (Hungry)",
    ),
    "named": (
        lambda a: [mc.Residual([mc.Sequential(a, name="stage")], name="block")],
        "block/body/stage/hungry_1 (Hungry)",
    ),
}  # fmt: skip


@pytest.mark.parametrize("where", ["forward", "infer", "backward"])
@pytest.mark.parametrize("name", PATHS)
def test_out_of_memory_names_nested_layers_by_their_path(name, where):
    make, path = PATHS[name]
    layer = hungry(where)
    first = mc.Conv2D(2, 1)  # has parameters, so that backward gets past the hungry one
    model = mc.Sequential(first, *make(layer), mc.Flatten(), mc.Dense(2)).build((3, 3, 2))
    x, y = np.ones((4, 3, 3, 2), "float32"), np.zeros(4, int)
    for _ in range(2):  # a second time it is the same
        with pytest.raises(MemoryError) as caught:
            mc.predict(model, x) if where == "infer" else mc.train_step(model, mc.SGD(), x, y)
        check_text(caught.value, path, "(4, 3, 3, ", "9.31 GiB")
    layer.where = ""
    assert np.isfinite(float(mc.train_step(model, mc.SGD(), x, y)))
    assert mc.predict(model, x).shape == (4, 2)


@pytest.mark.parametrize("where", ["forward", "backward"])
def test_out_of_memory_gives_back_what_was_kept(where):
    model = mc.Sequential(mc.Conv2D(2, 1), mc.Residual(hungry(where)), mc.Flatten(), mc.Dense(2))
    model.build((3, 3, 2))
    with pytest.raises(MemoryError):
        mc.train_step(model, mc.SGD(), np.ones((4, 3, 3, 2), "float32"), np.zeros(4, int))
    assert [part.path for part in model.walk() if part.cache is not None] == []


@pytest.mark.parametrize("where", ["loss", "optimizer"])
def test_out_of_memory_after_the_layers_says_where(where):
    model, optimizer = small(), mc.Adam()
    x, y = batch((32, 32, 3), 4, 3)

    def fail(*_):
        raise MemoryError("Unable to allocate 9.31 GiB")

    options = {"loss": fail} if where == "loss" else {}
    if where == "optimizer":
        optimizer.update = fail
    with pytest.raises(MemoryError, match=r"9\.31 GiB"):
        mc.train_step(model, optimizer, x, y, **options)


class Budget:
    """Room for the blocks of plans: what is more isn't there.  taken: what there is of them."""

    def __init__(self, monkeypatch):
        self.room, self.taken, self.aligned = 1 << 40, 0, memory.aligned
        monkeypatch.setattr(memory, "aligned", self.take)

    def take(self, size):
        if self.taken + size > self.room:
            raise MemoryError(f"Unable to allocate {size} bytes")
        block = self.aligned(size)
        self.taken += size
        weakref.finalize(block.base, self.give_back, size)
        return block

    def give_back(self, size):
        self.taken -= size


@pytest.mark.parametrize("name", ["tutorial", "batchnorm", "residual"])
def test_other_plans_are_given_up_for_a_new_one(name, monkeypatch):
    make, shape = NETS[name]
    budget, optimizer, (x, y) = Budget(monkeypatch), mc.Adam(), batch(shape, 192)
    monkeypatch.setattr(plan_module, "WASTE", inf)  # a draft takes more than the plan
    with mc.threads(1):
        predicting, training = make().build(shape), make().build(shape)
        mc.predict(predicting, x)
        alone = budget.taken
        mc.train_step(training, optimizer, x[:64], y[:64])
        step = budget.taken - alone
        del predicting
        mc.predict(training, x)
        together = budget.taken
        assert together > max(alone, step)  # they don't fit into one another
        budget.room = (together + max(alone, step)) // 2
        for _ in range(2):
            mc.plan.forget(training)
            assert np.isfinite(float(mc.train_step(training, optimizer, x[:64], y[:64])))
            assert [plan.training for plan in kept(training)] == [True]
            assert mc.predict(training, x).shape == (192, 10)
            assert [plan.training for plan in kept(training)] == [False]


@pytest.mark.parametrize("share", [0.3, 0.6, 0.97])
@pytest.mark.parametrize("name", ["tutorial", "residual", "concat", "gelu"])
def test_half_a_plan_is_gone_before_the_error_is(name, share, monkeypatch):
    """So that a smaller batch works where the error is caught."""
    make, shape = NETS[name]
    budget, (x, y) = Budget(monkeypatch), batch(shape, 64)
    with mc.threads(2), mc.processes(False):
        mc.train_step(make().build(shape), mc.SGD(), x, y)
        model, needed = make().build(shape), budget.taken
        mc.train_step(model, mc.SGD(), x, y)
        budget.room = int(share * (budget.taken - needed)) + needed
        mc.plan.forget(model)
        try:
            mc.train_step(model, mc.SGD(), x, y)
        except MemoryError as error:
            path = str(error).partition(" (")[0]
            assert path in {layer.path for layer in model.walk()}
            check_text(error, "(64, ", "Unable to allocate")
            assert kept(model) == [] and budget.taken <= needed
            assert np.isfinite(float(mc.train_step(model, mc.SGD(), x[:2], y[:2])))
        else:
            pytest.fail("it went well")


def test_out_of_memory_for_copies_of_the_gradients(monkeypatch):
    model, (x, y) = small(), batch((32, 32, 3), 32, 3)

    def lasting(self, shape, dtype):
        if shape == model.params.grad.shape:
            raise MemoryError("Unable to allocate 9.31 GiB")
        return real(self, shape, dtype)

    real = memory.Memory.lasting
    with monkeypatch.context() as patched, mc.threads(2):
        patched.setattr(memory.Memory, "lasting", lasting)
        with pytest.raises(MemoryError) as caught:
            mc.train_step(model, mc.SGD(), x, y)
    check_text(caught.value, "normalize_1 (Normalize)", "(32, 32, 32, 3)", "9.31 GiB")
    assert np.isfinite(float(mc.train_step(model, mc.SGD(), x, y)))


@pytest.mark.parametrize("where", ["leaky_relu_forward", "leaky_relu_backward"])
@pytest.mark.parametrize("threads", [1, 2])
def test_out_of_memory_names_layers_that_run_slice_by_slice(where, threads, monkeypatch):
    """Their own methods make arrays in each step, in several threads: odd slopes, for one."""
    model = mc.Sequential(
        mc.Normalize(), mc.Conv2D(4, 3), mc.Residual([mc.ReLU(), mc.LeakyReLU(2)]), mc.Tanh(),
        mc.Flatten(), mc.Dense(3),
    ).build((32, 32, 3))  # fmt: skip
    x, y = batch((32, 32, 3), 32, 3)

    def fail(*_):
        raise MemoryError("Unable to allocate 9.31 GiB")

    with mc.threads(threads):
        mc.train_step(model, mc.SGD(), x, y)
        with monkeypatch.context() as patched:
            patched.setattr(activation, where, fail)
            for _ in range(2):
                with pytest.raises(MemoryError) as caught:
                    mc.train_step(model, mc.SGD(), x, y)
                named = "residual_1/body/leakyrelu_1 (LeakyReLU)"
                check_text(caught.value, named, "(32, 32, 32, 3)", "9.31 GiB")
                assert kept(model) == []
        assert np.isfinite(float(mc.train_step(model, mc.SGD(), x, y)))


# A GPU's.


@pytest.mark.parametrize("where", ["forward", "infer", "backward"])
def test_out_of_memory_on_a_gpu_names_the_layer(where):
    with installed() as cupy:

        class OutOfMemoryError(MemoryError):  # as cupy.cuda.memory.OutOfMemoryError is one
            pass

        def fail(*_):
            raise OutOfMemoryError("Out of memory allocating 1,234 bytes")

        layer = hungry(where)
        layer.find = lambda at: fail() if at == layer.where else None
        model = mc.Sequential(mc.Conv2D(2, 1), mc.Residual([layer]), mc.Flatten(), mc.Dense(2))
        model.build((3, 3, 2), device="gpu")
        x, y = cupy.ones((4, 3, 3, 2), dtype="float32"), cupy.zeros((4,), dtype="int64")
        with pytest.raises(MemoryError) as caught:
            mc.predict(model, x) if where == "infer" else mc.train_step(model, mc.SGD(), x, y)
        check_text(caught.value, "residual_1/body/hungry_1 (Hungry)", "1,234 bytes")
        layer.where = ""
        assert np.isfinite(float(mc.train_step(model, mc.SGD(), x, y)))


# An address space with an end.

LIMITED = """
import resource, sys
sys.path.insert(0, {folder!r})
from pathlib import Path
import numpy as np, minicnn as mc

def limit(room):
    now = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    most = resource.RLIM_INFINITY
    resource.setrlimit(resource.RLIMIT_AS, (most if room is None else now + room, most))

model = mc.Sequential(
    mc.Normalize(), mc.Conv2D(8, 3, padding="same"), mc.ReLU(),
    mc.Residual([mc.Conv2D(8, 3, padding="same"), mc.ReLU()]), mc.Flatten(), mc.Dense(10),
).build((32, 32, 3))
x, y = np.zeros((1500, 32, 32, 3), "uint8"), np.zeros(1500, int)
optimizer = mc.Adam()
mc.train_step(model, optimizer, x[:16], y[:16])
mc.predict(model, x[:16])
start = model.params.data.copy()
where = sys.argv[1]
try:
    if where == "forward":
        limit(60 << 20)
        mc.train_step(model, optimizer, x, y)
    elif where == "predict":
        limit(60 << 20)
        mc.predict(model, x, 1500)
    else:
        logits = model.forward(x, training=True)
        limit(30 << 20)
        model.backward_params(np.ones_like(logits))
except MemoryError as error:
    print(type(error).__name__, error)
    text = str(error)
else:
    sys.exit("it went well")
assert (model.params.data == start).all()
if where == "backward":
    limit(60 << 20)
print(float(mc.train_step(model, optimizer, x[:16], y[:16])), mc.predict(model, x[:16]).shape)
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="RLIMIT_AS and /proc")
@pytest.mark.parametrize("where", ["forward", "predict", "backward"])
def test_out_of_memory_in_a_small_address_space(where):
    script = LIMITED.format(folder=str(Path(mc.__file__).parents[1]))
    ran = subprocess.run(
        [sys.executable, "-c", script, where],
        capture_output=True,
        text=True,
        timeout=60,
        env={**os.environ, "OPENBLAS_NUM_THREADS": "1"},
    )
    assert ran.returncode == 0, ran.stderr[-2000:]
    said, after = ran.stdout.splitlines()
    assert said.startswith("OutOfMemory ") and "MiB" in said
    assert "(1500, " in said and "summary(batch_size)" in said
    assert any(name in said for name in ("conv2d_1", "relu_1", "normalize_1", "dense_1"))
    assert after.endswith("(16, 10)")
