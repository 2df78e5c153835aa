"""Conv2D."""

from __future__ import annotations

from dataclasses import KW_ONLY, dataclass
from math import prod
from typing import Any

from ..backend import Array, Shape
from ..functional.conv import conv2d_backward, conv2d_forward
from ..functional.windows import Padding, Pair, out_size, pair, resolve_padding
from ..options import whole
from ..params import Penalty
from .weighted import Weighted


@dataclass(eq=False, repr=False)
class Conv2D(Weighted):
    """Slide filters over the pictures (`functional.conv`).

    x: (N, H, W, C)   w: (KH, KW, C/groups, filters)   b: (filters,)   y: (N, OH, OW, filters)

    Arguments are Keras'; padding may also be an integer, (vertical, horizontal) or
    ((top, bottom), (left, right)).
    """

    filters: int
    kernel_size: Pair
    strides: Pair = 1
    padding: Padding = "valid"
    _: KW_ONLY
    dilation_rate: Pair = 1
    groups: int = 1
    use_bias: bool = True
    kernel_initializer: str = "glorot_uniform"
    bias_initializer: str = "zeros"
    kernel_regularizer: Penalty | None = None

    def __post_init__(self) -> None:
        self.filters = whole(self.filters, "Conv2D: filters")
        self.groups = whole(self.groups, "Conv2D: groups")
        size = pair(self.kernel_size, "Conv2D: kernel_size")
        strides, dilation = pair(self.strides, "strides"), pair(self.dilation_rate, "dilation_rate")
        resolve_padding(self.padding, (1, 1), size, strides, dilation)
        self.check_options()
        if self.filters % self.groups:
            raise ValueError(f"{self}: filters must be a multiple of groups")

    def resolve(self, input_shape: Shape) -> Shape:
        if len(input_shape) != 3:
            raise self.refuse(
                input_shape, "(H, W, C): put it before Flatten and pooling to a point"
            )
        H, W, C = input_shape
        if C % self.groups:
            raise self.refuse(input_shape, f"channels in {self.groups} equal groups")
        (KH, KW), (SH, SW) = pair(self.kernel_size), pair(self.strides)
        DH, DW = pair(self.dilation_rate)
        margins = resolve_padding(self.padding, (H, W), (KH, KW), (SH, SW), (DH, DW))
        OH = out_size(H + sum(margins[0]), KH, SH, DH)
        OW = out_size(W + sum(margins[1]), KW, SW, DW)
        if OH < 1 or OW < 1:
            raise self.refuse(
                input_shape,
                f"room for a {KH}x{KW} window (dilation {DH}x{DW}, padding {self.padding!r}): "
                "fewer poolings before it, padding='same', or are the pictures channels first?",
            )
        shape = (KH, KW, C // self.groups, self.filters)
        self.declare("w", shape, self.kernel_initializer, penalty=self.kernel_regularizer)
        if self.use_bias:
            self.declare("b", (self.filters,), self.bias_initializer, decay=False)
        self.multiply_adds = OH * OW * prod(shape)
        return OH, OW, self.filters

    def forward(self, x: Array, training: bool = False) -> Array:
        b = self.b if self.use_bias else None
        y, self.cache = conv2d_forward(
            x, self.w, b, self.strides, self.padding, self.dilation_rate, self.groups
        )
        return y

    def gradients(self, dy: Array, cache: Any, need_dx: bool) -> tuple[Any, Array, Any]:
        return conv2d_backward(dy, cache, need_dx)
