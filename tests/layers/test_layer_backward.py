"""What holds for every layer between forward and backward."""

from __future__ import annotations

import numpy as np
import pytest

import minicnn as mc

SHAPE = (6, 5, 4)

LAYERS = {
    "conv": lambda: mc.Conv2D(3, 3),
    "conv_without_bias": lambda: mc.Conv2D(4, 3, padding="same", groups=2, use_bias=False),
    "maxpool": lambda: mc.MaxPool2D(2),
    "averagepool": lambda: mc.AveragePool2D(2, 1),
    "globalaveragepool": lambda: mc.GlobalAveragePool2D(),
    "flatten": lambda: mc.Flatten(),
    "dense": lambda: mc.Sequential(mc.Flatten(), mc.Dense(3)),
    "dense_without_bias": lambda: mc.Sequential(mc.Flatten(), mc.Dense(3, use_bias=False)),
    "batchnorm": lambda: mc.BatchNorm(),
    "dropout": lambda: mc.Dropout(0.5),
    "relu": lambda: mc.ReLU(),
    "leakyrelu": lambda: mc.LeakyReLU(),
    "gelu": lambda: mc.GELU(),
    "silu": lambda: mc.SiLU(),
    "tanh": lambda: mc.Tanh(),
    "sigmoid": lambda: mc.Sigmoid(),
    "softmax": lambda: mc.Softmax(),
    "normalize": lambda: mc.Normalize(0.5, 0.25),
    "residual": lambda: mc.Residual([mc.Conv2D(4, 3, padding="same"), mc.ReLU()]),
    "residual_shortcut": lambda: mc.Residual([mc.Conv2D(2, 1), mc.BatchNorm()], mc.Conv2D(2, 1)),
    "scale": lambda: mc.Scale(-0.25),
    "padchannels": lambda: mc.PadChannels(7),
    "concat_with_x": lambda: mc.Concat([mc.Conv2D(2, 1), None, [mc.Conv2D(3, 1), mc.Tanh()]]),
    "concat": lambda: mc.Concat([mc.Conv2D(2, 1), [mc.ReLU(), mc.Conv2D(3, 1)], mc.Tanh()]),
}

every_layer = pytest.mark.parametrize("name", LAYERS)


def built(name, **options):
    return mc.Sequential(LAYERS[name]()).build(SHAPE, seed=3, **options)


def batch(seed=0, N=3):
    return np.random.default_rng(seed).standard_normal((N, *SHAPE)).astype("float32")


def like(y, seed=1):
    return np.random.default_rng(seed).standard_normal(y.shape).astype(y.dtype)


def caches(model):
    return [layer for layer in model.walk() if layer.cache is not None]


@every_layer
@pytest.mark.parametrize("training", [True, False])
def test_layer_gradient(name, training):
    mc.gradcheck.check_layer(LAYERS[name](), SHAPE, training=training).raise_on_failure()


@every_layer
def test_second_backward_is_refused(name):
    model = built(name)
    y = model.forward(batch(), training=True)
    model.backward(like(y))
    assert not caches(model)
    with pytest.raises(RuntimeError, match=r"_1.*no forward to go back through"):
        model.backward(like(y))


@every_layer
def test_backward_before_forward_is_refused(name):
    model = built(name)
    with pytest.raises(RuntimeError, match="no forward to go back through"):
        model.backward(np.ones((3, *model.output_shape), "float32"))


@every_layer
def test_infer_equals_forward_and_keeps_nothing(name):
    model = built(name)
    y = model.forward(batch(), training=False)
    assert caches(model)
    model.forget()
    assert not caches(model)
    np.testing.assert_array_equal(model.infer(batch()), y)
    assert not caches(model)
    with pytest.raises(RuntimeError, match=r"infer\(\) and predict\(\) keep nothing"):
        model.backward(like(y))


@every_layer
def test_backward_params_gives_the_same_gradients(name):
    grads = []
    for method in ("backward", "backward_params"):
        model = built(name)
        y = model.forward(batch(), training=True)
        getattr(model, method)(like(y))
        grads.append(model.params.grad.copy())
        assert not caches(model)
    np.testing.assert_array_equal(*grads)
    assert not model.params or grads[0].any()


def test_backward_params_stops_at_the_first_trained_layer():
    class Counting(mc.Layer):
        calls = 0

        def forward(self, x, training=False):
            self.cache = ()
            return x

        def backward(self, dy):
            type(self).calls += 1
            self.take_cache()
            return dy

    model = mc.Sequential(Counting(), mc.Conv2D(2, 1), Counting(), mc.Conv2D(2, 1)).build(SHAPE)
    y = model.forward(batch())
    model.backward_params(like(y))
    assert Counting.calls == 1  # that between the convolutions
    assert not caches(model)


@every_layer
def test_gradients_are_overwritten(name):
    model = built(name)
    results = []
    for _ in range(2):
        for stream in model.streams.values():
            stream.position = 0
        y = model.forward(batch(), training=True)
        dx = model.backward(like(y))
        results.append((dx, model.params.grad.copy()))
    np.testing.assert_array_equal(results[0][0], results[1][0])
    np.testing.assert_array_equal(results[0][1], results[1][1])


@every_layer
def test_layer_leaves_arguments_alone(name):
    model, x = built(name), batch()
    y = model.forward(x, training=True)
    dy = like(y)
    x_before, dy_before, y_before = x.copy(), dy.copy(), y.copy()
    model.backward(dy)
    np.testing.assert_array_equal(x, x_before)
    np.testing.assert_array_equal(dy, dy_before)
    np.testing.assert_array_equal(y, y_before)


@every_layer
def test_layer_keeps_float64(name):
    model = built(name, dtype="float64")
    y = model.forward(batch().astype("float64"), training=True)
    assert y.dtype == np.float64
    assert model.backward(np.ones_like(y)).dtype == np.float64
    assert {v.dtype for v in [*model.params.values(), *model.state.values()]} <= {y.dtype}


def test_residual_adds_and_splits():
    model = mc.Sequential(mc.Residual(mc.Tanh(), mc.LeakyReLU(0.5))).build(SHAPE)
    x = batch()
    y = model.forward(x)
    np.testing.assert_allclose(y, np.tanh(x) + np.where(x > 0, x, x / 2), rtol=1e-6)
    dy = like(y)
    expected = dy * (1 - np.tanh(x) ** 2) + np.where(x > 0, dy, dy / 2)
    np.testing.assert_allclose(model.backward(dy), expected, rtol=1e-5, atol=1e-6)


def test_concat_joins_in_order_and_splits():
    model = mc.Sequential(mc.Concat([mc.Tanh(), mc.Conv2D(2, 1), mc.ReLU()])).build(SHAPE)
    x, w = batch(), model.params["concat_1/branch_2/w"][0, 0]
    y = model.forward(x)
    expected = np.concatenate([np.tanh(x), x @ w, np.maximum(x, 0)], axis=-1)
    np.testing.assert_allclose(y, expected, rtol=1e-5, atol=1e-6)
    dy = like(y)
    dx = dy[..., :4] * (1 - np.tanh(x) ** 2) + dy[..., 4:6] @ w.T + dy[..., 6:] * (x > 0)
    np.testing.assert_allclose(model.backward(dy), dx, rtol=1e-4, atol=1e-5)


def test_concat_with_x_itself():
    """None is x: its channels come out, and its piece of dy is a part of dx."""
    model = mc.Sequential(mc.Concat([None, mc.Tanh(), None])).build(SHAPE)
    x = batch()
    y = model.forward(x)
    np.testing.assert_array_equal(y, np.concatenate([x, np.tanh(x), x], axis=-1))
    dy = like(y)
    dx = dy[..., :4] + dy[..., 4:8] * (1 - np.tanh(x) ** 2) + dy[..., 8:]
    np.testing.assert_allclose(model.backward(dy), dx, rtol=1e-5, atol=1e-6)
    assert [name for name, _ in model[0].children()] == ["branch_2"]


def test_scale_multiplies():
    model = mc.Sequential(mc.Scale(np.float64(0.25))).build(SHAPE)
    x = batch()
    y = model.forward(x)
    assert y.dtype == "float32"
    np.testing.assert_array_equal(y, x / 4)
    np.testing.assert_array_equal(model.backward(like(y)), like(y) / 4)


@pytest.mark.parametrize(("channels", "before", "behind"), [(4, 0, 0), (7, 1, 2), (8, 2, 2)])
def test_padchannels_adds_zeros_evenly(channels, before, behind):
    model = mc.Sequential(mc.PadChannels(channels)).build(SHAPE)
    x = batch()
    y = model.forward(x)
    np.testing.assert_array_equal(y, np.pad(x, [(0, 0)] * 3 + [(before, behind)]))
    dy = like(y)
    np.testing.assert_array_equal(model.backward(dy), dy[..., before : before + 4])


def test_normalize_formula_and_measured_statistics():
    x = np.random.default_rng(2).integers(0, 256, (50, 4, 4, 3)).astype("uint8")
    layer = mc.Normalize.of(x)
    y = mc.Sequential(layer).build((4, 4, 3), dtype="float64").forward(x)
    np.testing.assert_allclose(y.mean((0, 1, 2)), 0, atol=1e-12)
    np.testing.assert_allclose(y.std((0, 1, 2)), 1, rtol=1e-12)
    model = mc.Sequential(mc.Normalize((0.1, 0.2, 0.3), 0.5)).build((4, 4, 3))
    expected = (x / 255 - [0.1, 0.2, 0.3]) / 0.5
    np.testing.assert_allclose(model.forward(x), expected, rtol=1e-5, atol=1e-6)
    assert model.forward(x).dtype == np.float32
