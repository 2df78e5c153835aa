from __future__ import annotations

import naive
import numpy as np
import pytest

from minicnn.functional.dense import dense_backward, dense_forward

from .pairs import assert_small_cache, check_gradient, check_pair

SHAPES = [(1, 1, 1), (3, 4, 2), (1, 5, 3), (4, 1, 6), (4, 3, 3)]  # N, I, O


def arrays(rng, N, I, O):
    return [rng.standard_normal(shape) for shape in ((N, I), (I, O), (O,))]


@pytest.mark.parametrize("sizes", SHAPES)
def test_dense_matches_loops(backend, rng, sizes):
    x, w, b = arrays(rng, *sizes)
    check_pair(backend, dense_forward, dense_backward, (x, w, b), naive.dense(x, w, b))


@pytest.mark.parametrize("sizes", SHAPES)
def test_dense_gradient(rng, sizes):
    check_gradient(dense_forward, dense_backward, arrays(rng, *sizes))


def test_dense_without_bias(backend, rng):
    x, w, _ = arrays(rng, 3, 4, 2)
    y, cache = dense_forward(backend.array(x), backend.array(w))
    np.testing.assert_allclose(backend.numpy(y), naive.dense(x, w), rtol=1e-12)
    assert dense_backward(y, cache)[2] is None
    check_gradient(dense_forward, dense_backward, [x, w])


def test_dense_backward_leaves_dx_out_if_asked(backend, rng):
    y, cache = dense_forward(*map(backend.array, arrays(rng, 3, 4, 2)))
    none, dw, db = dense_backward(y, cache, need_dx=False)
    _, dw_full, db_full = dense_backward(y, cache)
    assert none is None
    np.testing.assert_array_equal(backend.numpy(dw), backend.numpy(dw_full))
    np.testing.assert_array_equal(backend.numpy(db), backend.numpy(db_full))


def test_dense_cache_is_its_inputs(rng):
    assert_small_cache(dense_forward, arrays(rng, 6, 5, 4))


@pytest.mark.parametrize(
    ("x", "w", "b"),
    [
        ((2, 3), (4, 5), (5,)),
        ((2, 3), (3, 5), (1,)),
        ((2, 3), (3, 5), (2, 5)),
        ((3,), (3, 5), (5,)),
    ],
)
def test_dense_refuses_misfits(x, w, b):
    """A bias of one number would be stretched over all units, and its gradient have their shape."""
    with pytest.raises(ValueError, match="dense"):
        dense_forward(np.zeros(x), np.zeros(w), np.zeros(b))
