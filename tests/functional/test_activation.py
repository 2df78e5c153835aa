from __future__ import annotations

from math import exp, tanh

import naive
import numpy as np
import pytest

from minicnn.functional import activation as f

from .pairs import assert_small_cache, check_gradient, check_pair

FORMULAS = {
    "relu": naive.relu,
    "leaky_relu": naive.leaky_relu,
    "sigmoid": naive.sigmoid,
    "tanh": tanh,
    "silu": naive.silu,
    "gelu": naive.gelu,
}
SHAPES = [(1,), (7,), (3, 5), (2, 3, 4, 2)]


def pair(name):
    return getattr(f, f"{name}_forward"), getattr(f, f"{name}_backward")


def away_from_zero(rng, shape):
    x = rng.standard_normal(shape) * 2
    return x + 0.05 * np.sign(x)


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("name", FORMULAS)
def test_activation_matches_its_formula(backend, rng, name, shape):
    x = away_from_zero(rng, shape)
    check_pair(backend, *pair(name), [x], naive.elementwise(FORMULAS[name], x))


@pytest.mark.parametrize("name", FORMULAS)
def test_activation_gradient(rng, name):
    check_gradient(*pair(name), [away_from_zero(rng, (3, 4, 5))])


@pytest.mark.parametrize("slope", [0.0, 0.01, 0.5, 1.0, -0.2])
def test_leaky_relu_slope(backend, rng, slope):
    x = away_from_zero(rng, (4, 5))

    def forward(x):
        return f.leaky_relu_forward(x, slope)

    expected = naive.elementwise(lambda v: naive.leaky_relu(v, slope), x)
    check_pair(backend, forward, f.leaky_relu_backward, [x], expected)
    check_gradient(forward, f.leaky_relu_backward, [x])


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_relu_gradient_is_zero_at_zero(backend, dtype):
    x = backend.array(np.array([-1.0, -0.0, 0.0, 1.0], dtype))
    _, cache = f.relu_forward(x)
    dx = f.relu_backward(backend.array(np.full(4, 3.0, dtype)), cache)
    np.testing.assert_array_equal(backend.numpy(dx), [0, 0, 0, 3])


def test_leaky_relu_gradient_is_the_slope_at_zero(backend):
    _, cache = f.leaky_relu_forward(backend.array(np.zeros(2)), 0.25)
    dx = f.leaky_relu_backward(backend.array(np.ones(2)), cache)
    np.testing.assert_array_equal(backend.numpy(dx), 0.25)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("name", FORMULAS)
def test_activation_of_large_numbers_stays_finite(backend, name, dtype):
    """No overflow, no invalid value (warnings are errors here), and the right limits."""
    forward, backward = pair(name)
    y, cache = forward(backend.array(np.array([-1e4, -1e3, 1e3, 1e4], dtype)))
    dx = backward(backend.xp.ones_like(y), cache)
    low = {"tanh": -1.0, "leaky_relu": -300.0}.get(name, 0.0)
    high = {"tanh": 1.0, "sigmoid": 1.0}.get(name, 1e3)
    np.testing.assert_allclose(backend.numpy(y)[1:3], [low, high], rtol=1e-6, atol=0)
    slopes = {"tanh": (0, 0), "sigmoid": (0, 0), "leaky_relu": (0.3, 1)}.get(name, (0, 1))
    np.testing.assert_allclose(backend.numpy(dx)[[0, 3]], slopes, rtol=1e-6, atol=0)


def test_sigmoid_keeps_the_digits_of_small_results(backend):
    y, _ = f.sigmoid_forward(backend.array(np.array([-40.0, -700.0])))
    np.testing.assert_allclose(backend.numpy(y), [exp(-40), exp(-700)], rtol=1e-14)


@pytest.mark.parametrize("shape", [(1, 1), (3, 4), (5, 2)])
def test_softmax_matches_loops(backend, rng, shape):
    x = rng.standard_normal(shape) * 3
    check_pair(backend, f.softmax_forward, f.softmax_backward, [x], naive.softmax(x))
    check_gradient(f.softmax_forward, f.softmax_backward, [x])


def test_softmax_works_along_the_last_axis(backend, rng):
    x = rng.standard_normal((2, 3, 4, 5))
    expected = naive.softmax(x.reshape(-1, 5)).reshape(x.shape)
    check_pair(backend, f.softmax_forward, f.softmax_backward, [x], expected)
    check_gradient(f.softmax_forward, f.softmax_backward, [x])


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_softmax_of_large_numbers_stays_finite(backend, dtype):
    x = backend.array(np.array([[1e4, 1e4 - 1, -1e4], [-1e4, -1e4, -1e4]], dtype))
    y = backend.numpy(f.softmax_forward(x)[0])
    e = exp(-1)
    np.testing.assert_allclose(y, [[1 / (1 + e), e / (1 + e), 0], [1 / 3] * 3], rtol=1e-6)


@pytest.mark.parametrize("name", [*FORMULAS, "softmax"])
def test_activation_cache_is_small(rng, name):
    """One array; two where the derivative has two factors."""
    assert_small_cache(getattr(f, f"{name}_forward"), [rng.standard_normal((4, 5))])
