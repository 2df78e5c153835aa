"""Dense and Flatten."""

from __future__ import annotations

from dataclasses import KW_ONLY, dataclass
from math import prod
from typing import Any

from ..backend import Array, Shape
from ..functional.dense import dense_backward, dense_forward
from ..options import whole
from ..params import Penalty
from .base import Layer
from .weighted import Weighted


@dataclass(eq=False, repr=False)
class Dense(Weighted):
    """Connect every input with every unit (`functional.dense`).

    x: (N, I)   w: (I, units)   b: (units,)   y: (N, units)
    """

    units: int
    _: KW_ONLY
    use_bias: bool = True
    kernel_initializer: str = "glorot_uniform"
    bias_initializer: str = "zeros"
    kernel_regularizer: Penalty | None = None

    def __post_init__(self) -> None:
        self.units = whole(self.units, "Dense: units")
        self.check_options()

    def resolve(self, input_shape: Shape) -> Shape:
        if len(input_shape) != 1:
            raise self.refuse(input_shape, "(I,): put Flatten or GlobalAveragePool2D before it")
        shape = (input_shape[0], self.units)
        self.declare("w", shape, self.kernel_initializer, penalty=self.kernel_regularizer)
        if self.use_bias:
            self.declare("b", (self.units,), self.bias_initializer, decay=False)
        self.multiply_adds = prod(shape)
        return (self.units,)

    def forward(self, x: Array, training: bool = False) -> Array:
        y, self.cache = dense_forward(x, self.w, self.b if self.use_bias else None)
        return y

    def gradients(self, dy: Array, cache: Any, need_dx: bool) -> tuple[Any, Array, Any]:
        return dense_backward(dy, cache, need_dx)


@dataclass(eq=False, repr=False)
class Flatten(Layer):
    """Lay each picture out in a row: rows first, channels innermost, (N, H, W, C) -> (N, H*W*C)."""

    def resolve(self, input_shape: Shape) -> Shape:
        return (prod(input_shape),)

    def forward(self, x: Array, training: bool = False) -> Array:
        self.cache = x.shape
        return x.reshape(x.shape[0], -1)

    def backward(self, dy: Array) -> Array:
        return dy.reshape(self.take_cache())
