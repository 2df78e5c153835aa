"""Whole steps on a GPU: launch by launch and as one graph, beside the same steps on the CPU."""

from __future__ import annotations

import numpy as np
import pytest

import minicnn as mc
from minicnn.backend import to_numpy
from minicnn.kernels.cuda import graphs
from minicnn.plan.kept import plans_of

from .on_gpu import drawing_alike

SHAPE, CLASSES, N = (8, 9, 3), 4, 6
LIMITS = {"float64": 1e-9, "float32": 1e-4}  # of a weight after some steps, by the largest


def layers():
    return [
        mc.Normalize(0.5, 0.25),
        mc.Conv2D(6, 3, kernel_regularizer=mc.L2(1e-3)), mc.ReLU(), mc.MaxPool2D(2),
        mc.Residual([mc.Conv2D(6, 3, padding="same", use_bias=False), mc.BatchNorm()]), mc.ReLU(),
        mc.Flatten(), mc.Dense(9), mc.ReLU(), mc.Dropout(0.3), mc.Dense(CLASSES),
    ]  # fmt: skip


def free():
    """The same without penalties."""
    found = layers()
    found[1] = mc.Conv2D(6, 3)
    return found


def pictures(count=3 * N, seed=0):
    rng = np.random.default_rng(seed)
    x = rng.integers(0, 256, (count, *SHAPE)).astype("uint8")
    return x, rng.integers(0, CLASSES, count)


class Side:
    """A model, its optimizer and its meter on one device."""

    def __init__(self, device, optimizer, loss=None, make=layers, dtype="float64", seed=0):
        self.model = mc.Sequential(*make()).build(SHAPE, seed=seed, dtype=dtype, device=device)
        if device == "cpu":
            drawing_alike(self.model)
        self.optimizer, self.loss = optimizer(), loss or mc.CrossEntropy()
        self.meter, self.losses = mc.Meter(), []

    def step(self, x, labels):
        to = self.model.device.asarray
        value = mc.train_step(self.model, self.optimizer, to(x), to(labels), self.loss, self.meter)
        self.losses.append(float(value))

    def steps(self, count, x, labels):
        for k in range(count):
            part = slice(k * N % len(x), k * N % len(x) + N)
            self.step(x[part], labels[part])
        return self

    @property
    def numbers(self):
        memory = {f"memory {name}": array for name, array in self.optimizer.memory.items()}
        every = {**self.model.params, **self.model.state, **memory}
        return {name: to_numpy(array).copy() for name, array in every.items()}

    @property
    def last(self):
        """The step that was at work last."""
        return next(reversed(plans_of(self.model).kept.values())).last


def same(one, other):
    assert one.losses == other.losses
    assert one.meter.loss == other.meter.loss and one.meter.accuracy == other.meter.accuracy
    for name, array in one.numbers.items():
        np.testing.assert_array_equal(array, other.numbers[name], err_msg=name)


def near(gpu, cpu, limit):
    np.testing.assert_allclose(gpu.losses, cpu.losses, rtol=limit)
    np.testing.assert_allclose(gpu.meter.loss, cpu.meter.loss, rtol=limit)
    assert gpu.meter.accuracy == cpu.meter.accuracy and gpu.meter.examples == cpu.meter.examples
    for name, array in gpu.numbers.items():
        wanted = cpu.numbers[name]
        error = abs(array - wanted).max() / max(abs(wanted).max(), 1e-3)
        assert error < limit, f"{name}: {error}"


OPTIMIZERS = {
    "sgd": lambda: mc.SGD(0.05),
    "sgd with decay": lambda: mc.SGD(0.05, weight_decay=0.1),
    "sgd with decay of all": lambda: mc.SGD(0.05, weight_decay=0.1, decay_all=True),
    "momentum": lambda: mc.SGD(0.05, momentum=0.9),
    "nesterov, clipped": lambda: mc.SGD(
        0.05, momentum=0.9, nesterov=True, global_clipnorm=0.3, weight_decay=0.1
    ),
    "rmsprop": lambda: mc.RMSprop(1e-2),
    "adam": lambda: mc.Adam(1e-2),
    "adam, averaged": lambda: mc.Adam(1e-2, ema_decay=0.8, weight_decay=0.1, global_clipnorm=1.0),
    "adamw": lambda: mc.AdamW(1e-2, weight_decay=0.3),
    "adamw of all": lambda: mc.AdamW(1e-2, weight_decay=0.3, decay_all=True),
    "rates by name": lambda: mc.AdamW(
        1e-2, weight_decay=0.3, lr_scale={"*/beta": 8, "dense_2/*": 3, "conv2d_1/w": 0.5}
    ),
    "sgd with rates by name": lambda: mc.SGD(
        0.05, momentum=0.9, weight_decay=0.1, global_clipnorm=0.3, lr_scale={"*/b": 4}
    ),
    "lookahead": lambda: mc.SGD(
        0.05, momentum=0.9, ema_decay=0.8, lookahead=mc.Lookahead(3, lambda step: 0.1 * step)
    ),
    "cosine": lambda: mc.AdamW(mc.schedule.cosine(1e-2, steps=9, warmup=3)),
}


@pytest.mark.parametrize("name", OPTIMIZERS)
@pytest.mark.parametrize("dtype", LIMITS)
def test_step_is_the_cpus_and_a_graph_the_same(cupy, name, dtype):
    data = pictures()
    cpu = Side("cpu", OPTIMIZERS[name], dtype=dtype).steps(8, *data)
    with graphs(True):
        gpu = Side("gpu", OPTIMIZERS[name], dtype=dtype).steps(8, *data)
    assert gpu.last.graph is not None
    with graphs(False):
        by_launches = Side("gpu", OPTIMIZERS[name], dtype=dtype).steps(8, *data)
    assert by_launches.last.graph is None
    near(gpu, cpu, LIMITS[dtype])
    same(gpu, by_launches)


LOSSES = {
    "smoothing": (mc.CrossEntropy(label_smoothing=0.1), False),
    "weights": (mc.CrossEntropy(class_weight=(1, 2, 0.5, 3)), False),
    "distributions": (mc.CrossEntropy(0.1, (1, 2, 0.5, 3)), True),
    "squares": (mc.MeanSquaredError(), False),
    "squares, distributions": (mc.MeanSquaredError(), True),
}


@pytest.mark.parametrize("make", [layers, free])
@pytest.mark.parametrize("name", LOSSES)
def test_loss_of_a_step_is_the_cpus(cupy, name, make):
    loss, shares = LOSSES[name]
    x, labels = pictures()
    if shares:
        labels = np.random.default_rng(1).dirichlet(np.ones(CLASSES), len(x))
    cpu = Side("cpu", OPTIMIZERS["adam"], loss, make).steps(6, x, labels)
    gpu = Side("gpu", OPTIMIZERS["adam"], loss, make).steps(6, x, labels)
    assert gpu.last.graph is not None
    near(gpu, cpu, LIMITS["float64"])


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_short_types_learn(cupy, dtype):
    x, labels = pictures(N)
    side = Side("gpu", OPTIMIZERS["adam"], make=free, dtype=dtype)
    for name, layer in side.model.children():
        if name.startswith("dropout"):
            layer.rate = 0.0
    side.steps(60, x, labels)
    assert all(array.dtype == "float32" for array in side.numbers.values())
    assert side.losses[-1] < 0.3 * side.losses[0]
    with graphs(False):
        again = Side("gpu", OPTIMIZERS["adam"], make=free, dtype=dtype)
        again.model["dropout_1"].rate = 0.0
        same(side, again.steps(60, x, labels))
    probabilities = mc.predict(side.model, x)
    assert probabilities.dtype == "float32"
    assert (probabilities.argmax(1) == labels).mean() > 0.8


def test_overflow_in_float16_is_left_out(cupy):
    def make():
        return [mc.Flatten(), mc.Dense(CLASSES)]

    side = Side("gpu", OPTIMIZERS["momentum"], make=make, dtype="float16")
    rng = np.random.default_rng(0)
    x, labels = rng.standard_normal((N, *SHAPE)).astype("float32"), rng.integers(0, CLASSES, N)
    for _ in range(4):
        side.step(x, labels)
    before, scale = side.numbers, float(side.last.scaling.scale.get()[0])
    side.step(x * 6e4, labels)  # more than float16 holds
    assert float(side.last.scaling.scale.get()[0]) == scale / 2
    for name, array in side.numbers.items():
        np.testing.assert_array_equal(array, before[name])
    side.step(x, labels)
    assert any((array != before[name]).any() for name, array in side.numbers.items())


def test_rates_follow_what_the_optimizer_says(cupy):
    """Plateaus, other numbers between steps, and a schedule that ends with the run."""
    x, labels = pictures()

    def ending(step):
        if step >= 12:
            raise IndexError("the run is over")
        return 0.05 / (step + 1)

    def lead(side):
        side.steps(3, x, labels)
        side.optimizer.lr = 0.01
        side.steps(3, x, labels)
        side.optimizer.lr = mc.schedule.ReduceOnPlateau(0.02, patience=0)
        side.steps(2, x, labels)
        for judged in (1.0, 1.0, 1.0):
            side.optimizer.lr.observe(judged)
        side.steps(2, x, labels)
        side.optimizer.lr = ending
        return side.steps(2, x, labels)

    cpu, gpu = (lead(Side(device, OPTIMIZERS["momentum"])) for device in ("cpu", "gpu"))
    near(gpu, cpu, LIMITS["float64"])
    with pytest.raises(IndexError, match="the run is over"):
        gpu.step(x[:N], labels[:N])


def test_many_steps_outlast_the_table_of_rates(cupy, monkeypatch):
    monkeypatch.setattr("minicnn.plan.gpu.clocks.AHEAD", 5)
    data = pictures()
    cpu, gpu = (Side(d, OPTIMIZERS["cosine"]).steps(12, *data) for d in ("cpu", "gpu"))
    near(gpu, cpu, LIMITS["float64"])


def test_batches_of_changing_size_and_other_meters(cupy):
    x, labels = pictures()

    def lead(side):
        seen = []
        for count in (6, 6, 6, 6, 4, 6, 2, 6, 4):
            side.step(x[:count], labels[:count])
        for _ in range(2):
            seen.append((side.meter, side.meter.loss, side.meter.accuracy))
            side.meter = mc.Meter()
            for count in (6, 4):
                side.step(x[:count], labels[:count])
        for meter, *numbers in seen:  # those of before stay what they were
            assert [meter.loss, meter.accuracy] == numbers
        return side

    cpu, gpu = (lead(Side(device, OPTIMIZERS["adam"])) for device in ("cpu", "gpu"))
    near(gpu, cpu, LIMITS["float64"])


def test_state_that_is_loaded_goes_on(cupy, tmp_path):
    """Steps, positions of streams and the optimizer's arrays may change under a step's feet."""
    data = pictures()
    straight = Side("gpu", OPTIMIZERS["adam"]).steps(9, *data)
    first = Side("gpu", OPTIMIZERS["adam"]).steps(6, *data)
    second = Side("gpu", OPTIMIZERS["adam"]).steps(4, *pictures(seed=1))  # somewhere else
    for name, array in first.numbers.items():
        place = {**second.model.params, **second.model.state, **second.optimizer.memory}
        place[name.removeprefix("memory ")][...] = second.model.device.asarray(array)
    second.optimizer.steps = first.optimizer.steps
    for path, stream in first.model.streams.items():
        second.model.streams[path].position = stream.position
    for k in (6, 7, 8):
        part = slice(k * N % len(data[0]), k * N % len(data[0]) + N)
        second.step(data[0][part], data[1][part])
    for name, array in straight.numbers.items():
        np.testing.assert_array_equal(array, second.numbers[name], err_msg=name)


@pytest.mark.parametrize("name", ["nesterov, clipped", "adam, averaged", "adamw of all"])
def test_what_is_frozen_between_steps_stays_and_so_do_factors(cupy, name):
    data, frozen = pictures(), frozenset({"conv2d_1/b", "dense_1/w"})
    cpu, gpu = (Side(device, OPTIMIZERS[name]) for device in ("cpu", "gpu"))
    for now, scales in ((frozenset(), None), (frozen, None), (frozen, {"dense_*": 2}), ((), None)):
        for side in (cpu, gpu):
            side.model.params.frozen = frozenset(now)
            side.optimizer.lr_scale = scales
        before = gpu.numbers
        for side in (cpu, gpu):
            side.steps(4, *data)
        near(gpu, cpu, 1e-9)
        assert gpu.last.graph is not None
        for kept in now:
            np.testing.assert_array_equal(before[kept], gpu.numbers[kept])
    gpu.optimizer.lr_scale = {"dense_*": 2}
    gpu.steps(1, *data)
    one = gpu.last
    gpu.optimizer.lr_scale["dense_*"] = 3  # the same dictionary
    gpu.steps(1, *data)
    assert gpu.last is not one


def test_factor_for_nothing_is_refused_before_anything_is_done(cupy):
    side = Side("gpu", lambda: mc.SGD(0.1, lr_scale={"dense_7/*": 2}))
    before = side.numbers
    with pytest.raises(ValueError, match=r"no parameter is called 'dense_7/\*'; there are: conv2d"):
        side.steps(1, *pictures())
    for key, array in side.numbers.items():
        np.testing.assert_array_equal(array, before[key])


class Double(mc.Layer):
    """A layer of a user's own."""

    def forward(self, x, training=False):
        self.cache = x
        return x * 2 + x * x

    def backward(self, dy):
        return (2 + 2 * self.take_cache()) * dy


def own_layers():
    return [*layers()[:4], Double(), *layers()[4:]]


class Reversed(mc.SGD):
    """An optimizer of a user's own."""

    def update(self, params, dw, lr):
        params.data[...] -= dw * lr * 0.5


def own_loss(logits, labels):
    value, dlogits = mc.CrossEntropy()(logits, labels)
    return value * 3, dlogits * 3


@pytest.mark.parametrize(
    "options",
    [{"make": own_layers}, {"optimizer": lambda: Reversed(0.1)}, {"loss": own_loss}],
    ids=["layer", "optimizer", "loss"],
)
def test_what_a_user_brings_along_works_without_a_graph(cupy, options):
    data = pictures()
    options = {"optimizer": OPTIMIZERS["adam"]} | options
    cpu, gpu = (Side(device, **options).steps(5, *data) for device in ("cpu", "gpu"))
    assert gpu.last is None or gpu.last.graph is None
    near(gpu, cpu, LIMITS["float64"])


def test_step_that_is_interrupted_leaves_clocks_right(cupy, monkeypatch):
    data = pictures()
    with graphs(False):
        side = Side("gpu", OPTIMIZERS["adam"]).steps(2, *data)
        clean = Side("gpu", OPTIMIZERS["adam"]).steps(2, *data)
        calls = side.last.calls

        def stop():
            raise KeyboardInterrupt

        side.last.calls = [*calls[:3], (stop, ())]
        with pytest.raises(KeyboardInterrupt):
            side.step(data[0][:N], data[1][:N])
        side.last.calls = calls
        same(side.steps(3, *data), clean.steps(3, *data))


def test_graph_that_cannot_be_captured_is_an_error_that_says_so(cupy):
    side = Side("gpu", OPTIMIZERS["adam"]).steps(2, *pictures())
    side.last.calls.append((lambda: side.last.counted.value.get(), ()))
    with pytest.raises(RuntimeError, match="captur"):
        side.steps(1, *pictures())


def test_graphs_are_off_where_they_are_not_wanted(cupy, monkeypatch):
    monkeypatch.setenv("MINICNN_GRAPHS", "0")
    assert Side("gpu", OPTIMIZERS["sgd"]).steps(5, *pictures()).last.graph is None
    monkeypatch.setenv("MINICNN_GRAPHS", "maybe")
    with pytest.raises(ValueError, match="MINICNN_GRAPHS is 'maybe': expected 1"):
        Side("gpu", OPTIMIZERS["sgd"]).steps(5, *pictures())
    with pytest.raises(TypeError, match="expected True or False"), graphs("no"):
        pass
