"""Scale and PadChannels: layers with nothing to learn, for the recipes that want them."""

from __future__ import annotations

from dataclasses import dataclass

from ..backend import Array, Shape, array_module
from ..options import number, whole
from .base import Layer


@dataclass(eq=False, repr=False)
class Scale(Layer):
    """Multiply by a number: y = factor * x, hence dx = factor * dy.

    x, y: any shape.  Before the loss, a small factor softens the first logits of a network.
    """

    factor: float

    def __post_init__(self) -> None:
        self.factor = number(self.factor, "Scale: factor")

    def forward(self, x: Array, training: bool = False) -> Array:
        self.cache = ()
        return x * self.factor

    def backward(self, dy: Array) -> Array:
        self.take_cache()
        return dy * self.factor


@dataclass(eq=False, repr=False)
class PadChannels(Layer):
    """Add channels of zeros on both sides, evenly, the odd one behind.

        y[..., first : first + C] = x, zero elsewhere     first = (channels - C) // 2

    Nothing depends on the zeros: dx is the middle of dy.  With a pooling that keeps every other
    pixel, it is the shortcut without parameters, option A, of He et al. 2016, section 4.2.

    x: (..., C)   y: (..., channels)
    """

    channels: int

    def __post_init__(self) -> None:
        self.channels = whole(self.channels, "PadChannels: channels")

    def resolve(self, input_shape: Shape) -> Shape:
        C = input_shape[-1]
        if self.channels < C:
            raise self.refuse(
                input_shape, f"at most {self.channels} channels: zeros are added, nothing is cut"
            )
        return (*input_shape[:-1], self.channels)

    @property
    def middle(self) -> slice:
        """The channels of y where x is."""
        C = self.input_shape[-1]
        first = (self.channels - C) // 2
        return slice(first, first + C)

    def forward(self, x: Array, training: bool = False) -> Array:
        self.cache = ()
        y = array_module(x).zeros((*x.shape[:-1], self.channels), dtype=x.dtype)
        y[..., self.middle] = x
        return y

    def backward(self, dy: Array) -> Array:
        self.take_cache()
        return dy[..., self.middle].copy()
