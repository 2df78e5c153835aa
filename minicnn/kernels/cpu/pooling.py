"""Max-pooling by 2 of pictures, and row-wise work on pixels."""

from __future__ import annotations

import numpy as np

from .script import Script, maximum

Winners = tuple[np.ndarray, np.ndarray]


def new_winners(script: Script, y: np.ndarray) -> Winners:
    """Return room for which of each two columns, then of each two rows, was the larger.

    y: (m, OH, OW, C), the output.
    """
    m, OH, OW, C = y.shape
    return script.new((m, 2 * OH, OW, C), bool), script.new(y.shape, bool)


def pool_by_2(script: Script, x: np.ndarray, y: np.ndarray, winners: Winners | None) -> None:
    """Write max-pooling by 2, columns first: of equals the first in the window's order wins.

    x: (m, H, W, C).  y: (m, H//2, W//2, C).  winners: takes note of who won, if it isn't None.
    """
    m, OH, OW, C = y.shape
    left, right = (x[:, : 2 * OH, k : 2 * OW : 2] for k in (0, 1))
    wide = script.new((m, 2 * OH, OW, C))
    script(maximum, left, right, wide)
    upper, lower = wide[:, 0::2], wide[:, 1::2]
    script(maximum, upper, lower, y)
    if winners is not None:
        script(np.greater_equal, left, right, winners[0])
        script(np.greater_equal, upper, lower, winners[1])
    script.free(wide)


def unpool_by_2(script: Script, dy: np.ndarray, winners: Winners, dx: np.ndarray) -> None:
    """Write what sends dy, (m, OH, OW, C), to the winners; zero elsewhere in dx, (m, H, W, C)."""
    m, OH, OW, C = dy.shape
    if dx.shape[1] > 2 * OH:
        script(dx[:, 2 * OH :].fill, 0)
    if dx.shape[2] > 2 * OW:
        script(dx[:, :, 2 * OW :].fill, 0)
    wide = script.new((m, 2 * OH, OW, C))
    upper, lower = wide[:, 0::2], wide[:, 1::2]
    script(np.multiply, dy, winners[1], upper)
    script(np.subtract, dy, upper, lower)
    left, right = (dx[:, : 2 * OH, k : 2 * OW : 2] for k in (0, 1))
    script(np.multiply, wide, winners[0], left)
    script(np.subtract, wide, left, right)
    script.free(wide)
