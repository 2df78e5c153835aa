"""Networks composed by chance: what a user may write that nobody here has thought of."""

from __future__ import annotations

import copy

import numpy as np
import pytest

import minicnn as mc

from .nets import compare

pytestmark = pytest.mark.usefixtures("small_slices")


class Composer:
    """Composes layers for pictures, by a seed."""

    def __init__(self, seed):
        self.rng = np.random.default_rng(seed)

    def one_of(self, *choices):
        return choices[self.rng.integers(len(choices))]

    def layers(self, C, keep=False, depth=0):
        """Compose some layers for C channels; keep: for pictures that stay as large as they are."""
        found = []
        for _ in range(self.rng.integers(1, 6)):
            more, C = self.layer(C, keep, depth)
            found += more
        return found, C

    def layer(self, C, keep, depth):
        """Compose a layer, or two; return them, and how many channels come out."""
        kinds = ["conv"] * 4 + ["batchnorm", "relu"] * 2 + ["pool", "other"]
        kinds += ["residual", "concat", "nested"] if depth < 2 else []
        kind = self.one_of(*kinds)
        if kind == "conv":
            return self.conv(C, keep)
        if kind == "batchnorm":
            options = {name: bool(self.rng.integers(2)) for name in ("center", "scale")}
            return [mc.BatchNorm(**options)], C
        if kind == "relu":
            return [mc.ReLU()], C
        if kind == "pool" and keep:
            return [self.one_of(mc.MaxPool2D, mc.AveragePool2D)(3, 1, "same")], C
        if kind == "pool":
            return [self.one_of(mc.MaxPool2D(2), mc.MaxPool2D(2, 1), mc.AveragePool2D(2))], C
        if kind == "residual":
            shortcut = self.one_of(None, self.layers(C, True, depth + 1)[0])
            return [mc.Residual(self.layers(C, True, depth + 1)[0], shortcut)], C
        if kind == "concat":
            branches = [self.layers(C, True, depth + 1)[0] for _ in range(self.rng.integers(1, 4))]
            return [mc.Concat(branches), mc.Conv2D(C, 1)], C
        if kind == "nested":
            inner, C = self.layers(C, keep, depth + 1)
            return [mc.Sequential(inner)], C
        return [self.one_of(mc.Tanh(), mc.LeakyReLU(0.2), mc.GELU(), mc.Dropout(0.3))], C

    def conv(self, C, keep):
        size = self.one_of((1, 1), (3, 3), (2, 3), (3, 1))
        if keep:
            return [mc.Conv2D(C, size, padding="same", use_bias=self.one_of(True, False))], C
        filters = int(self.rng.integers(1, 9))
        strides = self.one_of(1, 1, 2, (1, 2))
        padding = self.one_of("valid", "same", 1, ((0, 1), (2, 0)))
        return [mc.Conv2D(filters, size, strides, padding)], filters

    def network(self):
        """Compose a network; return its layers and the shape of its pictures."""
        H, W, C = (int(size) for size in self.rng.integers((4, 4, 1), (14, 14, 7)))
        layers, _ = self.layers(C)
        first = self.one_of([], [mc.Normalize(0.4, 0.3)])
        last = self.one_of(
            [],
            [mc.Flatten(), mc.Dense(3)],
            [mc.GlobalAveragePool2D(), mc.Dense(5), mc.BatchNorm(), mc.ReLU(), mc.Dense(3)],
        )
        return [*first, *layers, *last], (H, W, C)


@pytest.mark.parametrize("seed", range(100))
def test_random_network_gives_what_its_layers_give(seed):
    composer = Composer(seed)
    layers, shape = composer.network()
    N, slices = (int(n) for n in composer.rng.integers((2, 1), (15, 6)))
    try:
        mc.Sequential(copy.deepcopy(layers)).build(shape)
    except mc.ShapeError:
        pytest.skip("the pictures have become too small")
    compare(lambda: copy.deepcopy(layers), shape, ("float64", "direct"), slices, N, limit=1e-9)
