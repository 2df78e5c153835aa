"""Activations: one formula for every element, and its derivative."""

from __future__ import annotations

from functools import singledispatch
from math import pi, sqrt
from typing import Any

from ..backend import Array, array_module, check_float
from .special import erf


@singledispatch
def relu_forward(x: Array) -> tuple[Array, Any]:
    """Cut off what is negative: y = max(x, 0).

    x: any shape.  Returns y in the same shape; the cache is y, which knows the sign of x.
    """
    y = array_module(x).maximum(x, 0)
    return y, y


@singledispatch
def relu_backward(dy: Array, cache: Any) -> Array:
    """Let the gradient through where the input was positive: dL/dx = dy * [x > 0].

    At x = 0 there is a kink; the gradient taken there is 0, as everywhere in the field.
    """
    return dy * (cache > 0)


@singledispatch
def leaky_relu_forward(x: Array, slope: float = 0.3) -> tuple[Array, Any]:
    """Weaken what is negative: y = x for x > 0, slope * x elsewhere (Maas et al. 2013).

    x: any shape.  slope: Keras' default.
    """
    slope = float(slope)  # a NumPy number would turn float32 into float64
    return array_module(x).where(x > 0, x, x * slope), (x, slope)


@singledispatch
def leaky_relu_backward(dy: Array, cache: Any) -> Array:
    """Weaken the gradient where the input was: dL/dx = dy for x > 0, slope * dy elsewhere."""
    x, slope = cache
    return array_module(dy).where(x > 0, dy, dy * slope)


@singledispatch
def sigmoid_forward(x: Array) -> tuple[Array, Any]:
    """Squeeze x into (0, 1): y = 1 / (1 + exp(-x)).

    For negative x that is exp(x) / (1 + exp(x)): no exponential here is of a positive number, so
    none overflows, and small results keep all their digits.
    """
    check_float(x, "sigmoid")
    xp = array_module(x)
    e = xp.exp(-abs(x))
    y = 1 / (1 + e)
    y = xp.where(x < 0, e * y, y)
    return y, y


@singledispatch
def sigmoid_backward(dy: Array, cache: Any) -> Array:
    """Differentiate the squeeze: dL/dx = dy * y (1 - y)."""
    y = cache
    return dy * y * (1 - y)


@singledispatch
def tanh_forward(x: Array) -> tuple[Array, Any]:
    """Squeeze x into (-1, 1): y = tanh(x)."""
    y = array_module(x).tanh(x)
    return y, y


@singledispatch
def tanh_backward(dy: Array, cache: Any) -> Array:
    """Differentiate the squeeze: dL/dx = dy * (1 - y^2)."""
    y = cache
    return dy * (1 - y * y)


@singledispatch
def silu_forward(x: Array) -> tuple[Array, Any]:
    """Gate x by its own sigmoid: y = x s(x) (Elfwing et al. 2018; also called swish)."""
    s, _ = sigmoid_forward(x)
    return x * s, (x, s)


@singledispatch
def silu_backward(dy: Array, cache: Any) -> Array:
    """Differentiate both factors: dL/dx = dy * (s + x s (1 - s))."""
    x, s = cache
    return dy * (s * (1 + x * (1 - s)))


@singledispatch
def gelu_forward(x: Array) -> tuple[Array, Any]:
    """Weigh x by the distribution function of the standard normal, Phi.

        y = x Phi(x)     Phi(x) = (1 + erf(x / sqrt 2)) / 2

    The exact form, not the approximation by tanh (Hendrycks and Gimpel 2016, section 2).
    """
    check_float(x, "gelu")
    Phi = erf(x * (1 / sqrt(2)))
    Phi += 1
    Phi *= 0.5
    return x * Phi, (x, Phi)


@singledispatch
def gelu_backward(dy: Array, cache: Any) -> Array:
    """Differentiate both factors.

    dL/dx = dy * (Phi(x) + x phi(x))     phi(x) = exp(-x^2 / 2) / sqrt(2 pi), the density
    """
    x, Phi = cache
    density = array_module(dy).exp(x * x * -0.5) * (1 / sqrt(2 * pi))
    return dy * (Phi + x * density)


@singledispatch
def softmax_forward(x: Array) -> tuple[Array, Any]:
    """Turn scores into probabilities along the last axis.

        y[n,k] = exp(x[n,k]) / sum_j exp(x[n,j])

    The largest score of each row is subtracted first: the same quotient, without overflow.
    x: (..., K).  Returns y: (..., K), each row adding up to 1.
    """
    xp = array_module(x)
    e = xp.exp(x - x.max(axis=-1, keepdims=True))
    y = e / e.sum(axis=-1, keepdims=True)
    return y, y


@singledispatch
def softmax_backward(dy: Array, cache: Any) -> Array:
    """Go back through a quotient in which every score takes part.

    dy_j/dx_k = y_j ([j = k] - y_k)   hence   dL/dx_k = y_k (dy_k - sum_j dy_j y_j)
    """
    y = cache
    return y * (dy - (dy * y).sum(axis=-1, keepdims=True))
