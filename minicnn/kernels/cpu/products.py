"""Products of a tall matrix with a narrow one, cut into pieces that BLAS does without packing.

OpenBLAS, which comes with NumPy, copies its operands into blocks of its own first.  That pays for
large products; where one side is only a few dozen wide, the copying takes longer than the product.
Below a million multiply-adds it has kernels that don't copy (on x86 with AVX-512: up to twice as
fast).  One call of ``np.matmul`` does a stack of such pieces.
"""

from __future__ import annotations

import numpy as np

from ..script import Script
from .winograd import add_product

SMALL = 1_000_000  # multiply-adds of a product that isn't packed
NARROW = 48  # columns from which on packing costs nothing


def piece(rows: int, K: int, N: int, least: int) -> int:
    """Return how many rows a piece of (rows, K) @ (K, N) has: a divisor of ``rows``, or all."""
    most = min(rows, SMALL // (K * N))
    if N >= NARROW or most < least:
        return rows
    return next((d for d in range(most, least - 1, -1) if rows % d == 0), rows)


def stack(a: np.ndarray, M: int) -> np.ndarray:
    """Return (rows, K) as (rows/M, M, K): a view, also of a matrix that lies on its side."""
    if a.strides[1] == a.itemsize:
        return a.reshape(-1, M, a.shape[1])
    return a.T.reshape(a.shape[1], -1, M).transpose(1, 2, 0)


def write_product(script: Script, a: np.ndarray, b: np.ndarray, out: np.ndarray) -> None:
    """Write out = a @ b.  a: (rows, K).  b: (K, N).  out: (rows, N).

    They are contiguous, but a may also be some columns of such a matrix, or its transpose.
    """
    (rows, K), N = a.shape, b.shape[1]
    M = piece(rows, K, N, least=16)
    script(np.matmul, stack(a, M), b, out.reshape(-1, M, N))


def add_gradient(
    script: Script,
    a: np.ndarray,
    d: np.ndarray,
    total: np.ndarray,
    first: bool,
    room: np.ndarray | None,
) -> None:
    """Write total = a.T @ d for the first chunk, total += a.T @ d for the others.

    a: (rows, K), see `write_product`.  d: (rows, N), total and room: (K, N), contiguous.  What the
    pieces give is added up by one more product, with ones.
    """
    (rows, K), N = a.shape, d.shape[1]
    M = piece(rows, K, N, least=64)  # with fewer rows, adding up would take longer
    if rows == M:
        add_product(script, a.T, d, total, first, room)
        return
    pieces = script.new((rows // M, K, N))
    script(np.matmul, stack(a, M).transpose(0, 2, 1), d.reshape(-1, M, N), pieces)
    flat = None if room is None else room.reshape(-1)
    ones = script.ones(len(pieces))
    add_product(script, ones, pieces.reshape(len(pieces), -1), total.reshape(-1), first, flat)
    script.free(pieces)
