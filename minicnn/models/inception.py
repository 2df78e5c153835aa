"""A small network of Inception modules: four branches side by side."""

from __future__ import annotations

from ..layers import Concat, Dense, GlobalAveragePool2D, Layer, MaxPool2D, Sequential
from ..options import whole
from .blocks import conv_norm_relu, prepare


def inception_small(classes: int = 10, filters: int = 32) -> Sequential:
    """Return six Inception modules: 1,738,282 parameters, 254,219,264 multiply-adds.

        pictures (32, 32, 3) -> conv 3x3, 2f -> module f -> module f     (32, 32, 4f)      f = 32
          -> max-pool 2 -> module 2f -> module 2f                        (16, 16, 8f)
          -> max-pool 2 -> module 4f -> module 4f                        (8, 8, 16f)
          -> mean of all pixels -> dense -> logits

        module f: -> 1x1, f ---------------------------------+
                  -> 1x1, 3f/2 -> 3x3, 2f -------------------+-> 4f channels
                  -> 1x1, f/4 -> 3x3, f/2 -> 3x3, f/2 -------+
                  -> max-pool 3 by steps of 1 -> 1x1, f/2 ---+

    Each convolution is followed by norm and ReLU.  The module has the four branches and the
    proportions of module 3a of GoogLeNet (Szegedy et al., "Going deeper with convolutions", 2015,
    table 1), with two 3x3 in place of the 5x5 and with BatchNorm (Ioffe and Szegedy 2015, appendix;
    Szegedy et al. 2016, section 3.1).  filters: f, a multiple of 4.

    For comparison, GoogLeNet fitted to 32x32 with 5.5 million parameters: 92.85 %
    (huyvnphan/PyTorch_CIFAR10).  91 % is the aim here, with the recipe ``resnet20``.
    """
    f = whole(filters, "inception_small: filters")
    if f % 4:
        raise ValueError(f"inception_small: filters {f}: expected a multiple of 4")
    layers = [prepare(), *conv_norm_relu(2 * f), module(f), module(f)]
    for width in (2 * f, 4 * f):
        layers += [MaxPool2D(2), module(width), module(width)]
    return Sequential(*layers, GlobalAveragePool2D(), Dense(classes))


def module(f: int) -> Layer:
    """Return four branches, with 4f channels together."""
    return Concat(
        [
            conv_norm_relu(f, 1),
            [*conv_norm_relu(3 * f // 2, 1), *conv_norm_relu(2 * f)],
            [*conv_norm_relu(f // 4, 1), *conv_norm_relu(f // 2), *conv_norm_relu(f // 2)],
            [MaxPool2D(3, 1, padding=1), *conv_norm_relu(f // 2, 1)],
        ]
    )
