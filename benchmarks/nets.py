"""The networks that are compared, of minicnn's public layers; their twins are in peers/.

Strided windows have their padding as a number, the same on all sides as in PyTorch, so that all
frameworks compute the same.
"""

from __future__ import annotations

from collections.abc import Callable

import minicnn as mc
from benchmarks.random_net import random_network
from minicnn.layers.norm import CIFAR10_MEAN, CIFAR10_STD


def conv_norm_relu(filters: int) -> list[mc.Layer]:
    """Return a 3x3 convolution, BatchNorm and ReLU."""
    return [mc.Conv2D(filters, 3, padding="same", use_bias=False), mc.BatchNorm(), mc.ReLU()]


def vgg_like() -> mc.Sequential:
    """Return three pairs of convolutions in the manner of VGG, with BatchNorm: 2.2 million weights.

    Conv 64 x2, pool, conv 128 x2, pool, conv 256 x2, pool, dense 256, logits (Simonyan and
    Zisserman 2015).
    """
    layers: list[mc.Layer] = [mc.Normalize(CIFAR10_MEAN, CIFAR10_STD)]
    for filters in (64, 128, 256):
        layers += [*conv_norm_relu(filters), *conv_norm_relu(filters), mc.MaxPool2D(2)]
    return mc.Sequential(*layers, mc.Flatten(), mc.Dense(256), mc.ReLU(), mc.Dense(10))


def residual(filters: int, strides: int, project: bool) -> list[mc.Layer]:
    """Return a block of two convolutions and a way round, and the ReLU after it.

    project: the shortcut is a 1x1 convolution with BatchNorm (He et al. 2016, option B); it is
    x itself otherwise.
    """
    body = [
        mc.Conv2D(filters, 3, strides, padding=1, use_bias=False),
        mc.BatchNorm(),
        mc.ReLU(),
        mc.Conv2D(filters, 3, padding=1, use_bias=False),
        mc.BatchNorm(),
    ]
    shortcut = [mc.Conv2D(filters, 1, strides, use_bias=False), mc.BatchNorm()]
    return [mc.Residual(body, shortcut if project else None), mc.ReLU()]


def resnet(widths: tuple[int, ...], blocks: int) -> mc.Sequential:
    """Return a ResNet for small pictures: a 3x3 stem, then ``blocks`` blocks of each width."""
    layers = [mc.Normalize(CIFAR10_MEAN, CIFAR10_STD), *conv_norm_relu(widths[0])]
    for stage, filters in enumerate(widths):
        for block in range(blocks):
            shrinks = stage > 0 and block == 0
            layers += residual(filters, 2 if shrinks else 1, project=shrinks)
    return mc.Sequential(*layers, mc.GlobalAveragePool2D(), mc.Dense(10))


def resnet20() -> mc.Sequential:
    """Return ResNet-20 (He et al. 2016, section 4.2), with option B where the shape changes."""
    return resnet((16, 32, 64), blocks=3)


def resnet18() -> mc.Sequential:
    """Return ResNet-18 in its form for CIFAR: a 3x3 stem and no max-pooling; 11 million weights."""
    return resnet((64, 128, 256, 512), blocks=2)


NETS: dict[str, Callable[[], mc.Sequential]] = {
    "tutorial_cnn": mc.models.tutorial_cnn,
    "vgg_like": vgg_like,
    "resnet20": resnet20,
    "resnet18": resnet18,
}


def get(name: str) -> mc.Sequential:
    """Return the network of that name, not built; "random:3" is the random one of seed 3."""
    kind, _, seed = name.partition(":")
    if kind == "random" and seed.isdigit():
        return random_network(int(seed))
    if name not in NETS:
        raise ValueError(f"net {name!r}: expected one of {', '.join(NETS)}, random:SEED")
    return NETS[name]()
