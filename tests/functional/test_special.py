from __future__ import annotations

import math

import numpy as np
import pytest

from minicnn.functional.special import erf

BORDERS = [0.46875, 4.0, 6.0]


def points():
    """Everywhere, and next to where one formula ends and the next begins."""
    near = [np.nextafter(b, b + s) for b in BORDERS for s in (-1, 1)]
    return np.concatenate([np.linspace(-7, 7, 20001), near, [-v for v in near], BORDERS, [0.0]])


def test_erf_matches_math_erf(backend):
    x = points()
    expected = np.array([math.erf(v) for v in x])
    y = backend.numpy(erf(backend.array(x)))
    assert y.dtype == "float64"
    np.testing.assert_allclose(y, expected, rtol=0, atol=4e-16)


def test_erf_keeps_the_digits_of_small_results(backend):
    x = np.array([1e-300, -1e-20, 1e-8, 3e-4, -0.01])
    expected = [math.erf(v) for v in x]
    np.testing.assert_allclose(backend.numpy(erf(backend.array(x))), expected, rtol=1e-15)


def test_erf_in_float32(backend):
    x = points().astype("float32")
    y = backend.numpy(erf(backend.array(x)))
    assert y.dtype == "float32"
    np.testing.assert_allclose(y, [math.erf(v) for v in x], rtol=0, atol=2.5e-7)


@pytest.mark.parametrize("shape", [(), (3,), (2, 3, 4)])
def test_erf_keeps_the_shape(backend, shape):
    assert erf(backend.array(np.ones(shape))).shape == shape


def test_erf_at_the_ends(backend):
    x = np.array([-np.inf, -1e6, -0.0, 0.0, 1e6, np.inf, np.nan])
    y = backend.numpy(erf(backend.array(x)))
    np.testing.assert_array_equal(y, [-1, -1, 0, 0, 1, 1, np.nan])


def test_erf_leaves_input_alone(backend):
    x = backend.array(points())
    before = x.copy()
    erf(x)
    assert bool((x == before).all())
