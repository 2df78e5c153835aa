"""Normalization: fixed statistics for pictures, those of the batch for activations."""

from __future__ import annotations

from functools import singledispatch
from typing import Any

from ..backend import Array, array_module, check_float
from .windows import channel_sum


@singledispatch
def normalize_forward(x: Array, mean: Array, std: Array, scale: float) -> tuple[Array, Any]:
    """Bring pictures to zero mean and unit variance, with statistics known beforehand.

        y[n,h,w,c] = (x[n,h,w,c] * scale - mean[c]) / std[c]

    x: (N, H, W, C), uint8 or float.  mean, std: (C,) float, on the scale of x * scale.
    Returns y in the dtype of mean.
    """
    factor = float(scale) / std
    return x.astype(mean.dtype) * factor - mean / std, factor


@singledispatch
def normalize_backward(dy: Array, cache: Any) -> Array:
    """Scale the gradient likewise: dL/dx = dy * scale / std."""
    return dy * cache


@singledispatch
def batchnorm_forward(x: Array, gamma: Array, beta: Array, eps: float = 1e-5) -> tuple[Array, Any]:
    """Bring every channel to zero mean and unit variance over the batch (Ioffe and Szegedy 2015).

        mean[c] = 1/M sum_m x[m,c]        var[c] = 1/M sum_m (x[m,c] - mean[c])^2
        y[m,c]  = gamma[c] n[m,c] + beta[c],    n[m,c] = (x[m,c] - mean[c]) / sqrt(var[c] + eps)

    m runs over everything but the channels, M = N*H*W.

    x: (..., C), M >= 2.  gamma, beta: (C,).  Returns y in the shape of x and a cache whose first
    entries are mean and var, for the running statistics.
    """
    check_float(x, "batchnorm")
    C = x.shape[-1]
    M = x.size // C
    if M < 2:
        raise ValueError(
            f"batchnorm: x {x.shape} has one value a channel, whose variance is 0 whatever it is; "
            "train on larger batches, or let drop_last leave out a last batch of one picture"
        )
    mean = channel_sum(x) / M
    centered = x - mean
    var = channel_sum(centered * centered) / M
    inverse = 1 / array_module(x).sqrt(var + float(eps))
    y = centered * (gamma * inverse)
    y += beta
    return y, (mean, var, x, gamma, inverse)


@singledispatch
def batchnorm_backward(dy: Array, cache: Any) -> tuple[Array, Array, Array]:
    """Go back through a normalization in which every picture took part.

    x moves the mean and the variance too, and those move all of n.  What is left of dy after
    taking out its mean and its part along n is what reaches x (Ioffe and Szegedy 2015, section 3):

        dL/dgamma[c] = sum_m dy[m,c] n[m,c]        dL/dbeta[c] = sum_m dy[m,c]
        dL/dx[m,c]   = gamma / sqrt(var + eps) (dy - dL/dbeta / M - n dL/dgamma / M)

    dy: shape of x.  Returns dx, dgamma: (C,), dbeta: (C,).
    """
    mean, _, x, gamma, inverse = cache
    M = x.size // x.shape[-1]
    n = (x - mean) * inverse
    dbeta, dgamma = channel_sum(dy), channel_sum(dy * n)
    dx = (dy - dbeta / M - n * (dgamma / M)) * (gamma * inverse)
    return dx, dgamma, dbeta


@singledispatch
def batchnorm_inference_forward(
    x: Array, gamma: Array, beta: Array, mean: Array, var: Array, eps: float = 1e-5
) -> tuple[Array, Any]:
    """Normalize with known statistics: a fixed scale and shift of each channel.

        y = gamma (x - mean) / sqrt(var + eps) + beta

    x: (..., C).  gamma, beta, mean, var: (C,).  Returns y in the shape of x.
    """
    inverse = 1 / array_module(x).sqrt(var + float(eps))
    return (x - mean) * (gamma * inverse) + beta, (x, gamma, mean, inverse)


@singledispatch
def batchnorm_inference_backward(dy: Array, cache: Any) -> tuple[Array, Array, Array]:
    """Go back through a fixed scale: dL/dx = dy gamma / sqrt(var + eps).

    dy: shape of x.  Returns dx, dgamma: (C,), dbeta: (C,).
    """
    x, gamma, mean, inverse = cache
    return dy * (gamma * inverse), channel_sum(dy * ((x - mean) * inverse)), channel_sum(dy)
