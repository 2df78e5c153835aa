"""The networks that are compared, of minicnn's public layers and builders; twins are in peers/.

Strided windows have their padding as a number, the same on all sides as in PyTorch, so that all
frameworks compute the same.
"""

from __future__ import annotations

from collections.abc import Callable

import minicnn as mc
from benchmarks.random_net import random_network
from minicnn.models.blocks import conv_norm_relu, prepare


def vgg_like() -> mc.Sequential:
    """Return three pairs of convolutions in the manner of VGG, with BatchNorm: 2.2 million weights.

    Conv 64 x2, pool, conv 128 x2, pool, conv 256 x2, pool, dense 256, logits (Simonyan and
    Zisserman 2015).
    """
    layers: list[mc.Layer] = [prepare()]
    for filters in (64, 128, 256):
        layers += [*conv_norm_relu(filters), *conv_norm_relu(filters), mc.MaxPool2D(2)]
    return mc.Sequential(*layers, mc.Flatten(), mc.Dense(256), mc.ReLU(), mc.Dense(10))


def resnet20() -> mc.Sequential:
    """Return ResNet-20 (He et al. 2016, section 4.2), with option B where the shape changes."""
    return mc.models.resnet20(shortcut="B")


NETS: dict[str, Callable[[], mc.Sequential]] = {
    "tutorial_cnn": mc.models.tutorial_cnn,
    "vgg_like": vgg_like,
    "resnet20": resnet20,
    "resnet18": mc.models.resnet18,
}


def get(name: str) -> mc.Sequential:
    """Return the network of that name, not built; "random:3" is the random one of seed 3."""
    kind, _, seed = name.partition(":")
    if kind == "random" and seed.isdigit():
        return random_network(int(seed))
    if name not in NETS:
        raise ValueError(f"net {name!r}: expected one of {', '.join(NETS)}, random:SEED")
    return NETS[name]()
