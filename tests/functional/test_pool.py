from __future__ import annotations

import naive
import numpy as np
import pytest

from minicnn.functional.pool import (
    averagepool2d_backward,
    averagepool2d_forward,
    globalaveragepool2d_backward,
    globalaveragepool2d_forward,
    maxpool2d_backward,
    maxpool2d_forward,
)

from .pairs import assert_small_cache, check_gradient, check_pair

CASES = {  # x, options
    "2x2": ((2, 6, 4, 2), {"size": 2}),
    "odd picture": ((2, 7, 5, 2), {"size": 2}),
    "rectangular window": ((2, 6, 7, 2), {"size": (2, 3)}),
    "one picture, one channel": ((1, 5, 6, 1), {"size": 2}),
    "1x1 window": ((2, 3, 4, 2), {"size": 1}),
    "the whole picture": ((2, 4, 5, 2), {"size": (4, 5)}),
    "overlap": ((2, 7, 6, 2), {"size": 3, "stride": 2}),
    "overlap, unequal strides": ((2, 6, 7, 2), {"size": (3, 4), "stride": (1, 2)}),
    "stride beyond the window": ((2, 8, 9, 2), {"size": 2, "stride": (3, 4)}),
    "same": ((2, 5, 7, 2), {"size": 3, "stride": 1, "padding": "same"}),
    "same, odd remainder": ((2, 5, 7, 2), {"size": (2, 4), "stride": 2, "padding": "same"}),
    "padding by an integer": ((2, 5, 4, 2), {"size": 3, "stride": 2, "padding": 1}),
    "padding by a pair": ((2, 4, 5, 2), {"size": (4, 3), "stride": 2, "padding": (2, 1)}),
    "padding by four margins": ((2, 5, 4, 1), {"size": 3, "padding": ((0, 2), (1, 0))}),
}


def spaced(rng, shape, shift=0.0):
    """Numbers in random order, no two closer than a tenth: no ties, and no kink near."""
    size = int(np.prod(shape))
    return (rng.permutation(size).reshape(shape) - size / 2) * 0.1 + shift


def with_options(function, options):
    def pool(x):
        return function(x, **options)

    return pool


@pytest.mark.parametrize("case", CASES)
def test_maxpool2d_matches_loops(backend, rng, case):
    shape, options = CASES[case]
    x = spaced(rng, shape)
    expected = naive.maxpool2d(x, **options)
    check_pair(backend, with_options(maxpool2d_forward, options), maxpool2d_backward, [x], expected)


@pytest.mark.parametrize("case", CASES)
def test_maxpool2d_gradient(rng, case):
    shape, options = CASES[case]
    check_gradient(
        with_options(maxpool2d_forward, options), maxpool2d_backward, [spaced(rng, shape)]
    )


@pytest.mark.parametrize("case", [name for name in CASES if "pad" in name or "same" in name])
def test_maxpool2d_margins_never_win_over_negative_inputs(backend, rng, case):
    shape, options = CASES[case]
    x = spaced(rng, shape, shift=-1e4)
    pool = with_options(maxpool2d_forward, options)
    check_pair(backend, pool, maxpool2d_backward, [x], naive.maxpool2d(x, **options))
    y, cache = pool(backend.array(x))
    dx = backend.numpy(maxpool2d_backward(backend.xp.ones_like(y), cache))
    assert dx.sum() == y.size  # no gradient is lost in the margins
    check_gradient(pool, maxpool2d_backward, [spaced(rng, shape, shift=-20)])


def test_maxpool2d_ties_go_to_the_lowest_tap_and_pay_once(backend):
    x = backend.array(np.full((1, 4, 4, 1), 3.0))
    _, cache = maxpool2d_forward(x, 2)
    dx = backend.numpy(
        maxpool2d_backward(backend.array(np.array([[1, 2], [3, 4.0]])[None, ..., None]), cache)
    )
    expected = [[1, 0, 2, 0], [0, 0, 0, 0], [3, 0, 4, 0], [0, 0, 0, 0]]
    np.testing.assert_array_equal(dx[0, :, :, 0], expected)


@pytest.mark.parametrize(("tied", "winner"), [((1, 2), 1), ((2, 3), 2), ((1, 3), 1), ((3,), 3)])
def test_maxpool2d_partial_ties_go_to_the_lowest_tied_tap(backend, tied, winner):
    window = np.zeros(4)
    window[list(tied)] = 5
    y, cache = maxpool2d_forward(backend.array(window.reshape(1, 2, 2, 1)), 2)
    dx = backend.numpy(maxpool2d_backward(backend.xp.ones_like(y), cache))
    np.testing.assert_array_equal(dx.ravel(), np.eye(4)[winner])


def test_maxpool2d_overlapping_windows_pay_the_same_input_each(backend):
    x = np.zeros((1, 3, 3, 1))
    x[0, 1, 1, 0] = 1  # the largest of all four 2x2 windows
    _, cache = maxpool2d_forward(backend.array(x), 2, 1)
    dy = np.array([[1, 2], [3, 4.0]])[None, ..., None]
    dx = backend.numpy(maxpool2d_backward(backend.array(dy), cache))
    np.testing.assert_array_equal(dx[0, :, :, 0], [[0, 0, 0], [0, 10, 0], [0, 0, 0]])


def test_maxpool2d_takes_256_taps(backend, rng):
    x = spaced(rng, (1, 16, 16, 2))
    x[0, 15, 15] = 1e3  # the last tap, number 255, wins
    y, cache = maxpool2d_forward(backend.array(x), 16)
    np.testing.assert_array_equal(backend.numpy(y), 1e3)
    dx = backend.numpy(maxpool2d_backward(backend.xp.ones_like(y), cache))
    np.testing.assert_array_equal(dx, x == 1e3)


@pytest.mark.parametrize("count_padding", [False, True])
@pytest.mark.parametrize("case", CASES)
def test_averagepool2d_matches_loops(backend, rng, case, count_padding):
    shape, options = CASES[case]
    options = options | {"count_padding": count_padding}
    x = rng.standard_normal(shape)
    expected = naive.averagepool2d(x, **options)
    pool = with_options(averagepool2d_forward, options)
    check_pair(backend, pool, averagepool2d_backward, [x], expected)


@pytest.mark.parametrize("count_padding", [False, True])
@pytest.mark.parametrize("case", CASES)
def test_averagepool2d_gradient(rng, case, count_padding):
    shape, options = CASES[case]
    pool = with_options(averagepool2d_forward, options | {"count_padding": count_padding})
    check_gradient(pool, averagepool2d_backward, [rng.standard_normal(shape)])


def test_averagepool2d_count_rules_differ_at_the_margin(backend):
    x = backend.array(np.full((1, 2, 2, 1), 6.0))
    inside, _ = averagepool2d_forward(x, 2, 1, 1)
    counted, _ = averagepool2d_forward(x, 2, 1, 1, count_padding=True)
    np.testing.assert_array_equal(backend.numpy(inside), 6.0)
    np.testing.assert_array_equal(
        backend.numpy(counted)[0, :, :, 0], [[1.5, 3, 1.5], [3, 6, 3], [1.5, 3, 1.5]]
    )


@pytest.mark.parametrize("shape", [(2, 3, 4, 2), (1, 1, 1, 1), (3, 5, 1, 2)])
def test_globalaveragepool2d_matches_loops(backend, rng, shape):
    x = rng.standard_normal(shape)
    pair = globalaveragepool2d_forward, globalaveragepool2d_backward
    check_pair(backend, *pair, [x], naive.globalaveragepool2d(x))
    check_gradient(*pair, [x])


def test_globalaveragepool2d_backward_returns_an_array_of_its_own(backend):
    y, cache = globalaveragepool2d_forward(backend.array(np.ones((1, 2, 2, 1))))
    dx = globalaveragepool2d_backward(y, cache)
    dx[0, 0, 0, 0] = 5.0  # a broadcast view would refuse, or change all four
    np.testing.assert_array_equal(backend.numpy(dx).ravel(), [5, 0.25, 0.25, 0.25])


@pytest.mark.parametrize("forward", [maxpool2d_forward, averagepool2d_forward])
def test_pooling_cache_is_small(rng, forward):
    assert_small_cache(forward, [rng.standard_normal((2, 12, 12, 3))], size=3, stride=1)


def test_globalaveragepool2d_cache_holds_no_array(rng):
    _, cache = globalaveragepool2d_forward.dispatch(object)(rng.standard_normal((2, 5, 4, 3)))
    assert cache == (2, 5, 4, 3)


@pytest.mark.parametrize("forward", [maxpool2d_forward, averagepool2d_forward])
@pytest.mark.parametrize(
    ("shape", "options", "message"),
    [
        ((4, 4, 1), {"size": 2}, r"expected x \(N, H, W, C\), got \(4, 4, 1\)"),
        ((1, 4, 4, 1), {"size": 2, "padding": 2}, r"hide a whole window of 2x2"),
        ((1, 4, 4, 1), {"size": (3, 2), "padding": ((0, 0), (0, 2))}, r"hide a whole window"),
        ((1, 3, 4, 1), {"size": 4}, r"4x4 taps .* doesn't fit into a picture of 3x4"),
        ((1, 4, 4, 1), {"size": 0}, r"0: expected an integer >= 1"),
        ((1, 4, 4, 1), {"size": 2, "padding": "some"}, r"padding 'some': expected 'valid'"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_pooling_refuses_misfits(forward, shape, options, message):
    with pytest.raises(ValueError, match=message):
        forward(np.zeros(shape), **options)


def test_maxpool2d_refuses_more_taps_than_winner_can_number():
    x = np.zeros((1, 20, 20, 1))
    with pytest.raises(ValueError, match="17x17 is 289 taps, at most 256"):
        maxpool2d_forward(x, 17)
    assert averagepool2d_forward(x, 17)[0].shape == (1, 1, 1, 1)
