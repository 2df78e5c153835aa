"""Wide residual networks: few layers, many channels."""

from __future__ import annotations

from ..layers import (
    BatchNorm,
    Dense,
    Dropout,
    GlobalAveragePool2D,
    Layer,
    ReLU,
    Residual,
    Sequential,
)
from ..options import number, whole
from .blocks import conv, norm_relu_conv, prepare


def wide_resnet(
    classes: int = 10, depth: int = 28, width: int = 10, dropout: float = 0.0
) -> Sequential:
    """Return WRN-28-10: 36,479,194 parameters, 5,243,328,768 multiply-adds.

        pictures (32, 32, 3) -> conv 16 -> n blocks of 16k     (32, 32, 16k)     depth = 6n + 4
          -> n blocks of 32k -> n blocks of 64k                (16, 16), (8, 8)  width = k
          -> norm -> ReLU -> mean of all pixels -> dense -> logits
        block: x -> norm -> ReLU -> conv 3x3 -> norm -> ReLU -> dropout -> conv 3x3 -> + x
        first of a stage: a = ReLU(norm(x)), and instead of x a 1x1 convolution of a is added

    depth: 6n + 4.  width: how many times as wide as a ResNet of that depth.  dropout: its rate.

    S. Zagoruyko, N. Komodakis, "Wide residual networks", 2016, table 1 and section 2.4.  There
    96.00 % (median of five; 96.11 with dropout 0.3) after 200 epochs of Nesterov SGD in batches of
    128, the learning rate 0.1 divided by 5 at epochs 60, 120 and 160, weight decay 5e-4, shifts by
    up to 4 pixels and mirroring.
    """
    depth, width = whole(depth, "wide_resnet: depth"), whole(width, "wide_resnet: width")
    dropout = number(dropout, "wide_resnet: dropout", least=0, below=1)
    if depth < 10 or depth % 6 != 4:
        raise ValueError(f"wide_resnet: depth {depth}: expected 6n + 4: 10, 16, 22, 28, 34, 40 ...")
    layers, channels = [prepare(), conv(16)], 16
    for stage in range(3):
        filters = 16 * width << stage
        for block in range((depth - 4) // 6):
            strides = 2 if stage > 0 and block == 0 else 1
            layers += wide_block(filters, strides, filters != channels, dropout)
            channels = filters
    return Sequential(*layers, BatchNorm(), ReLU(), GlobalAveragePool2D(), Dense(classes))


def wide_block(filters: int, strides: int, changes: bool, dropout: float) -> list[Layer]:
    """Return a block; where it changes the channels, norm and ReLU stand before both ways."""
    norm, relu, first = norm_relu_conv(filters, 3, strides)
    _, _, second = norms = norm_relu_conv(filters)
    drop = [Dropout(dropout)] if dropout else []
    body = [first, *norms[:2], *drop, second]
    if changes:
        return [norm, relu, Residual(body, conv(filters, 1, strides))]
    return [Residual([norm, relu, *body])]
