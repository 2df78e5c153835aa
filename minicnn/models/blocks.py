"""What the builders share: pictures prepared, a convolution with BatchNorm, a residual block."""

from __future__ import annotations

from ..layers import AveragePool2D, BatchNorm, Conv2D, Layer, Normalize, PadChannels, ReLU, Residual
from ..layers.norm import CIFAR10_MEAN, CIFAR10_STD


def prepare() -> Normalize:
    """Return the layer that prepares pictures, with the statistics of CIFAR-10."""
    return Normalize(CIFAR10_MEAN, CIFAR10_STD)


def conv(filters: int, size: int = 3, strides: int = 1) -> Conv2D:
    """Return a convolution without bias, for BatchNorm is near, that keeps the pictures' size.

    The margin is the same on all sides, with strides too, as in Caffe and PyTorch; weights begin
    as He et al. 2015 have them.
    """
    return Conv2D(
        filters,
        size,
        strides,
        padding=size // 2,
        use_bias=False,
        kernel_initializer="he_normal",
    )


def conv_norm(filters: int, size: int = 3, strides: int = 1) -> list[Layer]:
    """Return a convolution and BatchNorm."""
    return [conv(filters, size, strides), BatchNorm()]


def conv_norm_relu(filters: int, size: int = 3, strides: int = 1) -> list[Layer]:
    """Return a convolution, BatchNorm and ReLU."""
    return [*conv_norm(filters, size, strides), ReLU()]


def norm_relu_conv(filters: int, size: int = 3, strides: int = 1) -> list[Layer]:
    """Return the same three before the convolution ("pre-activation", He et al. 2016b)."""
    return [BatchNorm(), ReLU(), conv(filters, size, strides)]


def residual(filters: int, strides: int, shortcut: str | None) -> list[Layer]:
    """Return the basic block (He et al. 2016, figure 2): two convolutions, a way round, ReLU.

    shortcut: None where the shape stays; else the option of section 4.1, "A" (every other pixel,
    and channels of zeros) or "B" (a 1x1 convolution with BatchNorm).
    """
    around: dict[str, list[Layer]] = {
        "A": [AveragePool2D(1, strides), PadChannels(filters)],
        "B": conv_norm(filters, 1, strides),
    }
    body = [*conv_norm_relu(filters, 3, strides), *conv_norm(filters)]
    return [Residual(body, None if shortcut is None else around[shortcut]), ReLU()]
