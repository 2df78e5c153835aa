"""Windows of pictures as rows of a matrix: im2col."""

from __future__ import annotations

import numpy as np

from ..geometry import Geometry
from ..memory import strided
from ..script import Script


def columns(script: Script, x: np.ndarray, g: Geometry) -> np.ndarray:
    """Write im2col: (m, H, W, C) -> (m*OH*OW, KH*KW*C)."""
    whole = pad(script, x, g)
    S = whole.strides
    cols = script.new((len(x), g.OH, g.OW, g.KH, g.KW, g.C))
    windows = strided(
        whole,
        cols.shape,
        (S[0], g.SH * S[1], g.SW * S[2], g.DH * S[1], g.DW * S[2], S[3]),
    )
    script(np.copyto, cols, windows)
    return cols.reshape(len(x) * g.OH * g.OW, -1)


def pad(script: Script, x: np.ndarray, g: Geometry) -> np.ndarray:
    """Write x into the middle of zeros; return x itself where there are no margins."""
    (top, bottom), (left, right) = g.margins
    if g.margins == ((0, 0), (0, 0)):
        return x
    shape = (len(x), top + g.H + bottom, left + g.W + right, g.C)
    padded = script.constant(("padded", g.margins, g.H, g.W), shape, 0)
    script(np.copyto, padded[:, top : top + g.H, left : left + g.W], x)
    return padded
