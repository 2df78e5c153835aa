"""Dropout: noise that keeps units from leaning on each other."""

from __future__ import annotations

from functools import singledispatch
from typing import Any

from ..backend import Array


@singledispatch
def dropout_forward(x: Array, rate: float, rng: Any) -> tuple[Array, Any]:
    """Switch each value off with probability ``rate`` (Srivastava et al. 2014, section 4).

        y = x * mask / (1 - rate)      mask = 1 with probability 1 - rate, else 0

    The division keeps the expected value, so prediction needs no change: "inverted" dropout (the
    paper scales in prediction instead).

    x: any shape.  rate: in [0, 1).  rng: a random generator of the library of x.
    """
    keep = rng.random(x.shape, dtype="float32") >= rate
    scale = 1 / (1 - float(rate))
    return x * keep * scale, (keep, scale)


@singledispatch
def dropout_backward(dy: Array, cache: Any) -> Array:
    """Switch off the gradients of what was off: dL/dx = dy * mask / (1 - rate)."""
    keep, scale = cache
    return dy * keep * scale
