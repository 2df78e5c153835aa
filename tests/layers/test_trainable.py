"""Layers that are frozen: what they compute, what they leave alone, and who knows of it."""

from __future__ import annotations

import copy
import gc

import numpy as np
import pytest

import minicnn as mc
from minicnn.functional.norm import batchnorm_inference_backward, batchnorm_inference_forward
from minicnn.layers import from_config


def network(**options):
    return mc.Sequential(
        mc.Conv2D(3, 3, name="first"),
        mc.BatchNorm(),
        mc.ReLU(),
        mc.Residual([mc.Conv2D(3, 3, padding="same"), mc.BatchNorm()], mc.Conv2D(3, 1)),
        mc.Concat([mc.Conv2D(2, 1), [mc.Conv2D(4, 1), mc.ReLU()]]),
        mc.Dropout(0.5),
        mc.Flatten(),
        mc.Dense(4),
        **options,
    )


def built(dtype="float64", **options):
    model = network(**options).build((5, 6, 2), dtype=dtype)
    rng = np.random.default_rng(0)
    for array in model.state.values():
        array += rng.uniform(0.1, 0.5, array.shape)
    return model


def data(N=6):
    rng = np.random.default_rng(1)
    return rng.standard_normal((N, 5, 6, 2)), rng.integers(0, 4, N)


def names(layer):
    return {f"{part.path}/{name}" for part in layer.walk() for name in part.declared}


def step(model, optimizer=None, **options):
    x, labels = data()
    return mc.train_step(model, optimizer or mc.SGD(0.1), x.astype(model.dtype), labels, **options)


@pytest.mark.parametrize("optimizer", [mc.SGD(0.1, 0.9), mc.AdamW(0.1), mc.RMSprop(0.1)])
def test_frozen_layers_stay_and_the_others_do_not(optimizer):
    model = built()
    step(model, optimizer)
    model["first"].trainable = False
    model["residual_1"].trainable = False
    before = {name: view.copy() for name, view in model.params.items()}
    memory = {kind: array.copy() for kind, array in optimizer.memory.items()}
    step(model, optimizer)
    frozen = names(model["first"]) | names(model["residual_1"])
    assert model.params.frozen == frozen
    for name, view in model.params.items():
        assert np.array_equal(view, before[name]) == (name in frozen), name
        assert bool(model.grads[name].any()) == (name not in frozen), name
        for kind, flat in optimizer.memory.items():
            old, new = (model.params.views(a)[name] for a in (memory[kind], flat))
            assert np.array_equal(old, new) == (name in frozen), (kind, name)


def test_gradients_of_the_others_are_what_they_were():
    models = [built(), built()]
    for layer in (models[1]["first"], models[1]["concat_1"]):
        layer.trainable = False
    for model in models:
        step(model, mc.SGD(0.0))
    for name in set(models[0].params) - models[1].params.frozen:
        np.testing.assert_allclose(*(m.grads[name] for m in models), rtol=1e-12, atol=1e-15)


def test_frozen_batchnorm_goes_by_its_running_statistics_and_leaves_them():
    layer = mc.BatchNorm(trainable=False)
    model = mc.Sequential(layer).build((3, 4, 5), dtype="float64")
    rng = np.random.default_rng(0)
    for array in (*model.params.values(), *model.state.values()):
        array[...] = rng.uniform(0.5, 2, array.shape)
    x, dy = rng.standard_normal((2, 1, 3, 4, 5))  # one picture: it needs no others
    state = {name: array.copy() for name, array in model.state.items()}
    mean, var = state.values()
    y, cache = batchnorm_inference_forward(x, layer.gamma, layer.beta, mean, var, layer.eps)
    np.testing.assert_array_equal(model.forward(x, training=True), y)
    np.testing.assert_array_equal(model.backward(dy), batchnorm_inference_backward(dy, cache)[0])
    assert not model.params.grad.any()
    for name, array in model.state.items():
        np.testing.assert_array_equal(array, state[name])
    layer.trainable = ("beta",)  # something is trained: the batch's statistics
    assert abs(model.forward(x, training=True).mean() - layer.beta.mean()) < 1e-9
    assert not np.array_equal(model.state["batchnorm_1/running_mean"], state[name])


def test_frozen_dropout_drops():
    layer = mc.Dropout(0.5, trainable=False)
    model = mc.Sequential(layer).build((100,))
    x = np.ones((3, 100), "float32")
    assert (model.forward(x, training=True) == 0).any()
    assert (model.forward(x) == 1).all()


def test_backward_stops_at_the_first_layer_that_is_trained(monkeypatch):
    model = built()
    for layer in model.layers[:4]:
        layer.trainable = False
    x, _ = data()
    y = model.forward(x, training=True)
    for layer in model.layers[:4]:
        monkeypatch.setattr(layer, "backward", lambda dy: pytest.fail("was asked"))
    model.backward_params(np.ones_like(y))
    assert all(layer.cache is None for layer in model.walk())
    model.trainable = False
    model.forward(x, training=True)
    model.backward_params(np.ones_like(y))
    assert not model.params.grad.any()
    assert all(layer.cache is None for layer in model.walk())


def test_old_gradients_go_when_a_layer_is_frozen():
    model = built()
    step(model)
    assert model.grads["first/w"].any()
    model["first"].trainable = ("b",)
    assert not model.grads["first/w"].any()
    assert model.grads["first/b"].any()


def test_setting_it_on_what_holds_layers_sets_it_inside():
    for make in (
        lambda: mc.Residual(mc.Dense(2), [mc.Dense(2)], trainable=False),
        lambda: mc.Concat([mc.Dense(2), [mc.Dense(2)]], trainable=False),
        lambda: mc.Sequential(mc.Dense(2), mc.Sequential(mc.Dense(2)), trainable=False),
    ):
        layer = make()
        assert not any(part.trainable for part in layer.walk())
        layer.trainable = True
        assert all(part.trainable is True for part in layer.walk())
        with pytest.raises(ValueError, match="given to the layer that has them"):
            layer.trainable = ("w",)
    inner = mc.Residual(mc.Dense(2, trainable=False))
    assert inner.main.trainable is False
    model = built()
    model.trainable = False
    model["residual_1"].trainable = True
    assert set(model.params) - model.params.frozen == names(model["residual_1"])


def test_it_is_kept_in_files_and_copies(tmp_path):
    model = built("float32")
    model["residual_1"].trainable = False
    model["dense_1"].trainable = ("b",)
    frozen = names(model["residual_1"]) | {"dense_1/w"}
    mc.save(model, tmp_path / "model.safetensors")
    twin = copy.deepcopy(model)
    for other in (mc.load(tmp_path / "model.safetensors"), twin, twin.build((5, 6, 2))):
        assert other.params.frozen == frozen
        assert other["dense_1"].trainable == ("b",)
        step(other)
        assert not other.grads["dense_1/w"].any()
    twin.trainable = True
    assert not twin.params.frozen
    assert model.params.frozen == frozen
    del twin, other
    gc.collect()


def test_what_is_trained_is_not_told_in_files_so_older_ones_stay_readable():
    model = built()
    assert "trainable" not in str(model.config())
    assert "trainable" not in repr(model)
    twin = from_config(model.config())
    assert all(layer.trainable is True for layer in twin.walk())
    model["first"].trainable = False
    assert model["first"].config()["trainable"] is False
    assert from_config(model.config()).config() == model.config()
    assert repr(mc.Dense(3, trainable=("b",))) == "Dense(trainable=('b',), units=3)"


@pytest.mark.parametrize("value", [0, 1, None, "b", ["b", 3], {"b": 1}, [["b"]]])
def test_what_it_cannot_be_is_refused(value):
    with pytest.raises(ValueError, match="expected True, False, or a tuple of parameter names"):
        mc.Dense(3, trainable=value)
    config = {"type": "Dense", "units": 3, "trainable": value}
    if value is not None:
        with pytest.raises(ValueError, match="expected True, False, or a tuple"):
            from_config(config)
    layer = mc.Dense(3)
    with pytest.raises(ValueError, match="expected True, False"):
        layer.trainable = value
    assert layer.trainable is True


def test_names_that_a_layer_does_not_have_are_refused():
    text = r"dense_1 \(Dense\): trainable names c, which isn't a parameter of it; there are: w, b"
    with pytest.raises(ValueError, match=text):
        mc.Sequential(mc.Dense(3, trainable=("b", "c"))).build((2,))
    model = mc.Sequential(mc.Dense(3), mc.ReLU()).build((2,))
    with pytest.raises(ValueError, match=text):
        model[0].trainable = ("c",)
    assert model[0].trainable is True
    assert not model.params.frozen
    with pytest.raises(ValueError, match="there are: none"):
        model[1].trainable = ("w",)


def test_summary_counts_what_is_frozen():
    model = built()
    assert "frozen" not in str(model.summary())
    assert model.summary().frozen == 0
    model["first"].trainable = ("b",)
    summary = model.summary(batch_size=4)
    assert summary.frozen == 3 * 3 * 2 * 3
    trained = summary.parameters - 54
    assert f"{trained} of the parameters are trained, 54 are frozen" in str(summary)


def test_model_check_works_with_what_is_frozen():
    model = built()
    model["residual_1"].trainable = False
    model["first"].trainable = ("b",)
    report = mc.gradcheck.check_model(model, *data(3))
    assert report, report
    assert {a.name for a in report.arguments} >= set(model.params)
    block = mc.Residual([mc.Dense(4, trainable=False), mc.BatchNorm(trainable=False), mc.Dense(4)])
    report = mc.gradcheck.check_layer(block, (4,))
    assert report, report
    block = mc.Sequential(mc.Dense(4, trainable=False), mc.Dense(3))
    report = mc.gradcheck.check_layer(block, (4,))
    assert report, report


def test_model_check_sees_a_frozen_gradient_that_is_not_zero(monkeypatch):
    model = built()
    model["first"].trainable = ("b",)
    monkeypatch.setattr(mc.Sequential, "clear_frozen", lambda self: None)
    report = mc.gradcheck.check_model(model, *data(3))
    assert "it is frozen, but its gradient isn't zero" in str(report)


def test_penalties_leave_frozen_weights_alone():
    model = mc.Sequential(
        mc.Dense(3, kernel_regularizer=mc.L2(0.1), trainable=False), mc.Dense(4)
    ).build((5,))
    rng = np.random.default_rng(0)
    before = model[0].w.copy()
    x, labels = rng.standard_normal((6, 5)).astype("float32"), np.arange(6) % 4
    loss = mc.train_step(model, mc.SGD(0.1), x, labels)
    assert not model.grads["dense_1/w"].any()
    np.testing.assert_array_equal(model[0].w, before)
    free = mc.evaluate(model, x, labels)["loss"]
    assert loss > 0.1 * (before**2).sum()
    assert free > 0.1 * (before**2).sum()  # the charge is told all the same
