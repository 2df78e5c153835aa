"""Networks of which a part is frozen, on the GPU: a backward pass, and whole steps."""

from __future__ import annotations

import numpy as np
import pytest

import minicnn as mc
from minicnn.backend import to_numpy

from ..frozen import CASES, WAYS, frozen
from .on_gpu import compare
from .test_step import OPTIMIZERS, Side, near, pictures


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("name", CASES)
def test_frozen_network_on_gpu(cupy, name, way):
    compare(*frozen(name, way), N=3)


def test_frozen_network_on_gpu_in_16_bits(cupy):
    make, shape = frozen("resnet", "norms")
    compare(make, shape, "bfloat16", limit=0.4)


@pytest.mark.parametrize("name", ["sgd with decay of all", "adam, averaged", "nesterov, clipped"])
def test_steps_with_what_is_frozen_between_them(cupy, name):
    data = pictures()
    cpu, gpu = (Side(device, OPTIMIZERS[name]) for device in ("cpu", "gpu"))
    for change in (
        lambda m: None,
        lambda m: [setattr(layer, "trainable", False) for layer in m.layers[:-1]],
        lambda m: setattr(m["residual_1"], "trainable", True),
        lambda m: setattr(m["residual_1"].main["batchnorm_1"], "trainable", False),
        lambda m: setattr(m, "trainable", True),
    ):
        before = gpu.numbers
        for side in (cpu, gpu):
            change(side.model)
            side.steps(4, *data)
        near(gpu, cpu, 1e-9)
        assert gpu.last.graph is not None
        for kept in gpu.model.params.frozen:
            np.testing.assert_array_equal(before[kept], gpu.numbers[kept], err_msg=kept)
            assert not gpu.model.grads[kept].get().any()
    assert not gpu.model.params.frozen


def test_penalty_of_what_is_frozen_counts_but_does_not_move_it(cupy):
    data = pictures()
    cpu, gpu = (Side(device, lambda: mc.SGD(0.05)) for device in ("cpu", "gpu"))
    for side in (cpu, gpu):
        side.model["conv2d_1"].trainable = False
    before = gpu.numbers["conv2d_1/w"]
    for side in (cpu, gpu):
        side.steps(3, *data)
        assert not to_numpy(side.model.grads["conv2d_1/w"]).any()
    near(gpu, cpu, 1e-9)
    np.testing.assert_array_equal(gpu.numbers["conv2d_1/w"], before)
