"""Dropout (``dropout.cu``)."""

from __future__ import annotations

from ...backend import Array
from .writer import Writer

MOST = 1 << 34
"""Elements that the generator tells apart: a count of 32 bits for every four."""


def key(seed: int, number: int) -> tuple[int, int]:
    """Return the seed and the layer's number of a stream's, cut to what the generator takes."""
    return seed % 2**64, number % 2**31


def dropout_forward(
    s: Writer, x: Array, rate: float, seed: int, layer_id: int, clock: Array, y: Array
) -> None:
    """Write y = x mask / (1 - rate).

    The mask is a function of the seed (0 to 2^64 - 1), the layer's number (0 to 2^31 - 1), the step
    that ``clock``, int64 (1,), holds when this runs, and the element's place.  y may be x.
    """
    if x.size >= MOST:
        raise ValueError(f"dropout: x {x.shape} has {x.size} values, expected less than {MOST}")
    group = max(4, 16 // s.dtype.itemsize)
    s.launch("dropout", -(-x.size // group), x, y, rate, seed, layer_id, clock, x.size)


def dropout_backward(
    s: Writer, dy: Array, rate: float, seed: int, layer_id: int, clock: Array, dx: Array
) -> None:
    """Write dx = dy mask / (1 - rate), with the mask of `dropout_forward` at the same step."""
    dropout_forward(s, dy, rate, seed, layer_id, clock, dx)
