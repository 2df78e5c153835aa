"""Copies of models, layers in two places, and options as NumPy gives them."""

import copy
import json
import pickle
from dataclasses import dataclass

import numpy as np
import pytest

import minicnn as mc
from minicnn.functional.conv import conv2d_forward
from minicnn.functional.dense import dense_forward
from minicnn.functional.pool import averagepool2d_forward

SHAPE = (6, 6, 2)


def small():
    layers = mc.Conv2D(4, 3), mc.BatchNorm(), mc.ReLU(), mc.Dropout(0.2), mc.Flatten(), mc.Dense(3)
    return mc.Sequential(*layers)


def data():
    rng = np.random.default_rng(0)
    return rng.standard_normal((8, *SHAPE)).astype("float32"), np.arange(8) % 3


@pytest.mark.parametrize("duplicate", [copy.deepcopy, lambda m: pickle.loads(pickle.dumps(m))])
def test_copy_of_a_model_learns_by_itself(duplicate):
    model, (x, labels) = small().build(SHAPE), data()
    twin = duplicate(model)
    assert np.shares_memory(twin.params.data, twin[0].w)
    assert np.shares_memory(twin.params.grad, twin[0].dw)
    assert not np.shares_memory(twin.params.data, model.params.data)
    losses = [
        [float(mc.train_step(m, optimizer, x, labels)) for _ in range(5)]
        for m, optimizer in ((model, mc.Adam(0.01)), (twin, mc.Adam(0.01)))
    ]
    assert losses[0] == losses[1] and losses[0][-1] < losses[0][0]
    np.testing.assert_array_equal(model.params.data, twin.params.data)


def test_copy_of_model_and_optimizer_goes_on_as_they_would():
    model, optimizer, (x, labels) = small().build(SHAPE), mc.Adam(0.01), data()
    mc.train_step(model, optimizer, x, labels)
    twin, other = copy.deepcopy((model, optimizer))
    for m, o in ((model, optimizer), (twin, other)):
        mc.train_step(m, o, x, labels)
    np.testing.assert_array_equal(model.params.data, twin.params.data)


def test_build_refuses_a_layer_of_another_model():
    dense = mc.Dense(3)
    model = mc.Sequential(mc.Flatten(), dense).build(SHAPE)
    with pytest.raises(ValueError, match=r"part of another model.*copy.deepcopy"):
        mc.Sequential(mc.Flatten(), dense).build(SHAPE)
    mc.Sequential(mc.Flatten(), copy.deepcopy(dense)).build(SHAPE)
    assert np.shares_memory(model.params.data, dense.w)


def test_optimizer_refuses_a_model_built_anew():
    model, optimizer, (x, labels) = small().build(SHAPE), mc.Adam(), data()
    mc.train_step(model, optimizer, x, labels)
    with pytest.raises(ValueError, match="One optimizer goes with one model"):
        mc.train_step(model.build(SHAPE), optimizer, x, labels)


class Scale(mc.Layer):
    def __init__(self, k=2.0):
        self.k = k

    def forward(self, x, training=False):
        self.cache = ()
        return x * self.k

    def backward(self, dy):
        self.take_cache()
        return dy * self.k


@dataclass(eq=False, repr=False)
class Better(Scale):
    k: float = 2.0


def test_save_refuses_a_layer_whose_options_would_be_lost(tmp_path):
    model = mc.Sequential(Scale(5.0), mc.Flatten(), mc.Dense(3)).build(SHAPE)
    with pytest.raises(TypeError, match=r"Scale can't be saved: its arguments \(k\) aren't fields"):
        mc.save(model, tmp_path / "model.safetensors")
    model = mc.Sequential(Better(5.0), mc.Flatten(), mc.Dense(3)).build(SHAPE)
    path = mc.save(model, tmp_path / "model.safetensors")
    assert mc.load(path, own={"Better": Better})[0].k == 5.0


class Mine(mc.Sequential):
    def forward(self, x, training=False):
        return super().forward(x, training) * 2


def test_subclass_of_sequential_is_loaded_as_itself(tmp_path):
    model, (x, _) = Mine(mc.Flatten(), mc.Dense(3)).build(SHAPE), data()
    path = mc.save(model, tmp_path / "model.safetensors")
    with pytest.raises(mc.CheckpointError, match="Mine"):
        mc.load(path)
    np.testing.assert_array_equal(mc.load(path, own={"Mine": Mine}).forward(x), model.forward(x))


def test_options_of_numpy_can_be_saved(tmp_path):
    one = np.float32(0.5)
    model = mc.Sequential(
        mc.Normalize(np.array([0.1, 0.2]), np.array([0.3, 0.4])),
        mc.Conv2D(np.int64(4), (np.int64(3), 3), strides=np.int32(1)),
        mc.LeakyReLU(one),
        mc.Dropout(one),
        mc.Flatten(),
        mc.Dense(np.int64(3)),
    ).build(SHAPE)
    json.dumps(model.config())
    assert "mean=(0.1, 0.2)" in repr(model)
    x = np.zeros((2, *SHAPE), "uint8")
    twin = mc.load(mc.save(model, tmp_path / "model.safetensors"))
    np.testing.assert_array_equal(mc.predict(twin, x), mc.predict(model, x))


def test_nan_batch_leaves_the_running_statistics_alone():
    model, optimizer, (x, labels) = small().build(SHAPE), mc.Adam(), data()
    before = {name: array.copy() for name, array in model.state.items()}
    x[0] = np.inf
    with np.errstate(all="ignore"), pytest.raises(mc.NotFinite):
        mc.train_step(model, optimizer, x, labels)
    for name, array in model.state.items():
        np.testing.assert_array_equal(array, before[name])


def test_softmax_at_the_end_of_an_inner_model_is_seen():
    model = mc.Sequential(mc.Flatten(), mc.Sequential(mc.Dense(3), mc.Softmax())).build(SHAPE)
    x, labels = data()
    np.testing.assert_allclose(mc.predict(model, x), model.forward(x), rtol=1e-6)
    with pytest.raises(ValueError, match="leave Softmax out"):
        mc.fit(model, x, labels, optimizer=mc.Adam())


def test_train_step_refuses_floats_where_the_model_prepares_pictures():
    model = mc.models.tutorial_cnn().build((32, 32, 3))
    with pytest.raises(TypeError, match=r"expects uint8.*\* 255"):
        mc.train_step(model, mc.Adam(), np.random.default_rng(0).random((2, 32, 32, 3)), [0, 1])


@pytest.mark.parametrize(
    "use",
    [
        lambda x: conv2d_forward(x, np.ones((1, 1, 2, 1))),
        lambda x: averagepool2d_forward(x, 2),
        lambda x: dense_forward(x.reshape(2, -1), np.ones((32, 1))),
    ],
)
def test_functions_refuse_integers(use):
    with pytest.raises(TypeError, match="expected floats, got uint8"):
        use(np.ones((2, 4, 4, 2), "uint8"))
