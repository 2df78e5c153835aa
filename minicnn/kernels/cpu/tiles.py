"""Tiles: pictures as squares of outputs, and what is done to a tile before it is stored.

Winograd's products come out tile-major, (4, 4, tiles, O): the place within the tile first.  So the
four pixels of a pooling window are four long contiguous runs, and pooling is three maxima.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from ..memory import strided
from ..script import Script, maximum
from .overlap import in_order
from .rows import positive


def new_tiles(script: Script, shape: tuple[int, ...], dtype: Any = None) -> np.ndarray:
    """Return new tiles (rows, columns, m, t, u, O), in memory in the order of Winograd's."""
    rows, columns, m, t, u, O = shape
    return in_order(script.new((columns, rows, t, m, u, O), dtype))


def pairs(
    picture: np.ndarray, tiles: np.ndarray, size: int
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Yield views of a picture and of its tiles that belong together, in one shape.

    picture: (m, H, W, O).  tiles: (size, size, m, t, u, O), which cover it, at the bottom and on
    the right perhaps more than it.  Yields 1 pair where they cover it exactly, at most 4.
    """
    m, H, W, O = picture.shape
    S = picture.strides
    for rows, height, top in bands(H, size):
        for columns, width, left in bands(W, size):
            view = strided(
                picture[:, top * size :, left * size :],
                (height, width, m, rows, columns, O),
                (S[1], S[2], S[0], size * S[1], size * S[2], S[3]),
            )
            inside = slice(top, top + rows), slice(left, left + columns)
            yield view, tiles[:height, :width, :, inside[0], inside[1]]


def bands(H: int, size: int) -> Iterator[tuple[int, int, int]]:
    """Yield (tiles, pixels of each, first tile): the whole tiles along H, then the cut one."""
    if H // size:
        yield H // size, size, 0
    if H % size:
        yield 1, H % size, H // size


def store(script: Script, tiles: np.ndarray, y: np.ndarray, relu: bool) -> None:
    """Write the calls that lay out tiles as pictures, cut off at zero if ``relu``.

    tiles: (size, size, m, t, u, O).  y: (m, OH, OW, O).
    """
    zero = script.zeros(y.shape[-1])
    for picture, tile in pairs(y, tiles, tiles.shape[0]):
        if relu:
            script(maximum, tile, zero, picture)
        else:
            script(np.copyto, picture, tile)


def load(script: Script, dy: np.ndarray, y: np.ndarray | None, tiles: np.ndarray) -> None:
    """Write the calls that undo `store`: tiles of dy, zero where y was cut off, zero outside.

    dy: (m, OH, OW, O).  y: what `store` wrote if it had ``relu``, or else None.
    """
    size, (_, OH, OW, _) = tiles.shape[0], dy.shape
    if OH % size or OW % size:
        script(tiles.fill, 0)
    if y is None:
        for picture, tile in pairs(dy, tiles, size):
            script(np.copyto, tile, picture)
        return
    mask = positive(script, y)
    for (picture, tile), (ones, _) in zip(
        pairs(dy, tiles, size), pairs(mask, tiles, size), strict=True
    ):
        script(np.multiply, picture, ones, tile)
    script.free(mask)


def pool(
    script: Script, tiles: np.ndarray, training: bool
) -> tuple[np.ndarray, tuple[np.ndarray, np.ndarray] | None]:
    """Write the calls of max-pooling by 2 within tiles.

    tiles: (4, 4, m, t, u, O).  Returns (2, 2, m, t, u, O) and, in training, where the left one and
    where the upper one was the larger; of equals these are, as in the book.
    """
    left, right = tiles[:, 0::2], tiles[:, 1::2]
    wide = new_tiles(script, left.shape)
    script(maximum, left, right, wide)
    upper, lower = wide[0::2], wide[1::2]
    pooled = new_tiles(script, upper.shape)
    script(maximum, upper, lower, pooled)
    winners = None
    if training:
        winners = new_tiles(script, left.shape, bool), new_tiles(script, upper.shape, bool)
        script(np.greater_equal, left, right, winners[0])
        script(np.greater_equal, upper, lower, winners[1])
    script.free(wide)
    return pooled, winners


def unpool(
    script: Script, pooled: np.ndarray, winners: tuple[np.ndarray, np.ndarray], tiles: np.ndarray
) -> None:
    """Write the calls that send gradients ``pooled`` to the winners within tiles."""
    left, right = tiles[:, 0::2], tiles[:, 1::2]
    wide = new_tiles(script, left.shape)
    upper, lower = wide[0::2], wide[1::2]
    script(np.copyto, upper, winners[1])  # numbers: a product with bools would be converted
    script(np.multiply, pooled, upper, upper)
    script(np.subtract, pooled, upper, lower)
    script(np.copyto, left, winners[0])
    script(np.multiply, wide, left, left)
    script(np.subtract, wide, left, right)
    script.free(wide)
