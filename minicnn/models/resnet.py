"""ResNets for small pictures: those of the paper's section on CIFAR-10, and the larger two.

K. He, X. Zhang, S. Ren, J. Sun, "Deep residual learning for image recognition", 2016.
"""

from __future__ import annotations

from collections.abc import Sequence

from ..layers import Dense, GlobalAveragePool2D, Sequential
from ..options import whole
from .blocks import conv_norm_relu, prepare, residual

OPTIONS = ("A", "B")


def resnet(classes: int, widths: Sequence[int], blocks: Sequence[int], shortcut: str) -> Sequential:
    """Return a ResNet: a 3x3 stem, then so many blocks of each width, the first halving the size.

        pictures -> conv 3x3 -> norm -> ReLU -> blocks of widths[0] -> blocks of widths[1] -> ...
          -> mean of all pixels -> dense -> logits
        block: x -> conv 3x3 -> norm -> ReLU -> conv 3x3 -> norm -> + x -> ReLU

    shortcut: "A" or "B", what stands for x where its shape changes, see `blocks.residual`.
    """
    if shortcut not in OPTIONS:
        raise ValueError(f"shortcut {shortcut!r}: expected one of {', '.join(OPTIONS)}")
    layers = [prepare(), *conv_norm_relu(whole(widths[0], "filters"))]
    for stage, (filters, count) in enumerate(zip(widths, blocks, strict=True)):
        for block in range(count):
            changes = stage > 0 and block == 0
            layers += residual(filters, 2 if changes else 1, shortcut if changes else None)
    return Sequential(*layers, GlobalAveragePool2D(), Dense(classes))


def of_depth(depth: int, classes: int, shortcut: str, filters: int) -> Sequential:
    """Return the network of section 4.2 with so many layers: 6n + 2, n blocks of each width."""
    filters = whole(filters, "filters")
    return resnet(classes, (filters, 2 * filters, 4 * filters), [(depth - 2) // 6] * 3, shortcut)


def resnet20(classes: int = 10, shortcut: str = "A", filters: int = 16) -> Sequential:
    """Return ResNet-20: 269,722 parameters, 40,551,040 multiply-adds.

        pictures (32, 32, 3) -> conv 16 -> 3 blocks of 16     (32, 32, 16)
          -> 3 blocks of 32                                   (16, 16, 32)
          -> 3 blocks of 64                                   (8, 8, 64)
          -> mean of all pixels -> dense -> logits
        block: conv 3x3 -> norm -> ReLU -> conv 3x3 -> norm -> + x -> ReLU

    shortcut: what stands for x where a block changes its shape: "A", every other pixel and channels
    of zeros, as in the paper; "B", a 1x1 convolution with BatchNorm (272,474 parameters).
    filters: of the first stage.

    He et al. 2016, section 4.2.  There 91.25 % after 64,000 steps of SGD with momentum 0.9 in
    batches of 128, weight decay 1e-4, the learning rate 0.1 divided by 10 at half and three
    quarters, pictures shifted by up to 4 pixels and mirrored.  Recipe ``resnet20``.
    """
    return of_depth(20, classes, shortcut, filters)


def resnet32(classes: int = 10, shortcut: str = "A", filters: int = 16) -> Sequential:
    """Return ResNet-32: 464,154 parameters, 68,862,592 multiply-adds.

        pictures -> conv 16 -> 5 blocks of 16 -> 5 of 32 -> 5 of 64 -> mean -> dense -> logits

    Options, block and recipe: `resnet20`.  In section 4.2 of He et al. 2016: 92.49 %.
    """
    return of_depth(32, classes, shortcut, filters)


def resnet44(classes: int = 10, shortcut: str = "A", filters: int = 16) -> Sequential:
    """Return ResNet-44: 658,586 parameters, 97,174,144 multiply-adds.

        pictures -> conv 16 -> 7 blocks of 16 -> 7 of 32 -> 7 of 64 -> mean -> dense -> logits

    Options, block and recipe: `resnet20`.  In section 4.2 of He et al. 2016: 92.83 %.
    """
    return of_depth(44, classes, shortcut, filters)


def resnet56(classes: int = 10, shortcut: str = "A", filters: int = 16) -> Sequential:
    """Return ResNet-56: 853,018 parameters, 125,485,696 multiply-adds.

        pictures -> conv 16 -> 9 blocks of 16 -> 9 of 32 -> 9 of 64 -> mean -> dense -> logits

    Options, block and recipe: `resnet20`.  In section 4.2 of He et al. 2016: 93.03 %.
    """
    return of_depth(56, classes, shortcut, filters)


def resnet110(classes: int = 10, shortcut: str = "A", filters: int = 16) -> Sequential:
    """Return ResNet-110: 1,727,962 parameters, 252,887,680 multiply-adds.

        pictures -> conv 16 -> 18 blocks of 16 -> 18 of 32 -> 18 of 64 -> mean -> dense -> logits

    Options, block and recipe: `resnet20`, but the learning rate begins at 0.01 until the training
    error is below 80 %, after about 400 steps.  In section 4.2 of He et al. 2016: 93.39 % (mean of
    five, 93.57 the best).
    """
    return of_depth(110, classes, shortcut, filters)


def resnet18(classes: int = 10, shortcut: str = "B", filters: int = 64) -> Sequential:
    """Return ResNet-18 for small pictures: 11,173,962 parameters, 555,422,720 multiply-adds.

        pictures (32, 32, 3) -> conv 64 -> 2 blocks of 64     (32, 32, 64)
          -> 2 of 128 -> 2 of 256 -> 2 of 512                 (16, 16), (8, 8), (4, 4)
          -> mean of all pixels -> dense -> logits
        block: conv 3x3 -> norm -> ReLU -> conv 3x3 -> norm -> + x -> ReLU

    The network of He et al. 2016, table 1, with a stem for 32x32 pictures: a 3x3 convolution by
    steps of 1 in place of 7x7 by 2, and no max-pooling.  shortcut, filters: as in `resnet20`.

    93.02 % (kuangliu/pytorch-cifar) to 94.98 % (edadaltocg, 300 epochs), 96.0 % with stronger
    augmentation (airbench's baseline).  Recipe ``resnet18``.
    """
    return resnet(classes, stages(filters), (2, 2, 2, 2), shortcut)


def resnet34(classes: int = 10, shortcut: str = "B", filters: int = 64) -> Sequential:
    """Return ResNet-34 for small pictures: 21,282,122 parameters, 1,159,402,496 multiply-adds.

        pictures -> conv 64 -> 3 blocks of 64 -> 4 of 128 -> 6 of 256 -> 3 of 512
          -> mean of all pixels -> dense -> logits

    He et al. 2016, table 1; options, stem, block and recipe: `resnet18`.  93.34 %
    (huyvnphan/PyTorch_CIFAR10, where ResNet-18 has 93.07 %).
    """
    return resnet(classes, stages(filters), (3, 4, 6, 3), shortcut)


def stages(filters: int) -> list[int]:
    """Return the widths of four stages, each twice as wide as the one before."""
    filters = whole(filters, "filters")
    return [filters << stage for stage in range(4)]
