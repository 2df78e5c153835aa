"""Slopes by differences, and how they compare with a formula."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from typing import Any

import numpy as np

from .report import Argument

STEPS = (1e-3, 1e-4, 1e-5, 1e-6)  # sizes of h that are tried, relative to the largest entry
EXHAUSTIVE = 200  # arguments up to this size are checked entry by entry
ENTRIES, DIRECTIONS = 24, 6  # of larger ones


def check_argument(
    name: str,
    array: np.ndarray,
    grad: Any,
    value: Callable[[], float],
    magnitude: float,
    rtol: float,
    seed: int,
) -> Argument:
    """Compare ``grad`` with differences of ``value()`` as ``array`` is moved, in place.

    magnitude: of the terms that value() adds up; what float64 can't resolve of them is noise.
    """
    result = Argument(name, array.shape)
    grad = np.asarray(grad)
    if grad.shape != array.shape or grad.dtype != array.dtype:
        got = f"{grad.shape} {grad.dtype}"
        result.problem = f"the gradient is {got}, the argument {array.shape} {array.dtype}"
        return result
    if not np.isfinite(grad).all():
        result.problem = "the gradient has values that aren't finite"
        return result
    original, base = array.copy(), value()
    if base != value():
        result.problem = "forward isn't repeatable: draw random numbers from self.stream"
        return result
    largest = float(np.abs(grad).max(initial=0.0))
    scale = float(np.abs(array).max(initial=0.0)) or 1.0
    for label, direction in directions(array, seed):
        formula = float((grad * direction).sum())
        floor = 1e-3 * largest + 1e-12

        def along(h: float, direction: np.ndarray = direction) -> float:
            np.multiply(direction, h, out=array)
            np.add(array, original, out=array)
            with np.errstate(all="ignore"):  # a step may leave the function's domain
                return value()

        found = slope(along, base, magnitude, scale, floor, rtol)
        array[...] = original
        if found is None:
            result.kinks += 1
            continue
        measured, noise = found
        result.checked += 1
        size = abs(formula) + abs(measured) + floor + noise / rtol
        error = abs(formula - measured) / size
        if not error <= result.error or result.checked == 1:
            result.error, result.worst = error, label
            result.formula, result.difference = formula, measured
    return result


def directions(array: np.ndarray, seed: int) -> list[tuple[str, np.ndarray]]:
    """Return unit vectors with their labels: all entries, or some and random directions."""
    rng = np.random.default_rng(seed + 1)
    entries = np.arange(array.size)
    if array.size > EXHAUSTIVE:
        entries = rng.choice(array.size, ENTRIES, replace=False)
    vectors = []
    for i in entries:
        v = np.zeros(array.size)
        v[i] = 1.0
        index = [int(k) for k in np.unravel_index(i, array.shape)]
        vectors.append((str(index), v.reshape(array.shape)))
    if array.size > EXHAUSTIVE:
        for k in range(DIRECTIONS):
            # No entry is smaller than a tenth of its share, so that none is invisible.
            v = rng.standard_normal(array.shape)
            v = np.sign(v) * np.maximum(np.abs(v), 0.1)
            vectors.append((f" direction {k}", v / np.sqrt((v * v).sum())))
    return vectors


def slope(
    along: Callable[[float], float],
    base: float,
    magnitude: float,
    scale: float,
    floor: float,
    rtol: float,
) -> tuple[float, float] | None:
    """Return d along(h) / dh at 0 and its noise, or None next to a kink."""
    for size in STEPS:
        h = size * scale
        values = [(along(h / k), along(-h / k)) for k in (1, 2, 4)]
        central = [(p - m) / (2 * h / k) for k, (p, m) in zip((1, 2, 4), values, strict=True)]
        wide, narrow = ((4 * b - a) / 3 for a, b in pairwise(central))  # Richardson
        noise = 8 * np.finfo(float).eps * magnitude / h  # a few units in the last place
        limit = 0.2 * rtol * (abs(narrow) + floor) + noise
        if not abs(wide - narrow) <= limit:
            continue
        # Right slope minus left slope: proportional to h where smooth, constant at a kink.
        bend, half_bend = (
            (p + m - 2 * base) / (h / k) for k, (p, m) in zip((1, 2), values[:2], strict=True)
        )
        if abs(half_bend) > 0.75 * abs(bend) and abs(half_bend) > 4 * limit:
            continue
        return narrow, noise
    return None
