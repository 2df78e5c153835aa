"""Pooling of pictures: maxima by 2, maxima and sums of any windows.

A maximum is taken along the columns first, then of those along the rows: of equals the first in the
window's order wins, as in the book, and a window of KH x KW takes KH + KW steps.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from ..geometry import Geometry
from ..script import Script, maximum

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
    script(np.copyto, upper, winners[1])  # numbers: a product with bools would be converted
    script(np.multiply, dy, upper, upper)
    script(np.subtract, dy, upper, lower)
    left, right = (dx[:, : 2 * OH, k : 2 * OW : 2] for k in (0, 1))
    script(np.copyto, left, winners[0])
    script(np.multiply, wide, left, left)
    script(np.subtract, wide, left, right)
    script.free(wide)


def taps(x: np.ndarray, axis: int, K: int, S: int, count: int) -> Iterator[np.ndarray]:
    """Yield x as each tap of a window along one axis sees it: ``count`` steps of S pixels."""
    for k in range(K):
        where = [slice(None)] * x.ndim
        where[axis] = slice(k, k + (count - 1) * S + 1, S)
        yield x[tuple(where)]


def padded(script: Script, x: np.ndarray, g: Geometry, value: float) -> np.ndarray:
    """Write x into the middle of margins of some value; return x itself where there are none."""
    (top, bottom), (left, right) = g.margins
    if g.margins == ((0, 0), (0, 0)):
        return x
    shape = len(x), top + g.H + bottom, left + g.W + right, g.C
    whole = script.constant(("padded", g.margins, g.H, g.W, value), shape, value)
    script(np.copyto, whole[:, top : top + g.H, left : left + g.W], x)
    return whole


def cropped(script: Script, whole: np.ndarray, dx: np.ndarray, g: Geometry) -> None:
    """Write the middle of what has margins into dx, unless it is dx."""
    (top, _), (left, _) = g.margins
    if whole is not dx:
        script(np.copyto, dx, whole[:, top : top + g.H, left : left + g.W])
        script.free(whole)


def room_for(script: Script, dx: np.ndarray, g: Geometry) -> np.ndarray:
    """Return dx itself, or room for it with its margins."""
    (top, bottom), (left, right) = g.margins
    if g.margins == ((0, 0), (0, 0)):
        return dx
    return script.new((len(dx), top + g.H + bottom, left + g.W + right, g.C))


def maximum_of_windows(
    script: Script, x: np.ndarray, y: np.ndarray, winners: tuple[np.ndarray, ...], g: Geometry
) -> None:
    """Write max-pooling.  winners: room for the column of the window, then the row, that won."""
    whole = padded(script, x, g, -np.inf)
    wide = script.new((len(x), whole.shape[1], g.OW, g.C))
    along_columns, along_rows = winners or (None, None)
    maximum_along(script, list(taps(whole, 2, g.KW, g.SW, g.OW)), wide, along_columns)
    maximum_along(script, list(taps(wide, 1, g.KH, g.SH, g.OH)), y, along_rows)
    script.free(wide)


def maximum_along(
    script: Script, views: list[np.ndarray], y: np.ndarray, winner: np.ndarray | None
) -> None:
    """Write the maximum of some views, and the number of the first that has it."""
    first, *others = views
    if winner is not None:
        script(winner.fill, 0)
    if not others:
        script(np.copyto, y, first)
    larger = script.new(y.shape, bool)
    number = script.new(y.shape, "uint8")
    for k, view in enumerate(others, start=1):
        best = first if k == 1 else y
        if winner is not None:
            script(np.greater, view, best, larger)
            script(np.multiply, larger, np.uint8(k), number)
            script(maximum, winner, number, winner)  # later numbers are larger
        script(maximum, best, view, y)
    script.free(larger, number)


def spread_to_winners(
    script: Script, dy: np.ndarray, winners: tuple[np.ndarray, ...], dx: np.ndarray, g: Geometry
) -> None:
    """Write what sends dy to the winners: along the rows, then along the columns."""
    whole = room_for(script, dx, g)
    wide = script.new((len(dx), whole.shape[1], g.OW, g.C))
    along_columns, along_rows = winners
    spread_along(script, dy, along_rows, wide, list(taps(wide, 1, g.KH, g.SH, g.OH)))
    spread_along(script, wide, along_columns, whole, list(taps(whole, 2, g.KW, g.SW, g.OW)))
    script.free(wide)
    cropped(script, whole, dx, g)


def spread_along(
    script: Script, dy: np.ndarray, winner: np.ndarray, dx: np.ndarray, views: list[np.ndarray]
) -> None:
    """Write dx = 0, and add dy to each of the views of it where that won."""
    script(dx.fill, 0)
    won, share = script.new(dy.shape, bool), script.like(dy)
    for k, view in enumerate(views):
        script(np.equal, winner, np.uint8(k), won)
        script(np.multiply, dy, won, share)
        script(np.add, view, share, view)
    script.free(won, share)


def add_up_windows(script: Script, x: np.ndarray, y: np.ndarray, g: Geometry) -> None:
    """Write the sum of each window: rows first, which are long."""
    whole = padded(script, x, g, 0)
    tall = script.new((len(x), g.OH, *whole.shape[2:]))
    add_along(script, list(taps(whole, 1, g.KH, g.SH, g.OH)), tall)
    add_along(script, list(taps(tall, 2, g.KW, g.SW, g.OW)), y)
    script.free(tall)


def add_along(script: Script, views: list[np.ndarray], y: np.ndarray) -> None:
    """Write the sum of some views."""
    first, *others = views
    if not others:
        script(np.copyto, y, first)
    for k, view in enumerate(others):
        script(np.add, first if k == 0 else y, view, y)


def spread_to_windows(script: Script, dy: np.ndarray, dx: np.ndarray, g: Geometry) -> None:
    """Write what adds dy to every pixel of its window: along the columns, then along the rows."""
    whole = room_for(script, dx, g)
    tall = script.new((len(dx), g.OH, *whole.shape[2:]))
    give_along(script, dy, tall, list(taps(tall, 2, g.KW, g.SW, g.OW)), g.SW)
    give_along(script, tall, whole, list(taps(whole, 1, g.KH, g.SH, g.OH)), g.SH)
    script.free(tall)
    cropped(script, whole, dx, g)


def give_along(
    script: Script, dy: np.ndarray, dx: np.ndarray, views: list[np.ndarray], S: int
) -> None:
    """Write dx = 0, and add dy to each of the views of it; copy it where they don't overlap."""
    apart = len(views) <= S
    if not apart or dy.size * len(views) != dx.size:
        script(dx.fill, 0)
    for view in views:
        if apart:
            script(np.copyto, view, dy)
        else:
            script(np.add, view, dy, view)
