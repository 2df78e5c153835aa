"""Windows written out as a matrix, and added up to pictures again (``im2col.cu``)."""

from __future__ import annotations

from ...backend import Array
from ..geometry import Geometry
from .writer import Writer

MOST_PICTURES = 65535  # what a grid's y holds; a block goes on to the pictures behind


def im2col(s: Writer, x: Array, cols: Array, g: Geometry) -> None:
    """Write cols, every window of x, zeros where it reaches into the margins.

    x: (N, H, W, C).  cols: (N, OH, OW, T, C).
    """
    launch(s, "im2col", x, cols, len(x), g, g.OH * g.OW * g.T * g.C)


def col2im(s: Writer, cols: Array, x: Array, g: Geometry) -> None:
    """Write x, each pixel the sum of the values that windows have for it: the adjoint of `im2col`.

    cols: (N, OH, OW, T, C).  x: (N, H, W, C).
    """
    launch(s, "col2im", cols, x, len(x), g, g.H * g.W * g.C)


def launch(
    s: Writer, name: str, source: Array, target: Array, N: int, g: Geometry, each: int
) -> None:
    """Write a launch of so many values for each of N pictures."""
    units = g.C * s.dtype.itemsize % 16 == source.data.ptr % 16 == target.data.ptr % 16 == 0
    threads = each * s.dtype.itemsize // 16 if units else each
    grid = min(-(-threads // 256), 1024), min(N, MOST_PICTURES)
    s.launch(name, 0, source, target, *sizes(N, g), units, grid=grid)


def sizes(N: int, g: Geometry) -> tuple[int, ...]:
    """Return what the kernels are told about a convolution: `Sizes` in tile_windows.cuh.

    Raises ValueError where it doesn't fit.
    """
    if not fits(N, g):
        raise ValueError(
            f"a convolution of {N} pictures of {g.H}x{g.W}x{g.C} with {g.O} filters of "
            f"{g.KH}x{g.KW} is too large for one launch: use smaller batches or pictures"
        )
    (top, _), (left, _) = g.margins
    return (
        *(N, g.H, g.W, g.C, g.OH, g.OW, g.O, g.KH, g.KW),
        *(g.SH, g.SW, g.DH, g.DW, top, left),
    )


def fits(N: int, g: Geometry) -> bool:
    """Whether kernels can count it: pixels and a picture's values in 32 bits, its sides in 16."""
    (top, bottom), (left, right) = g.margins
    height, width = g.H + top + bottom, g.W + left + right
    values = max(
        N * g.OH * g.OW,
        N * g.H * g.W,
        height * width * g.C,
        g.OH * g.OW * g.T * g.C,
        g.OH * g.OW * g.O,
        g.T * g.C * g.O,
    )
    return values < 1 << 30 and max(height, width) < 1 << 14
