"""Dropout."""

from __future__ import annotations

from dataclasses import dataclass

from ..backend import Array, Device, array_module
from ..functional.dropout import dropout_backward, dropout_forward
from ..options import number
from ..params import Parameters
from ..streams import Stream
from .base import Layer


@dataclass(eq=False, repr=False)
class Dropout(Layer):
    """Switch off a share ``rate`` of the values in training; do nothing otherwise.

    Each training forward takes the next generator of the layer's own stream.
    """

    rate: float

    def __post_init__(self) -> None:
        self.rate = number(self.rate, "Dropout: rate", least=0, below=1)

    def bind(self, params: Parameters, device: Device, dtype: str, seed: int) -> None:
        super().bind(params, device, dtype, seed)
        self.stream = Stream(seed, f"dropout/{self.path}")

    def forward(self, x: Array, training: bool = False) -> Array:
        if not training or self.stream is None:
            self.cache = ()
            return x
        y, self.cache = dropout_forward(x, self.rate, self.stream.next(array_module(x)))
        return y

    def backward(self, dy: Array) -> Array:
        cache = self.take_cache()
        return dropout_backward(dy, cache) if cache else dy
