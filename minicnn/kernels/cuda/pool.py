"""Pooling (``pool.cu``).

x, dx: (N, H, W, C)   y, dy: (N, OH, OW, C)   winner: (N, OH, OW, C) uint8, the tap of each maximum.
A `Geometry` g has the sizes and margins; its O counts nothing here, and dilations are 1.
"""

from __future__ import annotations

from ...backend import Array
from ..geometry import Geometry
from .activation import packs, relu_backward
from .columns import lie_across
from .writer import Writer


def maxpool_forward(
    s: Writer,
    x: Array,
    b: Array | None,
    y: Array,
    winner: Array | None,
    g: Geometry,
    relu: bool = False,
) -> None:
    """Write y = the maximum of x + b over each window, cut off at 0 with ``relu``: one pass.

    b: (C,) in the type of sums, or None.  winner: None where there is no way back.
    """
    s.launch("maxpool_forward", threads(s, y), x, b, y, winner, int(relu), *sizes(x, g))


def maxpool_backward(
    s: Writer, dy: Array, winner: Array, y: Array | None, dx: Array, g: Geometry
) -> None:
    """Write dx: dy where the winners are, 0 elsewhere.

    y: what ``relu`` cut off, which sends nothing back where it is 0; None if it didn't.
    """
    s.launch("maxpool_backward", threads(s, dx), dy, winner, y, dx, *sizes(dx, g))


def averagepool_forward(
    s: Writer, x: Array, y: Array, g: Geometry, count_padding: bool = False
) -> None:
    """Write the mean of each window, of its pixels in the picture or of all of them."""
    s.launch("averagepool_forward", threads(s, y), x, y, int(count_padding), *sizes(x, g))


def averagepool_backward(
    s: Writer, dy: Array, dx: Array, g: Geometry, count_padding: bool = False
) -> None:
    """Write dx: every pixel of a window gets the same share of dy."""
    s.launch("averagepool_backward", threads(s, dx), dy, dx, int(count_padding), *sizes(dx, g))


def globalaveragepool_forward(s: Writer, x: Array, y: Array) -> None:
    """Write the mean of each picture.  x: (N, H, W, C).  y: (N, C)."""
    N, H, W, C = x.shape
    across, tiles = lie_across(s, C)
    s.launch("globalaverage_forward", 0, x, y, N, H * W, C, across, grid=N * tiles)


def globalaveragepool_backward(s: Writer, dy: Array, dx: Array) -> None:
    """Write dx: every pixel gets the same share of dy, (N, C)."""
    N, H, W, C = dx.shape
    s.launch("globalaverage_backward", threads(s, dx), dy, dx, N, H * W, C)


def bias_relu(s: Writer, x: Array, b: Array | None, y: Array, relu: bool) -> None:
    """Write y = x + b, cut off at 0 with ``relu``.  x, y: (..., C).  y may be x."""
    C = x.shape[-1]
    s.launch("bias_relu", threads(s, y), x, b, y, int(relu), x.size // C, C)


def relu_mask(s: Writer, dy: Array, y: Array, dx: Array) -> None:
    """Write dx = dy [y > 0], the way back through a fused ReLU.  dx may be dy."""
    relu_backward(s, dy, y, dx)


def threads(s: Writer, y: Array) -> int:
    """Return the threads that write y, (..., C), by packs of channels or by single ones."""
    return y.size if y.shape[-1] * s.dtype.itemsize % 16 else packs(s, y.size)


def sizes(x: Array, g: Geometry) -> tuple[int, ...]:
    """Return the numbers that the kernels take: N, then `Window` of pool.cu."""
    (top, _), (left, _) = g.margins
    return len(x), g.H, g.W, g.C, g.OH, g.OW, g.KH, g.KW, g.SH, g.SW, top, left
