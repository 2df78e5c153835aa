"""DenseNet: every layer reads what all layers before it in its block have made."""

from __future__ import annotations

from ..layers import (
    AveragePool2D,
    BatchNorm,
    Concat,
    Dense,
    GlobalAveragePool2D,
    Layer,
    ReLU,
    Sequential,
)
from ..options import whole
from .blocks import conv, norm_relu_conv, prepare


def densenet_small(classes: int = 10, depth: int = 40, growth: int = 12) -> Sequential:
    """Return DenseNet-40, growth 12: 1,019,722 parameters, 264,812,928 multiply-adds.

        pictures (32, 32, 3) -> conv 3x3, 16 -> 12 times grow        (32, 32, 160)
          -> transition -> 12 times grow                             (16, 16, 304)
          -> transition -> 12 times grow                             (8, 8, 448)
          -> norm -> ReLU -> mean of all pixels -> dense -> logits
        grow:        x -> [x, norm -> ReLU -> conv 3x3, 12]: the channels of both, side by side
        transition:  norm -> ReLU -> conv 1x1 of as many channels -> average-pool 2

    depth: 3n + 4, n the number of layers in each block.  growth: the channels that each adds.

    G. Huang, Z. Liu, L. van der Maaten, K. Weinberger, "Densely connected convolutional networks",
    2017, section 3 and table 2: the smallest network there, without bottlenecks and compression.
    94.76 % after 300 epochs of Nesterov SGD in batches of 64, the learning rate 0.1 divided by 10
    at half and three quarters, weight decay 1e-4, shifts by up to 4 pixels and mirroring.
    """
    depth, growth = whole(depth, "densenet_small: depth"), whole(growth, "densenet_small: growth")
    if depth < 7 or depth % 3 != 1:
        raise ValueError(f"densenet_small: depth {depth}: expected 3n + 4: 7, 10, ..., 40 ...")
    channels, count = 16, (depth - 4) // 3
    layers: list[Layer] = [prepare(), conv(channels)]
    for block in range(3):
        if block > 0:
            layers += [*norm_relu_conv(channels, 1), AveragePool2D(2)]
        layers += [Concat([None, norm_relu_conv(growth)]) for _ in range(count)]
        channels += count * growth
    return Sequential(*layers, BatchNorm(), ReLU(), GlobalAveragePool2D(), Dense(classes))
