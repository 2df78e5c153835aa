from __future__ import annotations

import naive
import numpy as np
import pytest

from minicnn.functional import norm as f

from .pairs import assert_small_cache, check_gradient, check_pair

SHAPES = [(2, 3, 4, 2), (5, 3), (2, 1), (2, 1, 1, 3), (1, 3, 2, 1), (3, 5, 1, 2)]


def arrays(rng, shape):
    """x with channels of different mean and spread, gamma and beta."""
    C = shape[-1]
    x = rng.standard_normal(shape) * np.linspace(0.5, 3, C) + np.linspace(-2, 5, C)
    return x, rng.standard_normal(C) + 2, rng.standard_normal(C)


@pytest.mark.parametrize("eps", [1e-5, 0.5])
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_batchnorm_matches_loops(backend, rng, shape, eps):
    x, gamma, beta = arrays(rng, shape)
    y, means, variances = naive.batchnorm(x, gamma, beta, eps)

    def forward(x, gamma, beta):
        return f.batchnorm_forward(x, gamma, beta, eps)

    # Of two values a channel, the gradient is a small difference: float32 keeps few digits of it.
    rough = {"rtol": 1e-3, "atol": 1e-4} if x.size == 2 * x.shape[-1] else {"atol": 1e-5}
    check_pair(backend, forward, f.batchnorm_backward, (x, gamma, beta), y, **rough)
    _, (mean, var, *_) = forward(*map(backend.array, (x, gamma, beta)))
    np.testing.assert_allclose(backend.numpy(mean), means, rtol=1e-12)
    np.testing.assert_allclose(backend.numpy(var), variances, rtol=1e-12)


@pytest.mark.parametrize("eps", [1e-5, 0.5])
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_batchnorm_gradient(rng, shape, eps):
    inputs = arrays(rng, shape)
    check_gradient(lambda *a: f.batchnorm_forward(*a, eps), f.batchnorm_backward, inputs)


def test_batchnorm_of_a_constant_channel_is_beta(backend):
    """The variance is 0: eps alone keeps the quotient finite."""
    x = backend.array(np.full((2, 3, 2, 2), 7.0, "float32"))
    gamma, beta = backend.array(np.float32([2, 3])), backend.array(np.float32([-1, 5]))
    y, cache = f.batchnorm_forward(x, gamma, beta)
    np.testing.assert_array_equal(backend.numpy(y)[..., 0], -1)
    np.testing.assert_array_equal(backend.numpy(y)[..., 1], 5)
    dx, _, _ = f.batchnorm_backward(backend.xp.ones_like(y), cache)
    np.testing.assert_array_equal(backend.numpy(dx), 0)


def test_batchnorm_keeps_digits_where_the_mean_is_large(backend, rng):
    """E[x^2] - E[x]^2 would lose them all in float32."""
    x = rng.standard_normal((64, 4, 4, 1)) + 1000
    small = x.astype("float32")
    y, cache = f.batchnorm_forward(*(backend.array(np.float32(a)) for a in (small, [1], [0])))
    exact = small.astype("float64")
    expected = (exact - exact.mean()) / np.sqrt(exact.var() + 1e-5)
    assert float(cache[1][0]) == pytest.approx(exact.var(), rel=1e-4)
    np.testing.assert_allclose(backend.numpy(y), expected, atol=5e-4)


@pytest.mark.parametrize("shape", [(1, 3), (1, 1, 1, 2)])
def test_batchnorm_refuses_one_value_a_channel(shape):
    C = shape[-1]
    with pytest.raises(ValueError, match=r"one value a channel.*train on larger batches"):
        f.batchnorm_forward(np.zeros(shape), np.ones(C), np.zeros(C))


@pytest.mark.parametrize("shape", [*SHAPES, (1, 1, 1, 2), (1, 3)], ids=str)
def test_batchnorm_inference_matches_the_formula(backend, rng, shape):
    x, gamma, beta = arrays(rng, shape)
    C = shape[-1]
    mean, var = rng.standard_normal(C), rng.random(C) + 0.1
    expected = np.empty(shape)
    for index in np.ndindex(shape):
        c = index[-1]
        expected[index] = gamma[c] * (x[index] - mean[c]) / (var[c] + 0.01) ** 0.5 + beta[c]

    def forward(x, gamma, beta, mean, var):
        return f.batchnorm_inference_forward(x, gamma, beta, mean, var, 0.01)

    inputs = (x, gamma, beta, mean, var)
    check_pair(backend, forward, f.batchnorm_inference_backward, inputs, expected, atol=1e-5)
    check_gradient(
        lambda *a: forward(*a, mean, var), f.batchnorm_inference_backward, (x, gamma, beta)
    )


def test_batchnorm_inference_default_eps_is_that_of_training(rng):
    x, gamma, beta = arrays(rng, (4, 3, 2, 2))
    y, (mean, var, *_) = f.batchnorm_forward(x, gamma, beta)
    again, _ = f.batchnorm_inference_forward(x, gamma, beta, mean, var)
    np.testing.assert_allclose(again, y, rtol=1e-12, atol=1e-13)


@pytest.mark.parametrize("inference", [False, True])
def test_batchnorm_cache_is_small(rng, inference):
    x, gamma, beta = arrays(rng, (2, 6, 6, 3))
    if inference:
        assert_small_cache(f.batchnorm_inference_forward, (x, gamma, beta, beta, gamma))
    else:
        assert_small_cache(f.batchnorm_forward, (x, gamma, beta))


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("pixels", ["uint8", "float32", "float64"])
def test_normalize_matches_the_formula(backend, rng, dtype, pixels):
    x = rng.integers(0, 256, (2, 3, 4, 3)).astype(pixels)
    mean, std, scale = np.array([0.5, 0.4, 0.1]), np.array([0.25, 0.5, 2.0]), 1 / 255
    y, cache = f.normalize_forward(
        backend.array(x), backend.array(mean.astype(dtype)), backend.array(std.astype(dtype)), scale
    )
    expected = np.empty(x.shape)
    for index in np.ndindex(x.shape):
        c = index[-1]
        expected[index] = (int(x[index]) * scale - mean[c]) / std[c]
    assert y.dtype == dtype
    np.testing.assert_allclose(
        backend.numpy(y), expected, rtol=1e-12 if dtype == "float64" else 1e-5, atol=1e-6
    )
    dx = f.normalize_backward(y, cache)
    assert dx.dtype == dtype
    np.testing.assert_allclose(backend.numpy(dx), expected * scale / std, rtol=1e-5, atol=1e-6)


def test_normalize_gradient(rng):
    mean, std = rng.standard_normal(2), rng.random(2) + 0.5
    forward = lambda x: f.normalize_forward(x, mean, std, 1 / 255)  # noqa: E731
    check_gradient(forward, f.normalize_backward, [rng.random((2, 3, 4, 2)) * 255])


def test_normalize_leaves_pixels_alone(rng):
    x = rng.integers(0, 256, (2, 3, 4, 3)).astype("uint8")
    before = x.copy()
    f.normalize_forward(x, np.ones(3), np.ones(3), 1 / 255)
    np.testing.assert_array_equal(x, before, strict=True)
