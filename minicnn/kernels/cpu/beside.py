"""Several outputs side by side as one row of the product: narrow convolutions made wider.

Outputs that are neighbours read nearly the same inputs.  With q of them in one row of the product,
the windows are wider (KW + (q-1)*SW pixels instead of q times KW), fewer numbers are copied, in
longer runs; and the product has q*O columns, which suits BLAS better than 8 or 16.  The price are
zeros in the filters, multiplied for nothing:

    w       for q = 2:   w 0
    (KW)                 w w         a column for each output; rows are the pixels of the window
                         w w
                         0 w

It is a convolution of another geometry, whose y is the same memory: (OH, OW/q, q*O).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np

from ..geometry import Geometry
from ..script import Script

MOST, WIDTH = 4, 32  # outputs side by side, and their numbers together


def outputs_beside(g: Geometry) -> int:
    """Return how many outputs are best computed side by side: a divisor of OW."""
    if g.KW == 1 or g.DW > 1 or g.SW > 1:
        return 1
    return max(q for q in range(1, MOST + 1) if q == 1 or (g.OW % q == 0 and q * g.O <= WIDTH))


def widened(g: Geometry, q: int) -> Geometry:
    """Return the geometry of the convolution with q outputs side by side."""
    return replace(g, O=q * g.O, KW=g.KW + (q - 1) * g.SW, SW=q * g.SW)


def diagonal(filters: np.ndarray, g: Geometry, q: int) -> list[np.ndarray]:
    """Return the views of (KH, KW', C, q*O) where the filters of each output stand."""
    each = filters.reshape(*filters.shape[:3], q, g.O)
    return [each[:, k * g.SW : k * g.SW + g.KW, :, k] for k in range(q)]


def write_filters(
    job: Callable[..., None], filters: np.ndarray, w: np.ndarray, g: Geometry, q: int
) -> None:
    """Write w for each output, zeros elsewhere: (KH, KW, C, O) -> (KH, KW', C, q*O)."""
    job(filters.fill, 0)
    for place in diagonal(filters, g, q):
        job(np.copyto, place, w)


def add_filters(script: Script, filters: np.ndarray, dw: np.ndarray, g: Geometry, q: int) -> None:
    """Write the sum over the outputs: gradients (KH, KW', C, q*O) -> (KH, KW, C, O)."""
    first, *others = diagonal(filters, g, q)
    script(np.copyto, dw, first)
    for other in others:
        script(np.add, dw, other, dw)
