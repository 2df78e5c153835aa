"""Planner for GELU in float32, with a shorter formula for the normal distribution than the book's.

    1 - Phi(a) = h(t) exp(-a^2 / 2)      t = 1 / (1 + p a)      for a = |x|

h: a polynomial; the error is below 1e-7 (Abramowitz and Stegun, formula 7.1.26).  That is float32's
own; float64 is left to the book.  With q = 1 - Phi(a), there is no branch at zero:

    y = x Phi(x) = max(x, 0) - a q       dy/dx = Phi(x) + x phi(x)
"""

from __future__ import annotations

from math import pi, sqrt
from typing import Any

import numpy as np

from ..backend import Array
from ..kernels.script import maximum
from ..layers import GELU
from . import activation
from .activation import minimum, pieces
from .slices import Planned, Run, Slice, slicewise

P = 0.3275911 / sqrt(2)
H = [a / 2 for a in (1.061405429, -1.453152027, 1.421413741, -0.284496736, 0.254829592)]
ARRAYS = 4  # more than other activations have at work


@slicewise(GELU)
def plan_gelu(run: Run, x: Array, s: Slice, need_dx: bool) -> Planned:
    """Y = x Phi(x); the slope is found on the way, and kept instead of x."""
    if s.dtype != np.float32:
        return None
    y = s.new(x.shape)
    slope = s.new(x.shape) if s.training else y  # not written in prediction
    for x_piece, y_piece, d in pieces(x, y, slope, limit=activation.PIECE_BYTES // ARRAYS):
        write_gelu(s, x_piece, y_piece, d if s.training else None)
    s.free(x)

    def backward(dy: Array) -> Any:
        dx = s.reuse(dy)
        for d, slope_piece, out in pieces(dy, slope, dx):
            s(np.multiply, d, slope_piece, out)
        s.free(slope)
        return dx

    return y, backward


def write_gelu(s: Slice, x: Array, y: Array, slope: Array | None) -> None:
    """Write y = x Phi(x), and Phi(x) + x phi(x) if that is wanted."""
    number = np.float32
    a, t, q, e = (s.like(x) for _ in range(4))
    s(np.absolute, x, a)
    s(minimum, a, number(1e4), a)  # exp(-a^2 / 2) is 0 long before, and a^2 is finite
    s(np.multiply, a, number(P), t)
    s(np.add, t, number(1), t)
    s(np.reciprocal, t, t)
    s(np.multiply, t, number(H[0]), q)
    for coefficient in H[1:]:
        s(np.add, q, number(coefficient), q)
        s(np.multiply, q, t, q)
    s(np.multiply, a, a, e)
    s(np.multiply, e, number(-0.5), e)
    s(np.exp, e, e)
    s(np.multiply, q, e, q)
    s(np.multiply, a, q, t)
    s(maximum, x, s.zeros(x.size), y)
    s(np.subtract, y, t, y)
    if slope is not None:
        s(np.multiply, e, number(1 / sqrt(2 * pi)), e)
        s(np.multiply, e, x, slope)  # x phi(x)
        s(np.subtract, number(0.5), q, q)
        s(np.copysign, q, x, q)
        s(np.add, q, number(0.5), q)  # Phi(x)
        s(np.add, slope, q, slope)
    s.free(a, t, q, e)
