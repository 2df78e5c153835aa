"""Whole steps on a GPU: what went wrong once."""

from __future__ import annotations

import numpy as np
import pytest

import minicnn as mc
from minicnn.backend import to_numpy

from .test_step import CLASSES, OPTIMIZERS, N, Side, free, pictures


def test_scale_is_found_by_batches_of_many_sizes(cupy):
    """More sizes than a model keeps plans: each would begin with a scale that is too large."""
    side = Side("gpu", OPTIMIZERS["momentum"], make=free, dtype="float16")
    side.model["dense_2"].w[...] *= 100  # gradients too large for the first scale
    x, labels = pictures()
    for k in range(24):
        side.step(x[: k % 6 + 1], labels[: k % 6 + 1])
    before, scale = side.numbers, side.last.scaling.scale
    for k in range(6):
        side.step(x[: k + 1], labels[: k + 1])
        assert side.last.scaling.scale is scale
    assert float(scale.get()[0]) < 65536
    assert any((array != before[name]).any() for name, array in side.numbers.items())


def test_gradients_of_float16_are_read_without_their_scale(cupy):
    def make():
        return [mc.Flatten(), mc.Dense(9), mc.GELU(), mc.Dense(CLASSES)]

    x, labels = pictures(N)
    x = x / np.float32(255)
    short, full = (
        Side("gpu", OPTIMIZERS["momentum"], make=make, dtype=dtype)
        for dtype in ("float16", "float32")
    )
    for side in (short, full):
        for _ in range(4):
            side.step(x, labels)
    wanted = to_numpy(full.model.params.grad)
    found = to_numpy(short.model.params.grad)
    np.testing.assert_allclose(found, wanted, atol=0.02 * np.abs(wanted).max())
