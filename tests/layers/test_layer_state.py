"""Parameters as views, running statistics, and dropout's random numbers."""

from __future__ import annotations

import numpy as np
import pytest

import minicnn as mc


def net():
    return mc.Sequential(
        mc.Conv2D(4, 3, kernel_initializer="he_normal"),
        mc.BatchNorm(),
        mc.ReLU(),
        mc.Residual([mc.Conv2D(4, 1), mc.BatchNorm()]),
        mc.Flatten(),
        mc.Dropout(0.3),
        mc.Dense(3),
    )


def data(N=8):
    rng = np.random.default_rng(5)
    return rng.standard_normal((N, 5, 5, 2)).astype("float32"), rng.integers(0, 3, N)


# Views.


def test_views_share_memory_with_the_buffers_after_training():
    model, optimizer = net().build((5, 5, 2)), mc.Adam(0.01, global_clipnorm=0.1)
    before = model.params.data.copy()
    for _ in range(3):
        mc.train_step(model, optimizer, *data())
    assert (model.params.data != before).any()
    for layer in model.walk():
        for name in layer.declared:
            for view, named, flat in (
                (getattr(layer, name), model.params, model.params.data),
                (getattr(layer, f"d{name}"), model.grads, model.params.grad),
            ):
                assert np.shares_memory(view, flat)
                np.testing.assert_array_equal(view, named[f"{layer.path}/{name}"])
                assert view.__array_interface__ == named[f"{layer.path}/{name}"].__array_interface__


def test_writing_into_a_view_changes_the_model():
    model, (x, _) = net().build((5, 5, 2)), data()
    model.params["dense_1/w"][...] = 0
    model.params["dense_1/b"][...] = [1, 2, 3]
    np.testing.assert_array_equal(model.forward(x), np.tile([1, 2, 3], (8, 1)))


def test_build_again_starts_again():
    model = net().build((5, 5, 2), seed=1)
    first = model.params.data.copy()
    for _ in range(2):
        mc.train_step(model, mc.SGD(0.1), *data())
    model.build((5, 5, 2), seed=1)
    np.testing.assert_array_equal(model.params.data, first)
    assert not model.state["batchnorm_1/running_mean"].any()
    assert [stream.position for stream in model.streams.values()] == [0]
    assert (model.build((5, 5, 2), seed=2).params.data != first).any()


def test_weights_of_a_layer_depend_on_seed_and_dtype_only():
    a, b = net().build((5, 5, 2), seed=1), net().build((5, 5, 2), seed=1, dtype="float64")
    for name, view in a.params.items():
        np.testing.assert_array_equal(b.params[name].astype("float32"), view)


# BatchNorm.


@pytest.mark.parametrize("momentum", [0.0, 0.5, 0.9])
@pytest.mark.parametrize("shape", [(3, 2, 4), (4,)])
def test_batchnorm_running_statistics(momentum, shape):
    model = mc.Sequential(mc.BatchNorm(momentum)).build(shape, dtype="float64")
    mean, var = np.zeros(4), np.ones(4)
    rng = np.random.default_rng(0)
    for _ in range(3):
        x = rng.normal(3, 2, (6, *shape))
        model.forward(x, training=True)
        rows = x.reshape(-1, 4)
        mean = momentum * mean + (1 - momentum) * rows.mean(axis=0)
        var = momentum * var + (1 - momentum) * rows.var(axis=0, ddof=1)
    np.testing.assert_allclose(model.state["batchnorm_1/running_mean"], mean, rtol=1e-12)
    np.testing.assert_allclose(model.state["batchnorm_1/running_var"], var, rtol=1e-12)


def test_batchnorm_uses_the_batch_in_training_and_the_statistics_otherwise():
    model = mc.Sequential(mc.BatchNorm(eps=1e-3)).build((4,), dtype="float64")
    model.params["batchnorm_1/gamma"][...] = [1, 2, 3, 4]
    model.params["batchnorm_1/beta"][...] = 5
    model.state["batchnorm_1/running_mean"][...] = 10
    model.state["batchnorm_1/running_var"][...] = 4
    x = np.random.default_rng(0).normal(3, 2, (6, 4))
    expected = (x - 10) / np.sqrt(4.001) * [1, 2, 3, 4] + 5
    np.testing.assert_allclose(model.forward(x), expected, rtol=1e-12)
    assert (model.state["batchnorm_1/running_mean"] == 10).all()
    expected = (x - x.mean(0)) / np.sqrt(x.var(0) + 1e-3) * [1, 2, 3, 4] + 5
    np.testing.assert_allclose(model.forward(x, training=True), expected, rtol=1e-12)


def test_batchnorm_refuses_one_value_a_channel():
    model = mc.Sequential(mc.BatchNorm()).build((4,))
    with pytest.raises(ValueError, match=r"one value a channel.*drop_last"):
        model.forward(np.ones((1, 4), "float32"), training=True)
    assert model.forward(np.ones((1, 4), "float32")).shape == (1, 4)


# Dropout.


def dropped(rate=0.25, seed=0, N=50, name=None):
    return mc.Sequential(mc.Dropout(rate, name=name)).build((20, 20, 1), seed=seed), np.ones(
        (N, 20, 20, 1), "float32"
    )


@pytest.mark.parametrize("rate", [0.1, 0.5, 0.9])
def test_dropout_statistics(rate):
    model, x = dropped(rate)
    y = model.forward(x, training=True)
    assert set(np.unique(y)) == {0.0, np.float32(1 / (1 - rate))}
    kept = (y != 0).mean()
    deviation = np.sqrt(rate * (1 - rate) / x.size)
    assert abs(kept - (1 - rate)) < 4 * deviation
    assert abs((y != 0).mean(axis=(1, 2, 3)) - (1 - rate)).max() < 0.15  # in every picture
    np.testing.assert_array_equal(model.backward(x), y)  # the same values are off


def test_dropout_of_rate_zero_changes_nothing():
    model, x = dropped(0.0)
    np.testing.assert_array_equal(model.forward(x, training=True), x)


def test_dropout_is_off_in_prediction():
    model, x = dropped()
    np.testing.assert_array_equal(model.forward(x), x)
    np.testing.assert_array_equal(model.infer(x), x)
    np.testing.assert_array_equal(
        mc.Sequential(mc.Dropout(0.5)).build((4,)).forward(x[0, :, :4, 0]), 1
    )
    assert model.streams["dropout_1"].position == 0
    model.forward(x)
    np.testing.assert_array_equal(model.backward(x * 2), x * 2)


def test_dropout_repeats_from_the_seed_and_the_position():
    (a, x), (b, _), (other, _) = dropped(), dropped(), dropped(seed=1)
    first, second = a.forward(x, training=True), a.forward(x, training=True)
    assert (first != second).any()
    np.testing.assert_array_equal(b.forward(x, training=True), first)
    assert (other.forward(x, training=True) != first).any()
    b.streams["dropout_1"].position = 1
    np.testing.assert_array_equal(b.forward(x, training=True), second)


def test_dropout_layers_draw_different_numbers():
    model = mc.Sequential(mc.Concat([mc.Dropout(0.5), mc.Dropout(0.5)])).build((30,))
    y = model.forward(np.ones((8, 30), "float32"), training=True)
    assert (y[:, :30] != y[:, 30:]).any()
    assert list(model.streams) == ["concat_1/branch_1", "concat_1/branch_2"]
