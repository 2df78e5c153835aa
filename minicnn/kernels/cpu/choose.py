"""Which way a convolution is computed on the CPU."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

import numpy as np

from ..geometry import Geometry

ALGORITHMS = ("auto", "direct", "winograd")
WASTE = 2  # outputs of tiles for each that is wanted, from which on tiles are slower: 5x5 in 8x8
chosen: ContextVar[str | None] = ContextVar("conv_algorithm", default=None)


@contextmanager
def conv_algorithm(name: str) -> Iterator[None]:
    """Compute convolutions in one way while the block runs.

    name: "auto" takes what was measured to be fastest, "direct" the product over windows, and
    "winograd" F(4x4, 3x3) wherever it is possible (3x3, stride 1, float32), which costs about one
    decimal digit.  MINICNN_CONV_ALGORITHM says it for a whole process.
    """
    token = chosen.set(checked(name))
    try:
        yield
    finally:
        chosen.reset(token)


def checked(name: Any) -> str:
    """Return the name of an algorithm, or raise ValueError."""
    if name not in ALGORITHMS:
        raise ValueError(f"conv_algorithm {name!r}: expected one of {', '.join(ALGORITHMS)}")
    return str(name)


def algorithm() -> str:
    """Return which way is wanted now."""
    return chosen.get() or checked(os.environ.get("MINICNN_CONV_ALGORITHM", "auto"))


def choose(g: Geometry, N: int, dtype: np.dtype[Any], need_dx: bool) -> str:
    """Return "direct", "winograd" or "planar" for a convolution of N pictures."""
    if g.C <= 4 and g.plain and g.T > 1 and not need_dx and min(g.margins) >= (0, 0):
        return "planar"
    wanted = algorithm()
    possible = (
        (g.KH, g.KW) == (3, 3)
        and g.plain
        and dtype == np.float32
        and max(g.margins[0][0], g.margins[1][0]) <= 2
        and max(g.margins[0][1], g.margins[1][1]) <= 2
    )
    if wanted == "direct" or not possible:
        return "direct"
    if wanted == "winograd":
        return "winograd"
    tiles = -(-g.OH // 4) * -(-g.OW // 4)
    few = min(g.C, g.O) <= 24  # the product over windows is nearly as fast
    wasteful = 16 * tiles > (1.25 if few else WASTE) * g.OH * g.OW
    large = min(g.C, g.O) >= 16 and tiles * N >= 64
    return "winograd" if large and not wasteful else "direct"
