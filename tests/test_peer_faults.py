"""Faults found in other frameworks: one test for each, which fails for a framework that has it.

All were found by comparing gradients with differences, or with the same work done otherwise.
"""

from __future__ import annotations

import naive
import numpy as np
import pytest

import minicnn as mc
from minicnn.functional.activation import relu_backward, relu_forward
from minicnn.functional.conv import conv2d_backward, conv2d_forward
from minicnn.functional.dense import dense_backward, dense_forward
from minicnn.functional.norm import batchnorm_backward, batchnorm_forward
from minicnn.functional.pool import (
    averagepool2d_backward,
    averagepool2d_forward,
    maxpool2d_backward,
    maxpool2d_forward,
)
from minicnn.gradcheck import check_function, check_layer

LAYERS = [
    mc.Conv2D(4, 3, padding="same"),
    mc.BatchNorm(),
    mc.ReLU(),
    mc.MaxPool2D(3, 2, 1),
    mc.Residual([mc.Conv2D(4, 1), mc.GELU()]),
    mc.Concat([mc.Conv2D(2, 1), mc.AveragePool2D(3, 1, "same")]),
    mc.LeakyReLU(),
    mc.SiLU(),
    mc.Dropout(0.25),
    mc.GlobalAveragePool2D(),
    mc.Dense(8),
    mc.Tanh(),
    mc.Dense(6),
    mc.Sigmoid(),
    mc.Dense(5),
]


def difference(value, array, index, h=1e-6):
    """The slope of value() as one entry is moved, in the plainest way."""
    kept = array[index]
    array[index] = kept + h
    above = value()
    array[index] = kept - h
    below = value()
    array[index] = kept
    return (above - below) / (2 * h)


def test_softmax_and_cross_entropy_together_have_the_gradient_of_the_loss(rng):
    logits, labels = rng.standard_normal((5, 4)), rng.integers(0, 4, 5)
    _, dlogits = mc.CrossEntropy()(logits, labels)
    slopes = np.empty(logits.shape)
    for index in np.ndindex(logits.shape):
        slopes[index] = difference(
            lambda: naive.softmax_cross_entropy(logits, labels), logits, index
        )
    np.testing.assert_allclose(dlogits, slopes, rtol=1e-6, atol=1e-9)
    cosine = (dlogits * slopes).sum() / np.sqrt((dlogits**2).sum() * (slopes**2).sum())
    assert cosine == pytest.approx(1, abs=1e-9)


def test_cross_entropys_gradient_is_that_of_its_own_loss(rng):
    """Of the number that it returns, not of a loss like it: mean or sum, clipped, per class."""
    logits, labels = rng.standard_normal((5, 4)), rng.integers(0, 4, 5)
    for loss in (
        mc.CrossEntropy(),
        mc.CrossEntropy(0.1, (1.0, 2.0, 0.5, 3.0)),
        mc.MeanSquaredError(),
    ):
        _, dlogits = loss(logits, labels)
        for index in np.ndindex(logits.shape):
            slope = difference(lambda loss=loss: float(loss(logits, labels)[0]), logits, index)
            assert dlogits[index] == pytest.approx(slope, rel=1e-6, abs=1e-9)


def test_a_tie_in_maxpool_pays_the_gradient_once_and_to_one():
    """Not four times, and not a quarter to each."""
    y, cache = maxpool2d_forward(np.ones((2, 4, 4, 3)), 2)
    dx = maxpool2d_backward(np.full_like(y, 7.0), cache)
    assert set(np.unique(dx)) == {0.0, 7.0}
    assert dx.sum() == 7 * y.size
    np.testing.assert_array_equal(dx[:, ::2, ::2], 7)  # the first of each window


@pytest.mark.parametrize(
    ("forward", "backward", "shapes"),
    [
        (dense_forward, dense_backward, [(3, 4), (4, 5), (5,)]),
        (conv2d_forward, conv2d_backward, [(3, 5, 4, 2), (3, 2, 2, 4), (4,)]),
        (batchnorm_forward, batchnorm_backward, [(3, 4, 2, 2), (2,), (2,)]),
    ],
    ids=["dense", "conv2d", "batchnorm"],
)
def test_every_parameter_gradient_is_a_sum_over_the_batch(rng, forward, backward, shapes):
    """The same pictures twice give twice the gradient, of weights and biases alike: the loss alone
    divides by the batch."""
    x, *parameters = (rng.standard_normal(shape) for shape in shapes)
    y, cache = forward(x, *parameters)
    dy = rng.standard_normal(y.shape)
    once = backward(dy, cache)[1:]
    _, cache = forward(np.concatenate([x, x]), *parameters)
    twice = backward(np.concatenate([dy, dy]), cache)[1:]
    for a, b in zip(once, twice, strict=True):
        np.testing.assert_allclose(b, 2 * a, rtol=1e-9, atol=1e-12)


def test_all_layers_of_a_model_agree_on_who_divides_by_the_batch(rng):
    """The loss is a mean: the same pictures twice give the same gradient, in every layer."""
    model = mc.Sequential(
        mc.Conv2D(3, 3), mc.ReLU(), mc.Conv2D(2, 2), mc.Flatten(), mc.Dense(4), mc.Dense(3)
    ).build((6, 5, 2), dtype="float64")
    x, labels = rng.standard_normal((4, 6, 5, 2)), np.array([0, 1, 2, 1])
    mc.backpropagate(model, x, labels)
    once = {name: grad.copy() for name, grad in model.grads.items()}
    mc.backpropagate(model, np.concatenate([x, x]), np.concatenate([labels, labels]))
    for name, grad in once.items():
        np.testing.assert_allclose(model.grads[name], grad, rtol=1e-10, atol=1e-14)
        assert abs(grad).max() > 1e-4


@pytest.mark.parametrize("padding", [1, (1, 0), ((0, 1), (1, 0)), "same"])
@pytest.mark.parametrize("stride", [1, 2, (3, 2)])
def test_maxpool_with_padding_works_and_has_the_right_gradient(rng, padding, stride):
    x = (rng.permutation(2 * 7 * 5 * 2).reshape(2, 7, 5, 2) - 70) * 0.1
    y, _ = maxpool2d_forward(x, 3, stride, padding)
    np.testing.assert_array_equal(y, naive.maxpool2d(x, 3, stride, padding))
    report = check_function(
        lambda x: maxpool2d_forward(x, 3, stride, padding), maxpool2d_backward, [x]
    ).raise_on_failure()
    assert report.arguments[0].kinks == 0


def test_padding_never_wins_the_maximum():
    x = np.full((1, 3, 3, 1), -5.0)
    y, cache = maxpool2d_forward(x, 3, 1, 1)
    np.testing.assert_array_equal(y, -5)
    assert maxpool2d_backward(np.ones_like(y), cache).sum() == y.size


@pytest.mark.parametrize("layer", [*LAYERS[:9]], ids=lambda layer: type(layer).__name__)
@pytest.mark.parametrize("training", [True, False])
def test_float32_stays_float32_in_every_layer(rng, layer, training):
    model = mc.Sequential(layer).build((6, 6, 4))
    y = model.forward(rng.standard_normal((3, 6, 6, 4)).astype("float32"), training)
    dx = model.backward(np.ones_like(y))
    assert {y.dtype, dx.dtype} == {np.dtype("float32")}
    assert {a.dtype for a in (*model.grads.values(), *model.state.values())} <= {y.dtype}


@pytest.mark.parametrize("make", [mc.SGD, mc.Adam, mc.AdamW, mc.RMSprop])
def test_float32_stays_float32_through_a_training_step(rng, make):
    """Loss, logits, gradients, weights, statistics and the optimizer's memory."""
    model = mc.Sequential(mc.Normalize(0.5, 0.25), *LAYERS).build((8, 8, 3))
    options = {"weight_decay": 0.01, "global_clipnorm": 1.0, "ema_decay": 0.9}
    optimizer = make(1e-3, **options)
    x, labels = rng.integers(0, 256, (6, 8, 8, 3), dtype=np.uint8), np.arange(6) % 5
    loss, logits = mc.backpropagate(model, x, labels, mc.CrossEntropy(0.1, (1.0,) * 5))
    optimizer.step(model.params)
    arrays = [loss, logits, model.params.data, model.params.grad, model.infer(x)]
    arrays += [*model.state.values(), *optimizer.memory.values()]
    assert {a.dtype for a in arrays} == {np.dtype("float32")}
    assert mc.predict(model, x).dtype == "float32"


@pytest.mark.parametrize("size", [*range(1, 14), (3, 5), (7, 2), (8, 7), (1, 9)])
@pytest.mark.parametrize("name", ["maxpool2d", "averagepool2d"])
def test_pooling_takes_windows_of_any_size_on_any_picture(rng, name, size):
    """7 or 8 wide, odd, and sizes that don't divide the picture."""
    forward, backward = {
        "maxpool2d": (maxpool2d_forward, maxpool2d_backward),
        "averagepool2d": (averagepool2d_forward, averagepool2d_backward),
    }[name]
    x = (rng.permutation(15 * 13).reshape(1, 15, 13, 1) - 97) * 0.1
    y, _ = forward(x, size)
    np.testing.assert_allclose(y, getattr(naive, name)(x, size), rtol=1e-12)
    check_function(lambda x: forward(x, size), backward, [x]).raise_on_failure()
    layer = {"maxpool2d": mc.MaxPool2D, "averagepool2d": mc.AveragePool2D}[name](size)
    assert mc.Sequential(layer).build((15, 13, 1)).output_shape == y.shape[1:]


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_relus_gradient_at_zero_is_zero(dtype):
    _, cache = relu_forward(np.array([0.0, -0.0], dtype))
    np.testing.assert_array_equal(relu_backward(np.ones(2, dtype), cache), 0)
    model = mc.Sequential(mc.ReLU()).build((2,), dtype=dtype)
    model.forward(np.zeros((1, 2), dtype), training=True)
    np.testing.assert_array_equal(model.backward(np.ones((1, 2), dtype)), 0)


@pytest.mark.parametrize("kind", ["class ids", "distributions"])
@pytest.mark.parametrize(
    "function",
    [mc.CrossEntropy(), mc.CrossEntropy(0.1, (1.0, 2.0, 3.0)), mc.MeanSquaredError()],
    ids=repr,
)
def test_the_loss_of_float32_logits_is_float32(rng, function, kind):
    logits = rng.standard_normal((4, 3)).astype("float32")
    labels = np.array([0, 1, 2, 0])  # int64, as CIFAR-10's
    loss, dlogits = function(logits, labels if kind == "class ids" else np.eye(3)[labels])
    assert (loss.dtype, dlogits.dtype) == ("float32", "float32")


@pytest.mark.parametrize("strides", [1, 2, (1, 3)])
@pytest.mark.parametrize("padding", ["valid", "same", (1, 2)])
def test_convolution_has_the_right_gradient_at_every_stride_and_padding(strides, padding):
    """This one is right elsewhere too; it stays right here."""
    check_layer(mc.Conv2D(3, (2, 3), strides, padding), (5, 6, 2)).raise_on_failure()
