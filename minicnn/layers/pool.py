"""MaxPool2D, AveragePool2D and GlobalAveragePool2D."""

from __future__ import annotations

from dataclasses import dataclass

from ..backend import Array, Shape
from ..functional.pool import (
    averagepool2d_backward,
    averagepool2d_forward,
    check_taps,
    globalaveragepool2d_backward,
    globalaveragepool2d_forward,
    maxpool2d_backward,
    maxpool2d_forward,
    pool_margins,
)
from ..functional.windows import Padding, Pair, out_size, pair
from .base import Layer


@dataclass(eq=False, repr=False)
class Pool2D(Layer):
    """What MaxPool2D and AveragePool2D share.  Arguments are Keras', padding as in Conv2D."""

    pool_size: Pair = 2
    strides: Pair | None = None
    padding: Padding = "valid"

    def __post_init__(self) -> None:
        size = pair(self.pool_size, f"{type(self).__name__}: pool_size")
        strides = pair(size if self.strides is None else self.strides, "strides")
        pool_margins((1, 1, 1, 1), size, strides, self.padding)

    def resolve(self, input_shape: Shape) -> Shape:
        if len(input_shape) != 3:
            raise self.refuse(input_shape, "(H, W, C): put it before Flatten")
        (KH, KW), (H, W, C) = pair(self.pool_size), input_shape
        SH, SW = pair(self.pool_size if self.strides is None else self.strides)
        margins = pool_margins((1, H, W, C), (KH, KW), (SH, SW), self.padding)
        OH, OW = out_size(H + sum(margins[0]), KH, SH), out_size(W + sum(margins[1]), KW, SW)
        if OH < 1 or OW < 1:
            raise self.refuse(input_shape, f"room for a {KH}x{KW} window: fewer poolings before it")
        return OH, OW, C


class MaxPool2D(Pool2D):
    """Keep the largest value of each window (`functional.pool`).

    x: (N, H, W, C)   y: (N, OH, OW, C).  strides: pool_size if None.
    """

    def __post_init__(self) -> None:
        super().__post_init__()
        check_taps(self.pool_size)

    def forward(self, x: Array, training: bool = False) -> Array:
        y, self.cache = maxpool2d_forward(x, self.pool_size, self.strides, self.padding)
        return y

    def backward(self, dy: Array) -> Array:
        return maxpool2d_backward(dy, self.take_cache())


class AveragePool2D(Pool2D):
    """Take the mean of each window, margins not counted, as in Keras (`functional.pool`).

    x: (N, H, W, C)   y: (N, OH, OW, C).  strides: pool_size if None.
    """

    def forward(self, x: Array, training: bool = False) -> Array:
        y, self.cache = averagepool2d_forward(x, self.pool_size, self.strides, self.padding)
        return y

    def backward(self, dy: Array) -> Array:
        return averagepool2d_backward(dy, self.take_cache())


@dataclass(eq=False, repr=False)
class GlobalAveragePool2D(Layer):
    """Take the mean of each channel: (N, H, W, C) -> (N, C) (`functional.pool`)."""

    def resolve(self, input_shape: Shape) -> Shape:
        if len(input_shape) != 3:
            raise self.refuse(input_shape, "(H, W, C): put it before Flatten")
        return input_shape[2:]

    def forward(self, x: Array, training: bool = False) -> Array:
        y, self.cache = globalaveragepool2d_forward(x)
        return y

    def backward(self, dy: Array) -> Array:
        return globalaveragepool2d_backward(dy, self.take_cache())
