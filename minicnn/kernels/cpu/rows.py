"""Row-wise work on pixels: biases, cuts at zero, masks.

NumPy's inner loop runs over what is contiguous in all operands.  With a bias of C numbers that is
C; with the bias laid out k times in a row, it is k*C.  Rows of about 1,000 numbers are long enough.
"""

from __future__ import annotations

from math import prod

import numpy as np

from .script import Script, maximum
from .team import Jobs

LONG = 1024  # numbers in a row


def repeats(shape: tuple[int, ...]) -> int:
    """Return how often C numbers are laid side by side for pictures (H, W, C) or (C,)."""
    pixels, C = prod(shape[:-1]), shape[-1]
    return max(k for k in range(1, max(1, LONG // C) + 1) if pixels % k == 0)


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
    mask = script.new(y.shape, bool)
    script(np.greater, in_rows(y), zero_row(script, y), in_rows(mask))
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
    factor = script.new(y.shape)
    rows = in_rows(factor)
    script(np.greater, in_rows(y), zero_row(script, y), rows)  # 1 or 0
    row = script.constant(("slope", slope), (rows.shape[1],), slope)
    script(maximum, rows, row, rows)
    script(np.multiply, dy, factor, out)
    script.free(factor)
