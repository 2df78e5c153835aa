"""Dropout on the GPU: the masks' statistics, and that both ways see the same one."""

from __future__ import annotations

import numpy as np
import pytest

from minicnn.kernels.cuda import dropout as gpu

RATES = [0.0, 0.1, 0.5, 0.9]


def mask(floor, shape, rate=0.5, seed=1, layer=0, step=0):
    """Which elements are kept."""
    x = floor.real(np.ones(shape))
    y = floor.s.new(x.shape)
    clock = floor.cupy.asarray(np.array([step], "int64"))
    gpu.dropout_forward(floor.s, x, rate, seed, layer, clock, y)
    return floor.get(y) != 0


@pytest.mark.parametrize("shape", [(1,), (3,), (7, 5), (2, 3, 5, 16), (1001,)], ids=str)
@pytest.mark.parametrize("rate", RATES)
def test_dropout_scales_what_it_keeps(floor, rng, shape, rate):
    x, dy = abs(floor.exact(rng, shape)) + 1, abs(floor.exact(rng, shape)) + 1
    x, dy = floor.round(x), floor.round(dy)
    clock = floor.cupy.asarray(np.array([5], "int64"))
    y, dx = floor.s.new(shape), floor.s.new(shape)
    gpu.dropout_forward(floor.s, floor.real(x), rate, 3, 2, clock, y)
    gpu.dropout_backward(floor.s, floor.real(dy), rate, 3, 2, clock, dx)
    kept = floor.get(y) != 0
    floor.check(y, x * kept / (1 - rate))
    floor.check(dx, dy * kept / (1 - rate))  # the same mask
    if rate == 0:
        assert kept.all()


def test_dropout_mask_is_the_same_in_all_storage_types_and_at_any_address(floor, floor32):
    expected = mask(floor32, 1003, 0.3, seed=2**64 - 1, layer=2**31 - 1, step=2**63 - 1)
    assert (mask(floor, 1003, 0.3, 2**64 - 1, 2**31 - 1, 2**63 - 1) == expected).all()
    shifted = floor.real(np.ones(1004))[1:]
    clock = floor.cupy.asarray(np.array([2**63 - 1], "int64"))
    gpu.dropout_forward(floor.s, shifted, 0.3, 2**64 - 1, 2**31 - 1, clock, shifted)
    assert ((floor.get(shifted) != 0) == expected).all()


@pytest.mark.parametrize("rate", RATES[1:])
def test_dropout_switches_off_the_right_share(floor32, rate):
    n = 40_000
    for seed in range(3):
        off = n - mask(floor32, n, rate, seed).sum()
        assert abs(off - n * rate) < 4 * np.sqrt(n * rate * (1 - rate))


def test_dropout_masks_are_independent(floor32):
    n = 20_000
    base = {"seed": 1, "layer": 0, "step": 0}
    masks = [mask(floor32, n, **base)]
    masks += [mask(floor32, n, **{**base, name: value}) for name in base for value in (7, 8)]
    masks += [mask(floor32, n, seed=1 << 32), mask(floor32, n, step=1 << 32)]
    signs = 2.0 * np.array(masks) - 1
    together = signs @ signs.T / n - np.eye(len(masks))
    assert abs(together).max() < 4.5 / np.sqrt(n)
    for lag in (1, 2, 3, 4, 8, 128):  # within a mask
        assert abs((signs[:, lag:] * signs[:, :-lag]).mean(axis=1)).max() < 4.5 / np.sqrt(n)


def test_dropout_draws_anew_when_the_clock_moves(floor32):
    x, y = floor32.real(np.ones(1000)), floor32.s.new((1000,))
    clock = floor32.cupy.asarray(np.array([0], "int64"))
    seen = []
    for _ in range(3):
        gpu.dropout_forward(floor32.s, x, 0.5, 1, 0, clock, y)
        seen.append(floor32.get(y))
        clock += 1
    assert (seen[0] != seen[1]).any() and (seen[1] != seen[2]).any()


def test_dropout_of_too_many_values_is_refused(floor32):
    class Huge:
        size, shape = 1 << 34, (1 << 34,)

    with pytest.raises(ValueError, match="expected less than"):
        gpu.dropout_forward(floor32.s, Huge, 0.5, 1, 0, None, None)
