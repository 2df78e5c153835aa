"""Overlap: where the pixels of a picture lie in tiles that read 6x6 of them, and start every 4.

Tiles are (6, slots, rows of tiles, m, u, C): the column within the tile, the row, which tile.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from ..memory import strided
from ..script import Script

TILE, SPAN = 4, 6  # outputs of a tile along one side, and the inputs that it reads


def places(pixels: int, margin: int, slots: int, tiles: int) -> Iterator[tuple[slice, slice, int]]:
    """Yield where pixels lie in tiles, along one side: (slots, tiles, first pixel).

    Slot i of tile a has pixel 4*a + i - margin.  Slots are put together if all their tiles have
    pixels, or all but the same ones.
    """
    found: dict[tuple[int, int], list[int]] = {}
    for i in range(slots):
        start = max(0, -((i - margin) // TILE))
        stop = min(tiles, (pixels - 1 + margin - i) // TILE + 1)
        if start < stop:
            found.setdefault((start, stop), []).append(i)
    for (start, stop), each in found.items():
        yield slice(each[0], each[-1] + 1), slice(start, stop), TILE * start + each[0] - margin


def picture_in_tiles(
    x: np.ndarray, i: slice, a: slice, y: int, j: slice, b: slice, z: int
) -> np.ndarray:
    """Return a view of pictures (m, H, W, C) as columns j, rows i, tiles a, m, tiles b, C.

    y, z: the row and the column of its first pixel.
    """
    S = x.strides
    return strided(
        x[:, y:, z:],
        (length(j), length(i), length(a), len(x), length(b), x.shape[-1]),
        (S[2], S[1], TILE * S[1], S[0], TILE * S[2], S[3]),
    )


def length(part: slice) -> int:
    """Return how many there are in a slice."""
    return int(part.stop - part.start)


def first_slots(half: np.ndarray, slots: int) -> np.ndarray:
    """Return the first slots of (6, 6, ...) as a matrix of 6 rows, in place."""
    return half.reshape(SPAN, SPAN, -1)[:, :slots].reshape(SPAN, -1)


def in_order(tiles: np.ndarray) -> np.ndarray:
    """Return a view of (columns, rows, t, m, u, O) as (rows, columns, m, t, u, O)."""
    return tiles.transpose(1, 0, 3, 2, 4, 5)


def add_shifted(script: Script, here: np.ndarray, there: np.ndarray, shift: int) -> None:
    """Write here += there, so many numbers further on: a tile's overlap goes to the next tile.

    It is one long run, and where a line of tiles ends and the next begins, ``there`` is zero.
    """
    to, of = here.reshape(-1)[shift:], there.reshape(-1)[:-shift]
    script(np.add, to, of, to)
