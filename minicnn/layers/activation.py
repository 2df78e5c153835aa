"""Activations as layers: the element-wise ones, and Softmax."""

from __future__ import annotations

from dataclasses import dataclass

from ..backend import Array
from ..functional import activation as f
from ..options import number
from .base import Layer


@dataclass(eq=False, repr=False)
class ReLU(Layer):
    """y = max(x, 0)."""

    def forward(self, x: Array, training: bool = False) -> Array:
        y, self.cache = f.relu_forward(x)
        return y

    def backward(self, dy: Array) -> Array:
        return f.relu_backward(dy, self.take_cache())


@dataclass(eq=False, repr=False)
class LeakyReLU(Layer):
    """y = x for x > 0, negative_slope * x elsewhere.  The default is Keras'."""

    negative_slope: float = 0.3

    def __post_init__(self) -> None:
        self.negative_slope = number(self.negative_slope, "LeakyReLU: negative_slope")

    def forward(self, x: Array, training: bool = False) -> Array:
        y, self.cache = f.leaky_relu_forward(x, self.negative_slope)
        return y

    def backward(self, dy: Array) -> Array:
        return f.leaky_relu_backward(dy, self.take_cache())


@dataclass(eq=False, repr=False)
class GELU(Layer):
    """y = x Phi(x), Phi the distribution function of the standard normal; exact, by erf."""

    def forward(self, x: Array, training: bool = False) -> Array:
        y, self.cache = f.gelu_forward(x)
        return y

    def backward(self, dy: Array) -> Array:
        return f.gelu_backward(dy, self.take_cache())


@dataclass(eq=False, repr=False)
class SiLU(Layer):
    """y = x / (1 + exp(-x)), also called swish."""

    def forward(self, x: Array, training: bool = False) -> Array:
        y, self.cache = f.silu_forward(x)
        return y

    def backward(self, dy: Array) -> Array:
        return f.silu_backward(dy, self.take_cache())


@dataclass(eq=False, repr=False)
class Tanh(Layer):
    """y = tanh(x)."""

    def forward(self, x: Array, training: bool = False) -> Array:
        y, self.cache = f.tanh_forward(x)
        return y

    def backward(self, dy: Array) -> Array:
        return f.tanh_backward(dy, self.take_cache())


@dataclass(eq=False, repr=False)
class Sigmoid(Layer):
    """y = 1 / (1 + exp(-x))."""

    def forward(self, x: Array, training: bool = False) -> Array:
        y, self.cache = f.sigmoid_forward(x)
        return y

    def backward(self, dy: Array) -> Array:
        return f.sigmoid_backward(dy, self.take_cache())


@dataclass(eq=False, repr=False)
class Softmax(Layer):
    """Scores to probabilities along the last axis.

    Not for the end of a classifier: the loss wants logits, and `predict` makes probabilities.
    """

    def forward(self, x: Array, training: bool = False) -> Array:
        y, self.cache = f.softmax_forward(x)
        return y

    def backward(self, dy: Array) -> Array:
        return f.softmax_backward(dy, self.take_cache())
