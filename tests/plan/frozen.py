"""Networks of which a part is frozen."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

import minicnn as mc

from .test_networks import NETWORKS, conv_bn

Layers = Sequence[mc.Layer]


def leaves(layers: Layers) -> list[mc.Layer]:
    return [part for layer in layers for part in layer.walk() if not part.children()]


def base(layers: Layers) -> None:
    """Freeze all but the last layer, as when a network moves to other classes."""
    for layer in layers[:-1]:
        layer.trainable = False


def half(layers: Layers) -> None:
    """Freeze the first half."""
    found = leaves(layers)
    for layer in found[: len(found) // 2]:
        layer.trainable = False


def norms(layers: Layers) -> None:
    """Freeze what BatchNorm has."""
    for layer in leaves(layers):
        if isinstance(layer, mc.BatchNorm):
            layer.trainable = False


def biases(layers: Layers) -> None:
    """Train biases and beta alone, and leave the last layer its weights."""
    for layer in leaves(layers)[:-1]:
        if isinstance(layer, mc.Conv2D | mc.Dense):
            layer.trainable = ("b",) if layer.use_bias else False
        elif isinstance(layer, mc.BatchNorm):
            layer.trainable = ("beta",)


def everything(layers: Layers) -> None:
    for layer in layers:
        layer.trainable = False


def some(seed: int) -> Callable[[Layers], None]:
    """Freeze each layer or don't, by chance."""

    def freeze(layers: Layers) -> None:
        rng = np.random.default_rng(seed)
        for layer in leaves(layers):
            layer.trainable = bool(rng.random() < 0.5)

    freeze.__name__ = f"some_{seed}"
    return freeze


WAYS = {way.__name__: way for way in (base, half, norms, biases, everything, some(1), some(2))}


def mixed() -> Layers:
    """All kinds of layers and connections."""
    return [
        mc.Normalize(0.5, 0.25), *conv_bn(5), mc.LeakyReLU(), mc.Dropout(0.2), mc.MaxPool2D(2),
        mc.Residual([*conv_bn(5), mc.ReLU(), *conv_bn(5)]), mc.ReLU(),
        mc.Residual([mc.BatchNorm(), mc.ReLU(), mc.Conv2D(5, 3, padding="same")],
                    mc.Conv2D(5, 1)),
        mc.Concat([mc.Conv2D(3, 1), [*conv_bn(4), mc.SiLU()], mc.Dropout(0.3)]), mc.GELU(),
        mc.BatchNorm(), mc.MaxPool2D(2), mc.Sequential(mc.Flatten(), mc.Dense(6)),
        mc.BatchNorm(), mc.ReLU(), mc.Dense(4),
    ]  # fmt: skip


CASES: dict[str, tuple[Callable[[], Layers], tuple[int, ...]]] = {
    **{name: NETWORKS[name] for name in ("tutorial", "vgg", "resnet")},
    "mixed": (mixed, (9, 11, 3)),
}


def frozen(name: str, way: str) -> tuple[Callable[[], Layers], tuple[int, ...]]:
    """Return what makes the layers of a network, partly frozen, and the shape of a picture."""
    make, shape = CASES[name]

    def made() -> Layers:
        layers = make()
        WAYS[way](layers)
        return layers

    return made, shape
