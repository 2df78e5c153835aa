from __future__ import annotations

import numpy as np
import pytest
from backends import Backend

from minicnn.functional.dropout import dropout_backward, dropout_forward

from .pairs import assert_small_cache, check_gradient, check_pair


def generator(backend, seed=3):
    return backend.xp.random.default_rng(seed)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("rate", [0.0, 0.1, 0.5, 0.9])
def test_dropout_keeps_the_right_share_and_the_mean(backend, rate, dtype):
    x = backend.array(np.ones((200, 500), dtype))
    y = backend.numpy(dropout_forward(x, rate, generator(backend))[0])
    assert y.dtype == dtype
    kept = y[y != 0]
    spread = (rate * (1 - rate) / y.size) ** 0.5
    assert kept.size / y.size == pytest.approx(1 - rate, abs=5 * spread + 1e-12)
    np.testing.assert_allclose(kept, 1 / (1 - rate), rtol=1e-6)
    # Neither whole rows nor whole columns are dropped together.
    assert (y != 0).mean(axis=1).std() < 4 * (rate * (1 - rate) / 500) ** 0.5 + 1e-12
    assert (y != 0).mean(axis=0).std() < 4 * (rate * (1 - rate) / 200) ** 0.5 + 1e-12


def test_dropout_scales_what_it_keeps(backend, rng):
    x = rng.standard_normal((20, 30))
    y = backend.numpy(dropout_forward(backend.array(x), 0.25, generator(backend))[0])
    np.testing.assert_allclose(y[y != 0], (x / 0.75)[y != 0], rtol=1e-14)
    assert 0 < (y == 0).sum() < y.size


def test_dropout_backward_uses_the_mask_of_forward(backend, rng):
    x = rng.standard_normal((20, 30))
    y, cache = dropout_forward(backend.array(x), 0.4, generator(backend))
    dy = rng.standard_normal(x.shape)
    dx = backend.numpy(dropout_backward(backend.array(dy), cache))
    np.testing.assert_allclose(dx, dy * (backend.numpy(y) / x), rtol=1e-12)


def test_dropout_repeats_with_the_generator(backend):
    x = backend.array(np.ones((10, 10)))
    first, again, other = (
        backend.numpy(dropout_forward(x, 0.5, generator(backend, seed))[0]) for seed in (1, 1, 2)
    )
    np.testing.assert_array_equal(first, again)
    assert not np.array_equal(first, other)


@pytest.mark.parametrize("rate", [0.0, 0.3, 0.8])
def test_dropout_gradient(rng, rate):
    def forward(x):
        return dropout_forward(x, rate, np.random.default_rng(8))

    check_gradient(forward, dropout_backward, [rng.standard_normal((3, 4, 5))])


def test_dropout_keeps_dtype_and_inputs(rng):
    def forward(x):
        return dropout_forward(x, 0.3, np.random.default_rng(8))

    check_pair(Backend("numpy"), forward, dropout_backward, [rng.standard_normal((3, 4, 5))])


def test_dropout_mask_takes_one_byte_a_value(rng):
    _, cache = dropout_forward.dispatch(object)(np.ones((8, 9)), 0.5, rng)
    assert sum(getattr(a, "nbytes", 0) for a in cache) == 72
    assert_small_cache(dropout_forward, [np.ones((8, 9))], rate=0.5, rng=rng)
