"""Plans come, are used again, and go: nobody should ever notice that they are there."""

from __future__ import annotations

import copy
import gc
import pickle
import weakref

import numpy as np
import pytest

import minicnn as mc
from minicnn import plan
from minicnn.kernels.cpu import team as team_module
from minicnn.plan import plan as plan_module
from minicnn.plan.kept import KEPT, plan_for, plans_of

from .nets import (
    batch,
    build,
    by_layers,
    by_plan,
    check,
    copy_numbers,
    like,
    slices_of,
    upstream,
)

N, PICTURE = 13, (7, 8, 3)
needs_slices = pytest.mark.skipif(
    not mc.parallel.blas_can_be_limited(), reason="this BLAS keeps its threads: one slice"
)


def net():
    return [
        mc.Conv2D(5, 3), mc.BatchNorm(), mc.ReLU(), mc.Conv2D(4, 3, padding="same"), mc.LeakyReLU(),
        mc.Dropout(0.3), mc.Flatten(), mc.Dense(3),
    ]  # fmt: skip


def model_of(layers=None, dtype="float64"):
    return build(net() if layers is None else layers, PICTURE, dtype)


def labels_of(x):
    return np.arange(len(x)) % 3


def kept(model):
    return list(plans_of(model).kept.values())


# Which plan is used.


def test_plan_is_made_once_for_batches_of_a_size():
    model = model_of()
    first = plan_for(model, batch(model, N), True)
    for seed in range(3):
        x = batch(model, N, seed)
        assert plan_for(model, x, True) is first
        by_plan(model, x, upstream(model, N))
    assert kept(model) == [first]


def test_batch_of_another_size_makes_its_own_plan():
    """The last batch of an epoch, and then whole ones again."""
    model = model_of()
    truth = like(model, net(), "float64")
    for n in (N, 5, N, 1, 5, N):
        x, dy = batch(model, n, seed=n), upstream(model, n)
        check(by_plan(model, x, dy), by_layers(truth, x, dy), 1e-10)
        check({"y": plan.infer(model, x)}, {"y": truth.infer(x)}, 1e-10)


def test_training_and_prediction_have_their_own_plans():
    model = model_of()
    x = batch(model, N)
    training, prediction = plan_for(model, x, True), plan_for(model, x, False)
    assert training is not prediction and prediction.nbytes < training.nbytes
    assert plan_for(model, x, True) is training and plan_for(model, x, False) is prediction


@needs_slices
def test_other_threads_and_algorithms_have_their_own_plans():
    model = model_of(dtype="float32")
    x = batch(model, 40)
    with mc.threads(2):
        two = plan_for(model, x, True)
        with mc.threads(3):
            assert slices_of(model, x) == 3
        with mc.conv_algorithm("winograd"):
            assert plan_for(model, x, True) is not two
        assert plan_for(model, x, True) is two
    assert len(two.team.parts) == 2


def test_few_plans_are_kept_and_those_used_last():
    model = model_of()
    for n in range(1, 21):
        by_plan(model, batch(model, n), upstream(model, n))
        assert len(kept(model)) <= KEPT
    last = kept(model)
    assert [each.team.N for each in last] == [17, 18, 19, 20][-KEPT:]
    plan_for(model, batch(model, 17), True)
    plan_for(model, batch(model, 30), True)
    assert plan_for(model, batch(model, 17), True) is last[0]


def memory_of(model):
    """Return weak references to all buffers of the newest plan."""
    team = kept(model)[-1].team
    memories = [team.memory, *(script.memory for script in team.scripts)]
    return [weakref.ref(block) for memory in memories for block in memory.blocks.values()]


NETS = {
    "all kinds": net,
    "residual": lambda: [
        mc.Conv2D(5, 3), mc.BatchNorm(), mc.Residual([mc.Conv2D(5, 1), mc.BatchNorm(), mc.ReLU()]),
        mc.ReLU(), mc.Concat([mc.Tanh(), mc.ReLU()]), mc.GlobalAveragePool2D(), mc.Dense(3),
    ],
    "first": lambda: [
        mc.Normalize(), mc.Conv2D(5, 3), mc.ReLU(), mc.MaxPool2D(2), mc.Flatten(), mc.Dense(3)],
}  # fmt: skip
each_net = pytest.mark.parametrize("name", NETS)


@each_net
def test_plan_that_is_given_up_gives_back_its_memory_at_once(name):
    """Not when the garbage collector comes by: until then others would pile up."""
    model = model_of(NETS[name](), "float32")
    x = batch(model, N)
    by_plan(model, x, upstream(model, N))
    blocks, whole = memory_of(model), weakref.ref(kept(model)[0])
    gc.collect()
    gc.disable()
    try:
        plan.forget(model)
        assert whole() is None
        assert [block for block in blocks if block() is not None] == []
    finally:
        gc.enable()


@each_net
def test_plan_dies_with_its_model(name):
    model = model_of(NETS[name](), "float32")
    x = batch(model, N)
    by_plan(model, x, upstream(model, N))
    plan.infer(model, x)
    dead = [weakref.ref(model), *map(weakref.ref, kept(model)), *memory_of(model)]
    del model
    gc.collect()
    assert [reference() for reference in dead if reference() is not None] == []


def test_forget_is_noticed_by_nobody():
    model = model_of()
    truth = like(model, net(), "float64")
    for _ in range(3):
        x, dy = batch(model, N), upstream(model, N)
        check(by_plan(model, x, dy), by_layers(truth, x, dy), 1e-10)
        plan.forget(model)
        assert kept(model) == []


# What changes meanwhile.

OPTIONS = {  # a layer, its option, another value
    "slope": (lambda: [mc.LeakyReLU(0.3)], "negative_slope", 0.7),
    "rate": (lambda: [mc.Dropout(0.3)], "rate", 0.8),
    "no rate": (lambda: [mc.Dropout(0.3)], "rate", 0.0),
    "eps": (lambda: [mc.BatchNorm()], "eps", 0.5),
    "eps after a convolution": (lambda: [mc.BatchNorm(), mc.Conv2D(3, 1)], "eps", 0.5),
    "momentum": (lambda: [mc.BatchNorm()], "momentum", 0.1),
    "scale": (lambda: [mc.Normalize(0.1, 0.9, 1.0)], "scale", 2.0),
    "pooling's padding": (lambda: [mc.MaxPool2D(3, 1, "same")], "padding", ((2, 0), (0, 2))),
    "convolution's padding": (
        lambda: [mc.Conv2D(3, 3, padding="same"), mc.ReLU()], "padding", ((2, 0), (1, 1))),
}  # fmt: skip


@pytest.mark.parametrize("name", OPTIONS)
def test_option_that_is_changed_is_noticed(name):
    make, option, value = OPTIONS[name]

    def layers():
        return [mc.Conv2D(3, 1), mc.Tanh(), *make(), mc.SiLU(), mc.Flatten(), mc.Dense(3)]

    model = model_of(layers())
    truth = like(model, layers(), "float64")
    x, dy = batch(model, N), upstream(model, N)
    before = by_plan(model, x, dy), plan.infer(model, x)
    by_layers(truth, x, dy)
    for each in (model, truth):
        changed = [layer for layer in each if hasattr(layer, option) and layer is not each[0]]
        setattr(changed[0], option, value)
    found, wanted = by_plan(model, x, dy), by_layers(truth, x, dy)
    check(found, wanted, 1e-10)
    check({"y": plan.infer(model, x)}, {"y": truth.infer(x)}, 1e-10)
    assert any((found[key] != before[0][key]).any() for key in found)


CHANGES = {
    "the last layer taken away": lambda model: model.layers.pop(),
    "one in the middle": lambda model: model.layers.remove(model[1]),
    "one inside another": lambda model: model[2].layers.pop(0),
    "two changed": lambda model: model.layers.insert(1, model.layers.pop(3)),
    "another list": lambda model: setattr(model, "layers", model.layers[:-1]),
    "a branch": lambda model: model[3].parts.reverse(),
}


@pytest.mark.parametrize("name", CHANGES)
def test_list_of_layers_that_is_changed_is_noticed(name):
    def layers():
        branches = mc.Concat([mc.Conv2D(1, 1), mc.Conv2D(2, 1)])
        inner = mc.Sequential(mc.Tanh(), mc.LeakyReLU(0.2))
        return [mc.Conv2D(3, 1), mc.SiLU(), inner, branches, mc.Flatten(), mc.Dense(3)]

    model = model_of(layers())
    truth = like(model, layers(), "float64")
    x, dy = batch(model, N), upstream(model, N)
    check(by_plan(model, x, dy), by_layers(truth, x, dy), 1e-10)
    before = plan.infer(model, x)
    CHANGES[name](model)
    CHANGES[name](truth)
    found, wanted = plan.infer(model, x), truth.infer(x)
    check({"y": found}, {"y": wanted}, 1e-10)
    assert found.shape != before.shape or (found != before).any()
    dy = np.random.default_rng(7).standard_normal(found.shape)
    check(by_plan(model, x, dy), by_layers(truth, x, dy), 1e-10)


def test_layer_that_is_put_into_a_built_model_is_refused():
    model = model_of()
    plan.infer(model, batch(model, N))
    model.layers.insert(1, mc.Tanh())
    with pytest.raises(RuntimeError, match=r"Tanh\(\) was put into.*call model.build again"):
        plan.infer(model, batch(model, N))


def test_weights_and_statistics_that_are_set_are_used():
    model = model_of()
    truth = like(model, net(), "float64")
    x, dy, rng = batch(model, N), upstream(model, N), np.random.default_rng(9)
    for _ in range(3):
        check(by_plan(model, x, dy), by_layers(truth, x, dy), 1e-10)
        model.params.data += 0.1 * rng.standard_normal(model.params.data.shape)
        model.state["batchnorm_1/running_mean"][...] = rng.standard_normal(5)
        copy_numbers(model, truth)
        check({"y": plan.infer(model, x)}, {"y": truth.infer(x)}, 1e-10)


def test_statistics_in_other_arrays_are_used():
    model = model_of()
    truth = like(model, net(), "float64")
    x, dy = batch(model, N), upstream(model, N)
    for step in range(3):
        for each in (model, truth):
            each[1].buffers["running_mean"] = np.full(5, 0.5 * step)
            each[1].buffers["running_var"] = np.full(5, 1.0 + step)
        check({"y": plan.infer(model, x)}, {"y": truth.infer(x)}, 1e-10)
        check(by_plan(model, x, dy), by_layers(truth, x, dy), 1e-10)


def test_weights_in_other_arrays_are_used():
    model = model_of()
    truth = like(model, net(), "float64")
    x, dy = batch(model, N), upstream(model, N)
    check(by_plan(model, x, dy), by_layers(truth, x, dy), 1e-10)
    for each in (model, truth):
        each[0].w = each[0].w * 2
    check(by_plan(model, x, dy), by_layers(truth, x, dy), 1e-10)
    check({"y": plan.infer(model, x)}, {"y": truth.infer(x)}, 1e-10)


@pytest.mark.parametrize("other", [{"seed": 5}, {"dtype": "float32"}, {"input_shape": (9, 6, 3)}])
def test_model_that_is_built_again_begins_again(other):
    model = model_of()
    by_plan(model, batch(model, N), upstream(model, N))
    plan.infer(model, batch(model, N))
    options = {"input_shape": PICTURE, "dtype": "float64", **other}
    model.build(**options)
    truth = mc.Sequential(*net()).build(**options)
    x, dy = batch(model, N), upstream(model, N)
    limit = 1e-10 if model.dtype == "float64" else 1e-5
    check(by_plan(model, x, dy), by_layers(truth, x, dy), limit)
    assert kept(model)[-1].params is model.params


def test_layers_own_methods_and_plans_may_take_turns():
    model, truth = model_of(), model_of()
    x, dy = batch(model, N), upstream(model, N)
    for way in (by_plan, by_layers, by_plan, by_plan, by_layers):
        check(way(model, x, dy), by_layers(truth, x, dy), 1e-10)
    y = model.forward(x, training=True)
    for stream in model.streams.values():
        stream.position -= 1
    by_plan(model, batch(model, N, seed=1), upstream(model, N))  # leaves the layers' caches alone
    dx = model.backward(dy)
    wanted = truth.forward(x, training=True)
    np.testing.assert_array_equal(y, wanted)
    np.testing.assert_array_equal(dx, truth.backward(dy))


# Copies.


@pytest.mark.parametrize("duplicate", [copy.deepcopy, lambda m: pickle.loads(pickle.dumps(m))])
def test_copy_of_a_model_that_has_plans(duplicate):
    model = model_of(dtype="float32")
    x, y = batch(model, N), np.arange(N) % 3
    optimizer = mc.SGD(0.1)
    mc.train_step(model, optimizer, x, y)
    mc.predict(model, x)
    size = len(pickle.dumps(model))
    assert size < 3 * model.params.data.nbytes + 20_000, "no plan goes into a pickle"
    twin = duplicate(model)
    assert kept(twin) == []
    for each, steps in ((model, optimizer), (twin, mc.SGD(0.1))):
        for _ in range(3):
            mc.train_step(each, steps, x, y)
    np.testing.assert_array_equal(model.params.data, twin.params.data)
    mc.train_step(twin, mc.SGD(0.1), x, y)
    assert (model.params.data != twin.params.data).any()
    np.testing.assert_array_equal(mc.predict(model, x), mc.predict(copy.deepcopy(model), x))


# Prediction.


@pytest.mark.parametrize("threads", [1, 2, 4])
def test_predict_and_evaluate_give_what_infer_gives(threads):
    model = model_of()
    x = batch(model, 100)
    y = np.arange(100) % 3
    logits = model.infer(x)
    p = np.exp(logits - logits.max(axis=1, keepdims=True))
    p /= p.sum(axis=1, keepdims=True)
    with mc.threads(threads):
        for size in (7, 32, 100, 256):
            np.testing.assert_allclose(mc.predict(model, x, size), p, rtol=1e-10)
            found = mc.evaluate(model, x, y, size)
            assert found["loss"] == pytest.approx(-np.log(p[np.arange(100), y]).mean(), rel=1e-8)
            assert found["accuracy"] == (p.argmax(axis=1) == y).mean()
    assert all(layer.cache is None for layer in model.walk())


def test_results_are_the_callers_own():
    """The next step doesn't overwrite them, and what is done to them doesn't matter."""
    model = model_of()
    x = [batch(model, N, seed) for seed in range(4)]
    results, copies = [], []
    for each in x:
        _, logits = mc.backpropagate(model, each, labels_of(each))
        results += [logits, plan.infer(model, each), mc.predict(model, each)]
        copies += [result.copy() for result in results[-3:]]
    for result, then in zip(results, copies, strict=True):
        np.testing.assert_array_equal(result, then)
        result.fill(np.nan)
    assert np.isfinite(plan.infer(model, x[0])).all()


def test_pictures_may_be_changed_after_the_forward():
    """As a loader does that fills one array again and again."""
    model = model_of()
    truth = like(model, net(), "float64")
    x, dy = batch(model, N).copy(), upstream(model, N)
    wanted = by_layers(truth, x.copy(), dy)
    with plan.step(model, x) as (y, backward):
        x.fill(np.nan)
        later = dy.copy()
        backward(later)
        later.fill(np.nan)
    check({**wanted, "y": y, **{f"d {k}": v for k, v in model.grads.items()}}, wanted, 1e-10)


@pytest.mark.parametrize("layout", ["every other", "fortran", "reversed"])
def test_pictures_may_lie_in_other_ways(layout):
    model = model_of()
    x = batch(model, N)
    turned = {
        "every other": np.repeat(x, 2, axis=2)[:, :, ::2],
        "fortran": np.asfortranarray(x),
        "reversed": x[::-1].copy()[::-1],
    }[layout]
    np.testing.assert_array_equal(plan.infer(model, turned), plan.infer(model, x))


# Errors.


class Failing(mc.Layer):
    """Fails where it is told to, once."""

    where, error = "", RuntimeError

    def fail(self, where):
        if self.where == where:
            self.where = ""
            raise self.error("on purpose")

    def forward(self, x, training=False):
        self.fail("forward")
        self.cache = x
        return np.tanh(x)

    def infer(self, x):
        self.fail("infer")
        return np.tanh(x)

    def backward(self, dy):
        self.fail("backward")
        return dy * (1 - np.tanh(self.take_cache()) ** 2)


@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt, MemoryError])
@pytest.mark.parametrize("where", ["forward", "backward", "infer"])
@pytest.mark.parametrize("inside", ["top", "residual", "twin"])
def test_step_after_one_that_failed(where, error, inside, monkeypatch):
    """In a layer of the user's, or in one that runs in a slice's thread: the next step works."""
    monkeypatch.setattr(team_module, "LEAST", 1)

    def layers():
        middle = mc.GELU() if inside == "twin" else Failing()
        middle = mc.Residual([mc.Conv2D(5, 1), middle]) if inside == "residual" else middle
        return [mc.Conv2D(5, 3), mc.BatchNorm(), mc.Dropout(0.4), middle, mc.Flatten(), mc.Dense(3)]

    model = model_of(layers())
    truth = like(model, layers(), "float64")
    x, dy = batch(model, N), upstream(model, N)
    with mc.threads(3):
        by_plan(model, x, dy)
        plan.infer(model, x)
        with monkeypatch.context() as patch:
            if inside == "twin":
                name = {"infer": "gelu_forward"}.get(where, f"gelu_{where}")

                def fail(*_):
                    raise error("on purpose")

                patch.setattr(f"minicnn.layers.activation.f.{name}", fail)
            else:
                failing = next(layer for layer in model.walk() if isinstance(layer, Failing))
                failing.where, failing.error = where, error
            with pytest.raises(error, match="on purpose"):
                if where == "infer":
                    plan.infer(model, x)
                else:
                    by_plan(model, x, dy)
        copy_numbers(model, truth)
        check(by_plan(model, x, dy), by_layers(truth, x, dy), 1e-10)
        check({"y": plan.infer(model, x)}, {"y": truth.infer(x)}, 1e-10)


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt])
def test_step_after_a_loss_that_failed(error):
    model, truth = model_of(), model_of()
    x, dy = batch(model, N), upstream(model, N)

    def loss(y, target):
        raise error("on purpose")

    with pytest.raises(error, match="on purpose"):
        mc.backpropagate(model, x, labels_of(x), loss)
    copy_numbers(model, truth)
    check(by_plan(model, x, dy), by_layers(truth, x, dy), 1e-10)


def test_interrupt_at_any_call_leaves_the_next_step_working():
    """Ctrl-C between any two calls of a plan, in whichever slice's thread.

    Processes don't see what is put into the scripts later; theirs is `test_processes`' to ask.
    """
    model, truth = model_of(), model_of()
    x, dy = batch(model, 16), upstream(model, 16)

    class Interrupting:
        """Stands in a script in place of a function, and breaks it off once."""

        def __init__(self, function):
            self.function, self.armed = function, True

        def __call__(self, *arguments):
            if self.armed:
                self.armed = False
                raise KeyboardInterrupt
            self.function(*arguments)

    with mc.threads(2), mc.processes(False):
        found = plan_for(model, x, True)
        stages = [*found.forward_stages, *found.backward_stages]
        lists = [calls for stage in stages for calls in (*stage.prepared, *stage.scripts)]
        lists += [stage.meeting for stage in stages]
        for calls in lists:
            for place in range(0, len(calls), 3):
                function, arguments = calls[place]
                calls[place] = Interrupting(function), arguments
                with pytest.raises(KeyboardInterrupt):
                    by_plan(model, x, dy)
                calls[place] = function, arguments
        assert kept(model) == [found]
        copy_numbers(model, truth)
        check(by_plan(model, x, dy), by_layers(truth, x, dy), 1e-10)


# How a plan lies in memory.


def wasteful():
    """Layers whose arrays grow: none fits where those before it were."""
    widths = (8, 16, 32, 64)
    body = [layer for C in widths for layer in (mc.Conv2D(C, 3, padding="same"), mc.Tanh())]
    return [*body, mc.BatchNorm(), mc.ReLU(), mc.Conv2D(8, 3), mc.Flatten(), mc.Dense(3)]


@pytest.mark.parametrize("training", [True, False])
@needs_slices
def test_plan_that_wastes_memory_is_written_again(training, monkeypatch):
    """The same calls, in less memory."""
    model = model_of(wasteful(), "float32")
    x = batch(model, 40)
    with mc.threads(2):
        monkeypatch.setattr(plan_module, "WASTE", 1 << 40)
        first = plan_module.make_plan(model, 40, x.dtype, training)
        monkeypatch.setattr(plan_module, "WASTE", 0)
        packed = plan_module.make_plan(model, 40, x.dtype, training)
    assert first.layouts == packed.layouts == []
    assert packed.nbytes < 0.9 * first.nbytes and packed.wasted < 0.05 * packed.nbytes
    assert len(packed.team.stages) == len(first.team.stages)
    found = []
    for each in (first, packed):
        y = each.forward(x).copy()
        if training:
            each.backward(upstream(model, 40))
        found.append([y, *(grad.copy() for grad in model.grads.values())])
    assert all(np.array_equal(a, b) for a, b in zip(*found, strict=True))


def test_plan_with_lenders_is_packed_into_their_memory(monkeypatch):
    monkeypatch.setattr(plan_module, "WASTE", 0)
    model = model_of(wasteful(), "float32")
    plan_for(model, batch(model, 40), True)
    smaller = plan_for(model, batch(model, 20), True)
    blocks = sum(memory.nbytes for memory in smaller.memories)
    assert smaller.own < smaller.nbytes - 0.9 * blocks
