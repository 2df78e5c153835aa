"""Row-wise work on pixels: biases, cuts at zero, masks.

NumPy's inner loop runs over what is contiguous in all operands.  With a bias of C numbers that is
C; with the bias laid out k times in a row, it is k*C.  Where it is shorter than NumPy's buffer, the
operands are copied there first, which takes as long as the sum itself: so rows are no shorter.
"""

from __future__ import annotations

from functools import cache
from math import prod

import numpy as np

from ..script import Script, maximum
from .team import Jobs

LONG = 8192  # numbers in a row: ``np.getbufsize()``


@cache
def repeats(shape: tuple[int, ...]) -> int:
    """Return how often C numbers are laid side by side for pictures (H, W, C) or (C,).

    A picture's pixels are cut into equal rows, as short as they may be.
    """
    pixels, C = prod(shape[:-1]), shape[-1]
    return next((k for k in range(1, pixels) if pixels % k == 0 and k * C >= LONG), pixels)


def in_rows(array: np.ndarray) -> np.ndarray:
    """Return contiguous (m, H, W, C) as rows of k*C numbers."""
    k = repeats(array.shape[1:])
    return array.reshape(-1, k * array.shape[-1])


def zero_row(script: Script, array: np.ndarray) -> np.ndarray:
    """Return zeros to compare with the rows of an array: faster than the number 0."""
    return script.zeros(in_rows(array).shape[1])


def write_row(job: Jobs, row: np.ndarray, numbers: np.ndarray) -> None:
    """Write C numbers side by side k times: (k*C,)."""
    job(np.copyto, row.reshape(-1, numbers.size), numbers)


def add_row(script: Script, array: np.ndarray, row: np.ndarray) -> None:
    """Write array += row."""
    rows = in_rows(array)
    script(np.add, rows, row, rows)


def cut(script: Script, array: np.ndarray, out: np.ndarray | None = None) -> None:
    """Write out = max(array, 0), in place if there is no ``out``."""
    rows = in_rows(array)
    script(maximum, rows, zero_row(script, array), rows if out is None else in_rows(out))


def masked(script: Script, dy: np.ndarray, y: np.ndarray, out: np.ndarray) -> None:
    """Write out = dy where y > 0, else 0."""
    mask = positive(script, y)
    script(np.multiply, dy, mask, out)
    script.free(mask)


def leak(script: Script, array: np.ndarray, slope: float, out: np.ndarray) -> None:
    """Write out = max(array, slope * array)."""
    room = script.like(array)
    script(np.multiply, array, script.dtype.type(slope), room)
    script(maximum, array, room, out)
    script.free(room)


def weakened(script: Script, dy: np.ndarray, y: np.ndarray, slope: float, out: np.ndarray) -> None:
    """Write out = dy where y > 0, else slope * dy."""
    factor = positive(script, y)
    rows = in_rows(factor)
    row = script.constant(("slope", slope), (rows.shape[1],), slope)
    script(maximum, rows, row, rows)
    script(np.multiply, dy, factor, out)
    script.free(factor)


def positive(script: Script, y: np.ndarray) -> np.ndarray:
    """Write 1 where y > 0, else 0, in the dtype of y: a product with bools would be converted."""
    bools, mask = script.new(y.shape, bool), script.like(y)
    script(np.greater, in_rows(y), zero_row(script, y), in_rows(bools))
    script(np.copyto, mask, bools)
    script.free(bools)
    return mask
