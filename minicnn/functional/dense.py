"""The dense (fully connected) layer."""

from __future__ import annotations

from functools import singledispatch
from typing import Any

from ..backend import Array, check_float


@singledispatch
def dense_forward(x: Array, w: Array, b: Array | None = None) -> tuple[Array, Any]:
    """Weigh and add up all inputs.

        y[n,o] = sum_i x[n,i] w[i,o] + b[o]

    x: (N, I)  w: (I, O)  b: (O,) or None.  Returns y: (N, O).
    Raises ValueError where sizes don't fit.
    """
    check_float(x, "dense")
    if x.ndim != 2 or w.ndim != 2 or x.shape[1] != w.shape[0]:
        raise ValueError(f"dense: expected x (N, I) and w (I, O), got {x.shape} and {w.shape}")
    if b is not None and b.shape != w.shape[1:]:
        raise ValueError(f"dense: expected b {w.shape[1:]}, got {b.shape}")
    y = x @ w  # (N, O) = (N, I) @ (I, O)
    if b is not None:
        y += b
    return y, (x, w, b is not None)


@singledispatch
def dense_backward(
    dy: Array, cache: Any, need_dx: bool = True
) -> tuple[Array | None, Array, Array | None]:
    """Send each output's gradient to what it was made of.

        dL/dx[n,i] = sum_o dy[n,o] w[i,o]      x[n,i] took part in every output o
        dL/dw[i,o] = sum_n x[n,i] dy[n,o]      w[i,o] took part in every picture n
        dL/db[o]   = sum_n dy[n,o]

    dy: (N, O).  Returns dx: (N, I), dw: (I, O), db: (O,), or None where there was no bias;
    dx is None where ``need_dx`` is False (the first layer: nobody asks for it).
    """
    x, w, has_bias = cache
    dx = dy @ w.T if need_dx else None  # (N, I) = (N, O) @ (O, I)
    dw = x.T @ dy  # (I, O) = (I, N) @ (N, O)
    return dx, dw, dy.sum(axis=0) if has_bias else None
