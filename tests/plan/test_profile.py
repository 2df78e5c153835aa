"""`model.profile`: where a step's time and memory go, measured without changing anything."""

from __future__ import annotations

import json
import time
from math import prod

import numpy as np
import pytest
from standin import installed

import minicnn as mc
from minicnn.backend import to_numpy
from minicnn.kernels.cpu.team import Stage
from minicnn.plan import profile as profiling
from minicnn.plan.kept import plan_for
from minicnn.plan.profile_clock import Clock, Watched, watched
from minicnn.plan.profile_table import REST, Profile, Row


@pytest.fixture(autouse=True)
def one_step(monkeypatch):
    """Measure one step: then medians add up exactly."""
    monkeypatch.setattr(profiling, "WARM_UP", 1)
    monkeypatch.setattr(profiling, "LEAST", 1)
    monkeypatch.setattr(profiling, "SECONDS", 0.0)


class Square(mc.Layer):
    """As in the docstring of layers/base.py."""

    def forward(self, x, training=False):
        self.cache = x
        return x * x

    def backward(self, dy):
        return 2 * self.take_cache() * dy


class Slow(mc.Layer):
    """A layer with a parameter, which it changes, a state that it replaces, and a count."""

    seconds = 0.0
    fails = False
    count = 0

    def resolve(self, input_shape):
        self.declare("w", input_shape[-1:], "ones")
        self.keep("seen", np.zeros(1))
        return input_shape

    def forward(self, x, training=False):
        time.sleep(self.seconds)
        self.count += 1
        self.w[...] += 1
        self.buffers["seen"] = self.buffers["seen"] + 1
        self.cache = x
        return x * self.w

    def backward(self, dy):
        time.sleep(2 * self.seconds)
        if self.fails:
            raise ArithmeticError("as it was told")
        self.dw[...] = (self.take_cache() * dy).sum(axis=tuple(range(dy.ndim - 1)))
        return dy * self.w


class Own(mc.Sequential):
    """A class of its own has no plan."""


def block(filters, strides=1, shortcut=None):
    body = [
        mc.Conv2D(filters, 3, strides, "same", use_bias=False), mc.BatchNorm(), mc.ReLU(),
        mc.Conv2D(filters, 3, padding="same", use_bias=False), mc.BatchNorm(),
    ]  # fmt: skip
    return [mc.Residual(body, shortcut), mc.ReLU()]


def resnet(kind=mc.Sequential):
    return kind(
        mc.Normalize(), mc.Conv2D(8, 3, padding="same"), mc.BatchNorm(), mc.ReLU(),
        *block(8), *block(12, 2, [mc.Conv2D(12, 1, 2), mc.BatchNorm()]),
        mc.Dropout(0.2), mc.GlobalAveragePool2D(), mc.Dense(10),
    )  # fmt: skip


def mixed(kind=mc.Sequential):
    return kind(
        mc.Normalize(), mc.Conv2D(6, 3), Square(), mc.Sequential(mc.GELU(), mc.Dropout(0.5)),
        mc.Concat([mc.Conv2D(3, 1), [mc.Conv2D(5, 3, padding="same"), mc.Tanh()]]),
        mc.MaxPool2D(2), mc.Flatten(), mc.Dense(7), mc.ReLU(), Slow(), mc.Dense(10),
    )  # fmt: skip


def own_first(kind=mc.Sequential):
    return kind(mc.Normalize(), Slow(), mc.Conv2D(4, 3), mc.Flatten(), mc.Dense(10))


NETS = {
    "tutorial": (mc.models.tutorial_cnn, (32, 32, 3)),
    "resnet": (resnet, (10, 12, 3)),
    "mixed": (mixed, (10, 12, 3)),
    "own class": (lambda: mixed(Own), (10, 12, 3)),
    "own first": (own_first, (6, 5, 3)),
}


def build(name, **options):
    make, shape = NETS[name]
    return make().build(shape, **options)


def pictures(model, N, rng):
    return rng.integers(0, 256, (N, *model.input_shape), dtype="uint8")


def everything(model):
    """All that a profile might change, as bytes and plain values."""
    layers = {layer.path: dict(vars(layer)) for layer in model.walk()}
    arrays = {**model.params, **model.grads, **model.state}
    return (
        {name: to_numpy(array).tobytes() for name, array in arrays.items()},
        [to_numpy(flat).tobytes() for flat in (model.params.data, model.params.grad)],
        {name: id(array) for name, array in model.state.items()},
        {name: (id(a), a.position) for name, a in model.streams.items()},
        {path: {k: id(v) for k, v in attributes.items()} for path, attributes in layers.items()},
        [list(attributes) for attributes in layers.values()],
    )


# The table's numbers.


@pytest.mark.parametrize("net", NETS)
@pytest.mark.parametrize(("threads", "N"), [(1, 16), (2, 16), (2, 1)])
def test_every_layer_is_in_one_row_and_rows_add_up(net, threads, N, rng):
    model = build(net)
    with mc.threads(threads):
        table = model.profile(pictures(model, N, rng))
    leaves = [layer.path for layer in model.walk() if not layer.children()]
    composites = {layer.path for layer in model.walk() if layer.children()}
    named = [path for row in table.rows for path in row.layers]
    found = [path for path in named if path not in composites]
    assert sorted(found) == sorted(leaves)
    order = [layer.path for layer in model.walk()]
    firsts = [order.index(row.layers[0]) for row in table.rows if row.layers]
    assert firsts == sorted(firsts)
    assert [row.name for row in table.rows if not row.layers] == [
        word for word in REST if word in {row.name for row in table.rows}
    ]

    assert sum(row.share for row in table.rows) == pytest.approx(1)
    times = [ms for row in table.rows for ms in (row.forward_ms, row.backward_ms)]
    assert min(times) >= 0
    assert sum(times) == pytest.approx(table.step_ms)
    assert table.steps == 1 and table.batch_size == N
    assert table.images_per_second == pytest.approx(1e3 * N / table.step_ms)
    planned = net != "own class"
    assert table.threads == (threads if N > 1 and planned else 1)
    assert 0 < table.work_ms <= table.step_ms * table.threads * (1 + 1e-9)
    assert (table.buffer_bytes > 0) == planned
    if planned:
        assert sum(row.held_bytes for row in table.rows) < table.buffer_bytes + 1e6


def row_of(table, path):
    """The row that a layer is in."""
    (row,) = [row for row in table.rows if path in row.layers]
    return row


def test_layers_done_at_once_share_a_row(rng):
    model = build("tutorial")
    table = model.profile(pictures(model, 16, rng))
    assert row_of(table, "conv2d_2").name == "conv2d_2 + relu_2 + maxpool2d_2"
    assert row_of(table, "dense_2").layers == ("dense_2",)
    flatten = row_of(table, "flatten_1")
    assert (flatten.forward_ms, flatten.backward_ms, flatten.held_bytes) == (0, 0, 0)
    model = build("resnet")
    row = row_of(model.profile(pictures(model, 16, rng)), "residual_1/body/conv2d_2")
    assert row.name == "residual_1/body/conv2d_2 + batchnorm_2 + residual_1 + relu_2"


@pytest.mark.parametrize("net", ["tutorial", "mixed", "own class"])
def test_rates_are_those_of_the_plain_convolution(net, rng):
    model = build(net)
    table = model.profile(pictures(model, 8, rng))
    layers = {layer.path: layer for layer in model.walk()}
    for row in table.rows:
        once = 2e-9 * 8 * sum(layers[path].multiply_adds for path in row.layers)
        back = once * (1 if "conv2d_1" in row.layers else 2)  # nobody asks for the first dx
        assert row.forward_gflops * row.forward_ms / 1e3 == pytest.approx(once)
        assert row.backward_gflops * row.backward_ms / 1e3 == pytest.approx(back)
    assert row_of(table, "conv2d_1").forward_gflops > 0


def test_held_memory_is_what_backward_needs(rng):
    N, x = 16, mc.Sequential(mc.Flatten(), mc.Dense(20), mc.ReLU(), mc.Dense(30), mc.Dense(10))
    model = x.build((4, 5, 3))
    table = model.profile(rng.standard_normal((N, 4, 5, 3)).astype("float32"))
    held = {row.layers: row.held_bytes for row in table.rows if row.layers}
    assert held == {
        ("flatten_1",): 0,
        ("dense_1", "relu_1"): 4 * N * 20,  # its y: which were cut off; and dense_2's x
        ("dense_2",): 4 * N * 30,
        ("dense_3",): 0,
    }
    (copies,) = [row.held_bytes for row in table.rows if row.name.startswith("copies")]
    assert copies == 4 * N * 4 * 5 * 3  # x


@pytest.mark.parametrize("kind", [mc.Sequential, Own])
def test_held_memory_of_layers_with_methods_of_their_own(kind, rng):
    N, model = 16, kind(mc.Conv2D(3, 3), Square(), mc.Flatten(), mc.Dense(10)).build((6, 7, 2))
    table = model.profile(rng.standard_normal((N, 6, 7, 2)).astype("float32"))
    once = 4 * N * prod((4, 5, 3))
    # In a plan, its y lies in a buffer, where dense_1 finds it.
    assert row_of(table, "square_1").held_bytes == (2 * once if kind is mc.Sequential else once)


@pytest.mark.parametrize("kind", [mc.Sequential, Own])
def test_time_of_an_own_layer_is_its_own(kind, rng, monkeypatch):
    monkeypatch.setattr(Slow, "seconds", 0.08)
    model = mixed(kind).build((10, 12, 3))
    table = model.profile(pictures(model, 16, rng))
    row = row_of(table, "slow_1")
    assert 80 <= row.forward_ms < table.step_ms - 160
    assert 160 <= row.backward_ms < table.step_ms - 80
    others = [row for row in table.rows if row.name in REST]
    assert sum(row.forward_ms for row in others) < 80
    assert sum(row.backward_ms for row in others) < 160


def test_waiting_is_what_no_clock_saw():
    clock = Clock(mc.Sequential(mc.Dense(1)).build((1,)))
    calls = [[(time.sleep, (0.2,))], [(time.sleep, (0,))]]
    stage = Stage([[], []], calls, [["forward dense_1"]] * 2, [(time.sleep, (0.1,))])
    start = time.perf_counter()
    Watched(stage, "forward", clock).run()
    whole = time.perf_counter() - start + 0.1
    step = clock.step(whole, 0.003, 0.0, by_plan=True)
    times = {key: seconds for (_, key), seconds in step.times.items() if seconds}
    assert sum(times.values()) == pytest.approx(step.seconds) == pytest.approx(whole + 0.003)
    for key in (("dense_1",), "waiting", "meetings", "copies in and out"):
        assert times[key] == pytest.approx(0.1, abs=0.05), key
    assert step.work == pytest.approx(2 * times["dense_1",] + step.seconds - 0.2, abs=0.1)


def test_steps_are_measured_for_a_while(rng, monkeypatch):
    model = build("own first")
    monkeypatch.setattr(profiling, "SECONDS", 0.05)
    monkeypatch.setattr(profiling, "LEAST", 4)
    table = model.profile(pictures(model, 2, rng))
    assert 4 <= table.steps <= profiling.MOST
    assert sum(row.share for row in table.rows) == pytest.approx(1)


# It measures the plan of training, and changes nothing.


@pytest.mark.parametrize("net", NETS)
def test_model_is_left_as_it_was(net, rng):
    model, optimizer = build(net), mc.SGD(0.01)
    x, labels = pictures(model, 16, rng), rng.integers(0, 10, 16)
    mc.train_step(model, optimizer, x, labels)
    model.forward(x, training=True)  # what this leaves for a backward stays there
    before = everything(model)
    model.profile(x, labels)
    assert everything(model) == before
    model.backward(np.ones((16, 10), "float32"))


@pytest.mark.parametrize("net", NETS)
def test_training_goes_on_as_if_nothing_had_been(net, rng):
    models = build(net), build(net)
    x, labels = pictures(models[0], 16, rng), rng.integers(0, 10, 16)
    optimizers = mc.Adam(1e-3), mc.Adam(1e-3)
    for number in range(3):
        losses = [
            mc.train_step(model, optimizer, x, labels)
            for model, optimizer in zip(models, optimizers, strict=True)
        ]
        assert losses[0] == losses[1]
        if number < 2:
            models[0].profile(x, labels if number else None)
    assert models[0].params.data.tobytes() == models[1].params.data.tobytes()
    for name, array in models[0].state.items():
        assert array.tobytes() == models[1].state[name].tobytes()


def test_plan_is_the_one_of_training(rng):
    model = build("mixed")
    x = pictures(model, 16, rng)
    model.profile(x)
    plan = plan_for(model, x, training=True)
    stages = plan.forward_stages, plan.backward_stages
    mc.train_step(model, mc.SGD(0.01), x, rng.integers(0, 10, 16))
    model.profile(x)
    assert plan_for(model, x, training=True) is plan
    assert (plan.forward_stages, plan.backward_stages) == stages
    assert not any(isinstance(stage, Watched) for stage in plan.forward_stages)


def test_clocks_leave_the_numbers_as_they_are(rng):
    model = build("resnet")
    x = pictures(model, 16, rng)
    plan = plan_for(model, x, training=True)
    clock, dy = Clock(model), rng.standard_normal((16, 10)).astype("float32")
    found = []
    for which in (plan, watched(plan, clock)):
        with profiling.unchanged(model):  # running statistics and dropout, here
            found.append(which.forward(x).tobytes())
            which.backward(dy)
            found.append(model.params.grad.tobytes())
    assert found[:2] == found[2:]
    assert clock.notes


@pytest.mark.parametrize("kind", [mc.Sequential, Own])
def test_model_is_left_as_it_was_after_an_error(kind, rng, monkeypatch):
    model = mixed(kind).build((10, 12, 3))
    before = everything(model)
    monkeypatch.setattr(Slow, "fails", True)
    with pytest.raises(ArithmeticError, match="as it was told"):
        model.profile(pictures(model, 16, rng))
    assert everything(model) == before


def test_replaced_method_is_timed_and_stays(rng):
    model = build("tutorial")
    layer = model["relu_2"]
    plain = layer.forward

    def slow(x, training=False):
        time.sleep(0.02)
        return plain(x, training)

    layer.forward = slow
    table = model.profile(pictures(model, 4, rng))
    assert row_of(table, "relu_2").layers == ("relu_2",)
    assert row_of(table, "relu_2").forward_ms >= 20
    assert layer.forward is slow and "backward" not in vars(layer)


# What it takes, and what it refuses.


@pytest.mark.parametrize("labels", ["ids", "list", "distributions"])
def test_labels_are_those_of_training(labels, rng):
    model = build("tutorial")
    ids = rng.integers(0, 10, 4)
    given = {"ids": ids, "list": ids.tolist(), "distributions": np.eye(10, dtype="float32")[ids]}
    assert model.profile(pictures(model, 4, rng), given[labels]).step_ms > 0


def test_output_may_be_a_picture(rng):
    model = mc.Sequential(mc.Conv2D(2, 3), mc.ReLU()).build((5, 6, 1))
    assert model.profile(rng.standard_normal((8, 5, 6, 1))).step_ms > 0


def test_float64_is_profiled_too(rng):
    model = build("resnet", dtype="float64")
    assert model.profile(pictures(model, 8, rng)).step_ms > 0


@pytest.mark.parametrize(
    "x",
    [
        np.zeros((4, 3, 32, 32), "uint8"),
        np.zeros((0, 32, 32, 3), "uint8"),
        np.zeros((32, 32, 3), "uint8"),
        np.zeros((2, 32, 32, 3), bool),
        [[1]],
        None,
    ],
)
def test_wrong_pictures_are_refused_as_in_forward(x):
    model = build("tutorial")
    with pytest.raises((ValueError, TypeError)) as expected:
        model.forward(x)
    with pytest.raises(expected.type) as got:
        model.profile(x)
    assert str(got.value) == str(expected.value)


def test_wrong_labels_are_refused(rng):
    model = build("tutorial")
    with pytest.raises(ValueError, match="labels: expected"):
        model.profile(pictures(model, 4, rng), [0, 1])


def test_model_must_be_built_and_whole(rng):
    with pytest.raises(RuntimeError, match="isn't built"):
        mc.models.tutorial_cnn().profile(np.zeros((1, 32, 32, 3), "uint8"))
    model = build("mixed")
    with pytest.raises(RuntimeError, match="a part of a model"):
        model["sequential_1"].profile(np.zeros((1, 32, 32, 3), "uint8"))


def test_strange_names_do_no_harm(rng):
    model = mc.Sequential(
        mc.Flatten(), mc.Dense(3, name="a + b"), mc.ReLU(name="loss"), mc.Dense(2, name=" ")
    ).build((2, 3, 1))
    table = model.profile(rng.standard_normal((8, 2, 3, 1)))
    assert sum(row.share for row in table.rows) == pytest.approx(1)
    assert "loss" in str(table)


# On a GPU, and as text and data.


def test_gpu_is_profiled_layer_by_layer(rng, monkeypatch):
    waits = []
    monkeypatch.setattr(mc.Device, "synchronize", lambda device: waits.append(device))
    with installed():
        model = resnet().build((10, 12, 3), device="gpu")
        before = everything(model)
        table = model.profile(model.device.asarray(pictures(model, 4, rng)))
        assert everything(model) == before
        assert len(waits) > 2 * 2 * len(list(model.walk()))  # two steps, forward and backward
        leaves = [layer.path for layer in model.walk() if not layer.children()]
        for path in leaves:
            assert row_of(table, path).forward_ms > 0
        for path in set(leaves) - {"normalize_1"}:  # nothing below it is trained
            assert row_of(table, path).backward_ms > 0
        assert row_of(table, "residual_1").layers == ("residual_1",)  # the sum
        assert row_of(table, "dense_1").held_bytes == 4 * 4 * 12
        assert "the clock waits for gpu:0" in str(table)
        with pytest.raises(TypeError, match="the model is on gpu:0"):
            model.profile(pictures(model, 4, rng))


@pytest.mark.parametrize("net", NETS)
def test_table_is_aligned_and_narrow(net, rng):
    model = build(net)
    table = model.profile(pictures(model, 16, rng))
    lines = str(table).splitlines()
    assert max(map(len, lines)) <= 100
    rules = [number for number, line in enumerate(lines) if set(line) == {"-"}]
    assert rules[0] == 2 and len(rules) == 2
    width = len(lines[2])
    assert len(lines[0]) == len(lines[1]) == width
    ends = [lines[1].index(unit) + len(unit) for unit in ("ms", "%", "MB")]
    for line in lines[rules[0] + 1 : rules[1]]:
        assert len(line) <= width
        assert all(line[end : end + 2].strip() == "" for end in ends)
    assert lines[rules[1] + 1].startswith("total") and " 100" in lines[rules[1] + 1]
    assert "images/s" in lines[-1] or "images/s" in lines[-2] or "images/s" in lines[-3]
    assert repr(table) == str(table)


def test_long_names_go_on_in_the_next_line():
    names = ["a" * 150, "conv2d_1 + " * 9 + "relu_1", "relu"]
    rows = tuple(Row(name, (name,), 1234.5, 12.34, 0.25, 1e3, 99.97, 10**9) for name in names)
    text = str(Profile(rows, 8, "cpu", 2, 5, 3.0, 5.0, 1000.0, 10**8))
    assert max(map(len, text.splitlines())) <= 100
    joined = "".join(line.split("  1,234")[0].strip() for line in text.splitlines())
    assert "a" * 150 in joined


def test_profile_is_data(rng):
    model = build("resnet")
    table = model.profile(pictures(model, 16, rng))
    data = json.loads(json.dumps(table.as_dict()))
    assert data["rows"][0]["layers"][0] == "normalize_1"
    assert data["batch_size"] == 16 and data["device"] == "cpu"
    with pytest.raises(AttributeError):
        table.step_ms = 1
