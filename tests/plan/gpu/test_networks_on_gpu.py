"""Networks of all kinds on the GPU by their plans, against the book in float64."""

from __future__ import annotations

import copy

import pytest

import minicnn as mc

from ..test_networks import NETWORKS, conv_bn
from ..test_random_networks import Composer
from .on_gpu import compare

LARGE = ["tutorial", "vgg", "resnet"]


@pytest.mark.parametrize("name", NETWORKS)
def test_network_on_gpu(cupy, name):
    compare(*NETWORKS[name])


@pytest.mark.parametrize("name", LARGE)
def test_network_on_gpu_in_float32(cupy, name):
    compare(*NETWORKS[name], "float32")


def smooth():
    """Return layers without kinks, across which rounding to 16 bits would move values."""
    return [
        mc.Normalize(0.5, 0.25), mc.Conv2D(6, 3), mc.SiLU(), mc.AveragePool2D(2),
        mc.Residual([*conv_bn(6), mc.SiLU(), *conv_bn(6)]), mc.GELU(),
        mc.Concat([mc.Conv2D(3, 1), [mc.Conv2D(5, 3, padding="same"), mc.Tanh()]]),
        mc.Dropout(0.2), mc.GlobalAveragePool2D(), mc.Dense(9), mc.Sigmoid(), mc.Dense(4),
    ]  # fmt: skip


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_network_on_gpu_in_16_bits(cupy, dtype):
    compare(smooth, (12, 11, 3), dtype)


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
@pytest.mark.parametrize("name", LARGE)
def test_network_with_kinks_on_gpu_in_16_bits(cupy, name, dtype):
    compare(*NETWORKS[name], dtype, limit=0.4)  # what is wrong would be of the size of 1


@pytest.mark.parametrize("name", LARGE)
def test_network_on_gpu_in_tf32(cupy, monkeypatch, name):
    monkeypatch.setenv("MINICNN_TF32", "1")
    compare(*NETWORKS[name], "float32", limit=1e-2)
    with pytest.raises(AssertionError):  # it isn't what float32 gives
        compare(*NETWORKS[name], "float32")


@pytest.mark.parametrize("seed", range(100, 160))
def test_random_network_on_gpu(cupy, seed):
    composer = Composer(seed)
    layers, shape = composer.network()
    try:
        mc.Sequential(copy.deepcopy(layers)).build(shape)
    except mc.ShapeError:
        pytest.skip("the pictures have become too small")
    compare(lambda: copy.deepcopy(layers), shape, N=3, limit=1e-9)
