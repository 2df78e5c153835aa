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


@pytest.mark.parametrize("weights", [(1, 2), (1, 2, 3, 4, 5)])
def test_weights_of_other_classes_are_refused(cupy, weights):
    x, labels = pictures(N)
    side = Side("gpu", OPTIMIZERS["momentum"], mc.CrossEntropy(class_weight=weights))
    with pytest.raises(ValueError, match=f"{len(weights)} numbers, the model {CLASSES} classes"):
        side.step(x, labels)


def test_weights_of_classes_may_be_arrays_and_change(cupy):
    x, labels = pictures(N)
    gpu, cpu = (Side(device, OPTIMIZERS["momentum"], make=free) for device in ("gpu", "cpu"))
    for k in range(3):
        for side in (gpu, cpu):
            side.loss = mc.CrossEntropy(class_weight=np.arange(1.0, CLASSES + 1) + k)
            side.step(x, labels)
    np.testing.assert_allclose(gpu.losses, cpu.losses, rtol=1e-9)


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


def test_labels_beyond_the_classes_are_refused_before_they_go_to_the_device(cupy):
    x, _ = pictures(N)
    side = Side("gpu", OPTIMIZERS["momentum"])
    with pytest.raises(ValueError, match="expected class ids from 0 to 3, got 4 to 7"):
        mc.train_step(side.model, side.optimizer, x, np.arange(N) % 4 + 4)
