"""The gradient of a convolution's input, as a convolution of dy.

    dx[h] = sum over i of dy[p] w[i]      where h + top = p * S + i     (and the same along W)

Where the window moves by one pixel, these are the filters turned by 180 degrees.  Where it moves by
S, pixels come in blocks of S x S: those of block B are read by the outputs p = B + e alone, with
the tap i = a + top - S*e for pixel a of the block.  So a block is S*S*C outputs of a convolution of
dy; the filters have zeros where that tap doesn't exist.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from .geometry import Geometry
from .script import Script

ZEROS = 64  # multiply-adds by zero, for each tap, that take as long as adding a tap's share to dx


def reach(K: int, S: int, margin: int) -> range:
    """Return the places e of the outputs that read a block, seen from the block."""
    return range(-((K - 1 - margin) // S), (S - 1 + margin) // S + 1)


def turned(g: Geometry) -> Geometry | None:
    """Return the convolution of dy that gives dx in blocks; None if adding up taps is better."""
    if g.DH > 1 or g.DW > 1 or g.groups > 1:
        return None
    (top, _), (left, _) = g.margins
    rows, columns = reach(g.KH, g.SH, top), reach(g.KW, g.SW, left)
    margins = (
        (-rows.start, -(-g.H // g.SH) + rows.stop - 1 - g.OH),
        (-columns.start, -(-g.W // g.SW) + columns.stop - 1 - g.OW),
    )
    block = g.SH * g.SW
    zeros = (len(rows) * len(columns) * block - g.T) * g.O
    if min(*margins[0], *margins[1]) < 0 or zeros > ZEROS * g.T:
        return None
    O = block * g.C
    return Geometry(g.OH, g.OW, g.O, O, len(rows), len(columns), 1, 1, 1, 1, margins, 1)


def write_turned(job: Callable[..., None], filters: np.ndarray, w: np.ndarray, g: Geometry) -> None:
    """Write the filters of `turned`: (KH, KW, C, O) -> (EH, EW, O, SH*SW*C)."""
    (top, _), (left, _) = g.margins
    blocks = filters.reshape(*filters.shape[:3], g.SH, g.SW, g.C)
    if blocks.size // (g.C * g.O) > g.T:
        job(filters.fill, 0)
    for t, e in enumerate(reach(g.KH, g.SH, top)):
        for u, f in enumerate(reach(g.KW, g.SW, left)):
            for a in range(g.SH):
                for b in range(g.SW):
                    i, j = a + top - g.SH * e, b + left - g.SW * f
                    if 0 <= i < g.KH and 0 <= j < g.KW:
                        job(np.copyto, blocks[t, u, :, a, b], w[i, j].T)


def write_blocks(script: Script, blocks: np.ndarray, dx: np.ndarray, g: Geometry) -> None:
    """Write blocks side by side: (m, H/SH, W/SW, SH*SW*C), rounded up -> (m, H, W, C)."""
    pixels = blocks.reshape(*blocks.shape[:3], g.SH, g.SW, g.C)
    for a in range(g.SH):
        for b in range(g.SW):
            places = dx[:, a :: g.SH, b :: g.SW]
            script(np.copyto, places, pixels[:, : places.shape[1], : places.shape[2], a, b])


def write_taps(
    script: Script, dy: np.ndarray, filters: np.ndarray, dx: np.ndarray, g: Geometry
) -> None:
    """Write dx as the sum of what each tap gives, added where the tap was read.

    filters: (KH, KW, O, C), by tap.
    """
    m, rows = len(dy), dy.reshape(-1, g.O)
    taps = script.new((g.T, m, g.OH, g.OW, g.C))
    script(np.matmul, rows, filters.reshape(g.T, g.O, g.C), taps.reshape(g.T, -1, g.C))
    (top, bottom), (left, right) = g.margins
    padded = script.new((m, top + g.H + bottom, left + g.W + right, g.C))
    script(padded.fill, 0)
    for k, tap in enumerate(taps):
        i, j = divmod(k, g.KW)
        i, j = i * g.DH, j * g.DW
        view = padded[:, i : i + (g.OH - 1) * g.SH + 1 : g.SH, j : j + (g.OW - 1) * g.SW + 1 : g.SW]
        script(np.add, view, tap, view)
    script.free(taps)
    script(np.copyto, dx, padded[:, top : top + g.H, left : left + g.W])
    script.free(padded)
