"""The gradient of a convolution's input, as a convolution of dy.

    dx[h] = sum over i of dy[p] w[i]      where h + top = p * S + i     (and the same along W)

Where the window moves by one pixel, these are the filters turned by 180 degrees.  Where it moves by
S, pixels come in blocks of S x S: those of block B are read by the outputs p = B + e alone, with
the tap i = a + top - S*e for pixel a of the block.  So a block is S*S*C outputs of a convolution of
dy; the filters have zeros where that tap doesn't exist.

A narrow block is computed as such.  Of wider ones the pixels are, one after the other, each for all
blocks: a phase.  Then the taps before its first and after its last are left out.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from ..geometry import Geometry
from ..script import Script
from .products import write_product


def reach(K: int, S: int, margin: int) -> range:
    """Return the places e of the outputs that read a block, seen from the block."""
    return range(-((K - 1 - margin) // S), (S - 1 + margin) // S + 1)


def turned(g: Geometry) -> Geometry | None:
    """Return the convolution of dy that gives dx in blocks; None for gaps and odd margins."""
    if g.DH > 1 or g.DW > 1 or g.groups > 1:
        return None
    (top, _), (left, _) = g.margins
    rows, columns = reach(g.KH, g.SH, top), reach(g.KW, g.SW, left)
    margins = (
        (-rows.start, -(-g.H // g.SH) + rows.stop - 1 - g.OH),
        (-columns.start, -(-g.W // g.SW) + columns.stop - 1 - g.OW),
    )
    if min(*margins[0], *margins[1]) < 0:
        return None
    O = g.SH * g.SW * g.C
    return Geometry(g.OH, g.OW, g.O, O, len(rows), len(columns), 1, 1, 1, 1, margins, 1)


def taps_of(g: Geometry) -> list[tuple[int, int, int, int, int, int]]:
    """Return what belongs together: the pixel (a, b), the window's (t, u), the tap (i, j)."""
    (top, _), (left, _) = g.margins
    along_h, along_w = (
        [
            (a, t, i)
            for a in range(S)
            for t, e in enumerate(reach(K, S, margin))
            if 0 <= (i := a + margin - S * e) < K
        ]
        for K, S, margin in ((g.KH, g.SH, top), (g.KW, g.SW, left))
    )
    return [(a, b, t, u, i, j) for a, t, i in along_h for b, u, j in along_w]


def phases_shape(window: Geometry, g: Geometry) -> tuple[int, ...]:
    """Return the shape of the filters of all phases, (SH, SW, EH, EW, O, C)."""
    return g.SH, g.SW, window.KH, window.KW, g.O, g.C


def in_phases(filters: np.ndarray, g: Geometry) -> np.ndarray:
    """Look at filters (EH, EW, O, SH*SW*C) phase by phase."""
    return filters.reshape(*filters.shape[:3], g.SH, g.SW, g.C).transpose(3, 4, 0, 1, 2, 5)


def write_turned(job: Callable[..., None], phases: np.ndarray, w: np.ndarray, g: Geometry) -> None:
    """Write the filters of dx: (KH, KW, C, O) -> (SH, SW, EH, EW, O, C)."""
    found = taps_of(g)
    if len(found) < phases[..., 0, 0].size:
        job(np.copyto, phases, 0)
    for a, b, t, u, i, j in found:
        job(np.copyto, phases[a, b, t, u], w[i, j].T)


def write_phases(
    script: Script, cols: np.ndarray, phases: np.ndarray, dx: np.ndarray, g: Geometry
) -> None:
    """Write dx phase by phase.

    cols: windows of dy, (m*BH*BW, EH*EW*O), for BH x BW blocks.  phases: from `write_turned`.
    """
    found, EW = taps_of(g), phases.shape[3]
    m, BH, BW = len(dx), -(-g.H // g.SH), -(-g.W // g.SW)
    for a, b in np.ndindex(g.SH, g.SW):
        places = dx[:, a :: g.SH, b :: g.SW]
        taps = [
            t * EW + u for pixel_a, pixel_b, t, u, _, _ in found if (pixel_a, pixel_b) == (a, b)
        ]
        if not taps:
            script(places.fill, 0)
            continue
        some = slice(min(taps) * g.O, (max(taps) + 1) * g.O)
        phase = script.new((m, BH, BW, g.C))
        matrix = phases[a, b].reshape(-1, g.C)[some]
        write_product(script, cols[:, some], matrix, phase.reshape(-1, g.C))
        script(np.copyto, places, phase[:, : places.shape[1], : places.shape[2]])
        script.free(phase)


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
