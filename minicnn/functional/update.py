"""Update rules: what an optimizer does with a gradient.  Simplest first.

Unlike the rest of the book these change their arguments: the parameters and the rule's memory,
all arrays of one shape (in training, the flat buffers of the whole network).
"""

from __future__ import annotations

from functools import singledispatch

from ..backend import Array, array_module


@singledispatch
def sgd_update(w: Array, dw: Array, lr: float) -> None:
    """Step downhill: w <- w - lr dw."""
    w -= dw * lr


@singledispatch
def momentum_update(
    w: Array, dw: Array, v: Array, lr: float, momentum: float, nesterov: bool = False
) -> None:
    """Step downhill with a rolling ball's memory v of past gradients (Polyak 1964).

        v <- momentum v + dw
        w <- w - lr v                      or, with Nesterov's look ahead (Sutskever et al. 2013),
        w <- w - lr (dw + momentum v)

    The learning rate scales the step, not what enters v (PyTorch's form; the same as Keras' as
    long as lr is constant).
    """
    v *= momentum
    v += dw
    w -= ((dw + v * momentum) if nesterov else v) * lr


@singledispatch
def rmsprop_update(w: Array, dw: Array, v: Array, lr: float, rho: float, eps: float) -> None:
    """Divide each gradient by its usual size (Tieleman and Hinton 2012, lecture 6.5).

    v <- rho v + (1 - rho) dw^2
    w <- w - lr dw / (sqrt(v) + eps)
    """
    v *= rho
    v += dw * dw * (1 - rho)
    w -= dw * lr / (array_module(w).sqrt(v) + eps)


@singledispatch
def adam_update(
    w: Array,
    dw: Array,
    m: Array,
    v: Array,
    t: int,
    lr: float,
    beta1: float,
    beta2: float,
    eps: float,
) -> None:
    """Step along the mean gradient, divided by its usual size (Kingma and Ba 2015, algorithm 1).

        m <- beta1 m + (1 - beta1) dw             v <- beta2 v + (1 - beta2) dw^2
        w <- w - lr (m / (1 - beta1^t)) / (sqrt(v / (1 - beta2^t)) + eps)

    m and v start at zero and so are too small at first; the divisions by 1 - beta^t correct it.
    t: the number of this step, 1 for the first.
    """
    m *= beta1
    m += dw * (1 - beta1)
    v *= beta2
    v += dw * dw * (1 - beta2)
    root = array_module(w).sqrt(v * (1 / (1 - beta2**t)))
    w -= m * (lr / (1 - beta1**t)) / (root + eps)


@singledispatch
def decay_update(w: Array, amount: float) -> None:
    """Shrink the weights: w <- (1 - amount) w.

    Beside Adam's step, not through its division, this is AdamW (Loshchilov and Hutter 2019).
    """
    w *= 1 - amount


@singledispatch
def average_update(average: Array, w: Array, decay: float) -> None:
    """Follow the weights with a slower copy: average <- decay average + (1 - decay) w."""
    average += (w - average) * (1 - decay)


@singledispatch
def lookahead_update(slow: Array, w: Array, decay: float) -> None:
    """Let slow weights follow, and put the weights where they are (Zhang et al. 2019, algorithm 1).

    slow <- decay slow + (1 - decay) w
    w <- slow
    """
    slow += (w - slow) * (1 - decay)
    w[...] = slow
