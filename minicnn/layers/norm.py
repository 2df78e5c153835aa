"""Normalize and BatchNorm."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from ..backend import Array, Shape, array_module
from ..functional.norm import (
    batchnorm_backward,
    batchnorm_forward,
    batchnorm_inference_backward,
    batchnorm_inference_forward,
    normalize_backward,
    normalize_forward,
)
from ..options import number
from .base import Layer

CIFAR10_MEAN = (0.4914, 0.4822, 0.4465)
CIFAR10_STD = (0.2470, 0.2435, 0.2616)


@dataclass(eq=False, repr=False)
class Normalize(Layer):
    """Turn uint8 pictures into floats: y = (x * scale - mean) / std, channel by channel.

    First in a model, so that training, prediction and export prepare pictures alike; the
    statistics are kept in the model's ``state``.  mean, std: a number, or one per channel, on the
    scale of x * scale (0 to 1).  The defaults only scale.  `Normalize.of` measures them.

    x: (N, H, W, C), uint8, or float on the same scale of 0 to 255.  y: the model's dtype.
    """

    mean: float | tuple[float, ...] = 0.0
    std: float | tuple[float, ...] = 1.0
    scale: float = 1 / 255

    def __post_init__(self) -> None:
        self.mean, self.std = numbers(self.mean, "mean"), numbers(self.std, "std")
        self.scale = number(self.scale, "Normalize: scale", above=0)
        if not np.all(np.asarray(self.std) > 0):
            raise ValueError(f"Normalize: std {self.std}: expected numbers > 0")

    @classmethod
    def of(cls, x: np.ndarray, scale: float = 1 / 255) -> Normalize:
        """Return the layer that brings pictures x, (N, H, W, C), to mean 0 and variance 1."""
        axes = tuple(range(x.ndim - 1))
        mean, std = x.mean(axes, dtype="float64"), x.std(axes, dtype="float64")
        return cls(tuple((mean * scale).tolist()), tuple((std * scale).tolist()), scale)

    def resolve(self, input_shape: Shape) -> Shape:
        C = input_shape[-1]
        for name, value in (("mean", self.mean), ("std", self.std)):
            if np.size(value) not in (1, C):
                raise self.refuse(
                    input_shape,
                    f"{np.size(value)} channels, as in {name}; are the pictures channels first?",
                )
            self.keep(name, np.broadcast_to(value, (C,)))
        return input_shape

    def forward(self, x: Array, training: bool = False) -> Array:
        y, self.cache = normalize_forward(x, self.buffers["mean"], self.buffers["std"], self.scale)
        return y

    def backward(self, dy: Array) -> Array:
        return normalize_backward(dy, self.take_cache())


def numbers(value: Any, name: str) -> float | tuple[float, ...]:
    """Return one number or a tuple of them, as Python's; raise ValueError for anything else."""
    try:
        array = np.asarray(value, dtype="float64")
    except (TypeError, ValueError) as error:
        raise ValueError(f"Normalize: {name} {value!r}: expected numbers") from error
    if array.ndim > 1 or not np.isfinite(array).all():
        raise ValueError(f"Normalize: {name} {value!r}: expected a number, or one per channel")
    return tuple(array.tolist()) if array.ndim else float(array)


@dataclass(eq=False, repr=False)
class BatchNorm(Layer):
    """Bring every channel to mean beta and standard deviation gamma (`functional.norm`).

    x: (N, H, W, C) or (N, C)   gamma, beta: (C,)   y: the shape of x

    In training the batch's statistics are used, and the running ones follow them:

        running <- momentum * running + (1 - momentum) * batch

    (Keras' meaning of momentum; PyTorch's is 1 minus it).  The running variance follows the
    unbiased estimate, sum / (M - 1).  Without training, the running statistics are used; and so
    they are if ``trainable`` is False: then they stay what they are.
    """

    momentum: float = 0.9
    eps: float = 1e-5
    center: bool = True
    scale: bool = True

    def __post_init__(self) -> None:
        self.momentum = number(self.momentum, "BatchNorm: momentum", least=0, below=1)
        self.eps = number(self.eps, "BatchNorm: eps", above=0)

    def resolve(self, input_shape: Shape) -> Shape:
        C = input_shape[-1]
        if self.scale:
            self.declare("gamma", (C,), "ones", decay=False)
        if self.center:
            self.declare("beta", (C,), "zeros", decay=False)
        self.keep("running_mean", np.broadcast_to(0.0, (C,)))
        self.keep("running_var", np.broadcast_to(1.0, (C,)))
        return input_shape

    def forward(self, x: Array, training: bool = False) -> Array:
        mean, var = self.buffers["running_mean"], self.buffers["running_var"]
        xp = array_module(x)
        gamma = self.gamma if self.scale else xp.ones_like(mean)
        beta = self.beta if self.center else xp.zeros_like(mean)
        if not training or self.trainable is False:
            y, cache = batchnorm_inference_forward(x, gamma, beta, mean, var, self.eps)
            self.cache = batchnorm_inference_backward, cache
            return y
        y, cache = batchnorm_forward(x, gamma, beta, self.eps)
        self.follow(cache, x.size // x.shape[-1])
        self.cache = batchnorm_backward, cache
        return y

    def follow(self, cache: Any, M: int) -> None:
        """Move the running statistics towards those of a batch of M values a channel.

        What isn't finite is left out: one bad batch shall not spoil all that comes after.
        """
        batch_mean, batch_var = cache[:2]
        xp = array_module(batch_mean)
        for running, batch in (
            (self.buffers["running_mean"], batch_mean),
            (self.buffers["running_var"], batch_var * (M / (M - 1))),
        ):
            batch = xp.where(xp.isfinite(batch), batch, running)
            running *= self.momentum
            running += batch * (1 - self.momentum)

    def backward(self, dy: Array) -> Array:
        go_back, cache = self.take_cache()
        dx, dgamma, dbeta = go_back(dy, cache)
        if self.scale:
            self.dgamma[...] = dgamma
        if self.center:
            self.dbeta[...] = dbeta
        return dx
