"""VGG with BatchNorm, for small pictures.

K. Simonyan, A. Zisserman, "Very deep convolutional networks for large-scale image recognition",
2015.
"""

from __future__ import annotations

from collections.abc import Sequence

from ..layers import Dense, Flatten, Layer, MaxPool2D, Sequential
from ..options import whole
from .blocks import conv_norm_relu, prepare


def vgg(classes: int, blocks: Sequence[int], filters: int) -> Sequential:
    """Return a VGG: so many convolutions in each of five stages, a pooling after each.

    The paper's three dense layers, made for 7x7 pixels that are left of 224, are one here, as in
    the common versions for CIFAR-10; there the convolutions have biases, which BatchNorm undoes.
    """
    filters = whole(filters, "filters")
    layers: list[Layer] = [prepare()]
    for stage, count in enumerate(blocks):
        for _ in range(count):
            layers += conv_norm_relu(min(filters << stage, 8 * filters))
        layers.append(MaxPool2D(2))
    return Sequential(*layers, Flatten(), Dense(classes))


def vgg11(classes: int = 10, filters: int = 64) -> Sequential:
    """Return VGG-11 with BatchNorm: 9,228,362 parameters, 152,769,536 multiply-adds.

        pictures (32, 32, 3) -> conv 64 -> pool -> conv 128 -> pool -> 2 of 256 -> pool
          -> 2 of 512 -> pool -> 2 of 512 -> pool -> (1, 1, 512) -> dense -> logits

    Configuration A of Simonyan and Zisserman 2015, table 1; the rest as in `vgg16`.  92.39 %
    (huyvnphan/PyTorch_CIFAR10, with a head of three dense layers).
    """
    return vgg(classes, (1, 1, 2, 2, 2), filters)


def vgg13(classes: int = 10, filters: int = 64) -> Sequential:
    """Return VGG-13 with BatchNorm: 9,413,066 parameters, 228,267,008 multiply-adds.

        pictures (32, 32, 3) -> 2 convs of 64 -> pool -> 2 of 128 -> pool -> 2 of 256 -> pool
          -> 2 of 512 -> pool -> 2 of 512 -> pool -> (1, 1, 512) -> dense -> logits

    Configuration B of Simonyan and Zisserman 2015, table 1; the rest as in `vgg16`.  94.22 %
    (huyvnphan/PyTorch_CIFAR10, with a head of three dense layers).
    """
    return vgg(classes, (2, 2, 2, 2, 2), filters)


def vgg16(classes: int = 10, filters: int = 64) -> Sequential:
    """Return VGG-16 with BatchNorm: 14,724,042 parameters, 313,201,664 multiply-adds.

        pictures (32, 32, 3) -> 2 convs of 64 -> pool -> 2 of 128 -> pool -> 3 of 256 -> pool
          -> 3 of 512 -> pool -> 3 of 512 -> pool -> (1, 1, 512) -> dense -> logits
        conv: 3x3 without bias -> norm -> ReLU       pool: the maximum of 2x2

    Configuration D of Simonyan and Zisserman 2015, table 1, with BatchNorm and one dense layer in
    place of three, as in kuangliu/pytorch-cifar (there with biases: 14,728,266 parameters).
    filters: of the first stage; five poolings want pictures of 32x32 at least.

    92.64 % (kuangliu), 94.00 % (huyvnphan, with a head of three dense layers).  Recipe ``vgg16``.
    """
    return vgg(classes, (2, 2, 3, 3, 3), filters)


def vgg19(classes: int = 10, filters: int = 64) -> Sequential:
    """Return VGG-19 with BatchNorm: 20,035,018 parameters, 398,136,320 multiply-adds.

        pictures (32, 32, 3) -> 2 convs of 64 -> pool -> 2 of 128 -> pool -> 4 of 256 -> pool
          -> 4 of 512 -> pool -> 4 of 512 -> pool -> (1, 1, 512) -> dense -> logits

    Configuration E of Simonyan and Zisserman 2015, table 1; the rest as in `vgg16`.  93.95 %
    (huyvnphan/PyTorch_CIFAR10, with a head of three dense layers).
    """
    return vgg(classes, (2, 2, 4, 4, 4), filters)
