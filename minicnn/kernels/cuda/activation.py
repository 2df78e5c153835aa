"""Activations (``activation.cu``).  x, y, dy, dx: any shape, in the storage type; dx may be dy.

What a backward wants besides dy is the output where that is enough, and the input elsewhere.
"""

from __future__ import annotations

from ...backend import Array
from .writer import Writer


def relu_forward(s: Writer, x: Array, y: Array) -> None:
    """Write y = max(x, 0)."""
    forward(s, "relu_forward", x, y)


def relu_backward(s: Writer, dy: Array, y: Array, dx: Array) -> None:
    """Write dx = dy [y > 0]."""
    backward(s, "relu_backward", dy, y, dx)


def leaky_relu_forward(s: Writer, x: Array, y: Array, slope: float) -> None:
    """Write y = x where x > 0, slope * x elsewhere."""
    forward(s, "leaky_relu_forward", x, y, slope)


def leaky_relu_backward(s: Writer, dy: Array, x: Array, dx: Array, slope: float) -> None:
    """Write dx = dy where x > 0, slope * dy elsewhere."""
    backward(s, "leaky_relu_backward", dy, x, dx, slope)


def sigmoid_forward(s: Writer, x: Array, y: Array) -> None:
    """Write y = 1 / (1 + exp(-x))."""
    forward(s, "sigmoid_forward", x, y)


def sigmoid_backward(s: Writer, dy: Array, y: Array, dx: Array) -> None:
    """Write dx = dy y (1 - y)."""
    backward(s, "sigmoid_backward", dy, y, dx)


def tanh_forward(s: Writer, x: Array, y: Array) -> None:
    """Write y = tanh(x)."""
    forward(s, "tanh_forward", x, y)


def tanh_backward(s: Writer, dy: Array, y: Array, dx: Array) -> None:
    """Write dx = dy (1 - y^2)."""
    backward(s, "tanh_backward", dy, y, dx)


def silu_forward(s: Writer, x: Array, y: Array) -> None:
    """Write y = x / (1 + exp(-x))."""
    forward(s, "silu_forward", x, y)


def silu_backward(s: Writer, dy: Array, x: Array, dx: Array) -> None:
    """Write the gradient of `silu_forward`; the sigmoid is computed again."""
    backward(s, "silu_backward", dy, x, dx)


def gelu_forward(s: Writer, x: Array, y: Array) -> None:
    """Write y = x Phi(x)."""
    forward(s, "gelu_forward", x, y)


def gelu_backward(s: Writer, dy: Array, x: Array, dx: Array) -> None:
    """Write the gradient of `gelu_forward`; Phi is computed again."""
    backward(s, "gelu_backward", dy, x, dx)


def softmax_forward(s: Writer, x: Array, y: Array) -> None:
    """Write the softmax along the last axis.  x, y: (..., K)."""
    rows, K = of_rows(x)
    s.launch("softmax_forward", 32 * rows, x, y, rows, K)


def softmax_backward(s: Writer, dy: Array, y: Array, dx: Array) -> None:
    """Write dx = y (dy - sum dy y), the sum along the last axis."""
    rows, K = of_rows(dy)
    s.launch("softmax_backward", 32 * rows, dy, y, dx, rows, K)


def forward(s: Writer, name: str, x: Array, y: Array, *numbers: float) -> None:
    """Write y = f(x)."""
    s.launch(name, packs(s, x.size), x, y, *numbers, x.size)


def backward(s: Writer, name: str, dy: Array, cache: Array, dx: Array, *numbers: float) -> None:
    """Write dx = f(dy, cache)."""
    s.launch(name, packs(s, dy.size), dy, cache, dx, *numbers, dy.size)


def packs(s: Writer, size: int) -> int:
    """Return how many threads do ``size`` values by 16 bytes each (``pack.cuh``)."""
    return -(-size * s.dtype.itemsize // 16)


def of_rows(x: Array) -> tuple[int, int]:
    """Return the rows of x and their length."""
    K = x.shape[-1]
    return x.size // max(1, K), K
