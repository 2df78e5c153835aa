"""Convolution as one matrix product over windows, in chunks: the book's way, written for speed.

The rows of the matrix are copied with runs of KW*C numbers.  Where a window moves by one pixel,
dx is a convolution too: that of dy with the filters turned by 180 degrees.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
from numpy.lib.stride_tricks import as_strided

from .geometry import Geometry, chunks
from .script import Script
from .team import Jobs
from .winograd import add_product

CHUNK_BYTES = 1 << 19  # of columns and output
LARGE, ROWS = 1 << 19, 256  # bytes of filters that are worth so many rows in a chunk


class Im2col:
    """The calls of one convolution with any stride and dilation, in one group."""

    def __init__(self, g: Geometry) -> None:
        self.g = g
        self.pointwise = g.T == 1 and g.plain and g.margins == ((0, 0), (0, 0))

    def parts(self, n: int) -> Iterator[slice]:
        """Cut n pictures into chunks that stay in the cache, yet are worth reading w for."""
        g = self.g
        row = (g.T * g.C + g.O) * 4
        least = ROWS * row if g.T * g.C * g.O * 4 > LARGE else 0
        return chunks(n, g.OH * g.OW * row, max(CHUNK_BYTES, least))

    def forward(
        self,
        script: Script,
        x: np.ndarray,
        w: np.ndarray,
        y: np.ndarray | None,
        put: Callable[[slice, np.ndarray], None],
    ) -> None:
        """Write the calls of y = conv(x, w), without bias.

        x: (n, H, W, C).  w: (KH, KW, C, O).  y: (n, OH, OW, O), or None: then a chunk of it lies
        in memory that is used again.  put: is called with each chunk and its y, and writes what is
        to be done with it.
        """
        g = self.g
        for part in self.parts(len(x)):
            m = part.stop - part.start
            chunk = script.new((m, g.OH, g.OW, g.O)) if y is None else y[part]
            cols = self.columns(script, x[part])
            script(np.matmul, cols, w.reshape(-1, g.O), chunk.reshape(-1, g.O))
            script.free(cols if not self.pointwise else None)
            put(part, chunk)
            script.free(chunk if y is None else None)

    def columns(self, script: Script, x: np.ndarray) -> np.ndarray:
        """Write im2col: (m, H, W, C) -> (m*OH*OW, KH*KW*C)."""
        g = self.g
        if self.pointwise:
            return x.reshape(-1, g.C)
        padded = pad(script, x, g)
        S = padded.strides
        m = len(x)
        cols = script.new((m, g.OH, g.OW, g.KH, g.KW, g.C))
        windows = as_strided(
            padded,
            cols.shape,
            (S[0], g.SH * S[1], g.SW * S[2], g.DH * S[1], g.DW * S[2], S[3]),
        )
        script(np.copyto, cols, windows)
        return cols.reshape(m * g.OH * g.OW, -1)

    def backward(
        self,
        script: Script,
        x: np.ndarray,
        get: Callable[[slice], np.ndarray],
        dw: np.ndarray,
        db: np.ndarray | None,
        turned: np.ndarray | None,
        dx: np.ndarray | None,
    ) -> None:
        """Write the calls of all gradients.

        get: is called with each chunk, writes what makes its dy, and returns it: (m, OH, OW, O).
        turned: the filters from `write_turned`, for dx.
        """
        g, room = self.g, None
        for part in self.parts(len(x)):
            first = part.start == 0
            dy = get(part)
            rows = dy.reshape(-1, g.O)
            if db is not None:
                add_product(script, script.ones(len(rows)), rows, db, first)
            cols = self.columns(script, x[part])
            if not first and room is None:
                room = script.new((g.T * g.C, g.O))
            add_product(script, cols.T, rows, dw.reshape(-1, g.O), first, room)
            script.free(cols if not self.pointwise else None)
            if dx is not None and turned is not None:
                self.write_dx(script, dy, turned, dx[part])
            script.free(dy)
        script.free(room)

    @property
    def mirrored(self) -> Geometry | None:
        """The convolution of dy that gives dx, where the window moves by one pixel."""
        g = self.g
        if not g.plain:
            return None
        (top, bottom), (left, right) = g.margins
        margins = (g.KH - 1 - top, g.KH - 1 - bottom), (g.KW - 1 - left, g.KW - 1 - right)
        if min(min(margins)) < 0:
            return None
        return Geometry(g.OH, g.OW, g.O, g.C, g.KH, g.KW, 1, 1, 1, 1, margins, 1)

    def write_turned(self, job: Jobs, turned: np.ndarray, w: np.ndarray) -> None:
        """Write the filters as dx needs them: (KH, KW, C, O) -> (KH, KW, O, C), perhaps turned."""
        source = w if self.mirrored is None else w[::-1, ::-1]
        job(np.copyto, turned, source.transpose(0, 1, 3, 2))

    def write_dx(self, script: Script, dy: np.ndarray, turned: np.ndarray, dx: np.ndarray) -> None:
        """Write dx of a chunk: a convolution of dy, or windows added up where they were read."""
        g, rows = self.g, dy.reshape(-1, self.g.O)
        if self.pointwise:
            script(np.matmul, rows, turned.reshape(g.O, g.C), dx.reshape(-1, g.C))
            return
        if self.mirrored is not None:
            mirror = Im2col(self.mirrored)
            cols = mirror.columns(script, dy)
            script(np.matmul, cols, turned.reshape(-1, g.C), dx.reshape(-1, g.C))
            script.free(cols)
            return
        m = len(dy)
        taps = script.new((g.T, m, g.OH, g.OW, g.C))
        script(np.matmul, rows, turned.reshape(g.T, g.O, g.C), taps.reshape(g.T, -1, g.C))
        (top, bottom), (left, right) = g.margins
        padded = script.new((m, top + g.H + bottom, left + g.W + right, g.C))
        script(padded.fill, 0)
        for k, tap in enumerate(taps):
            i, j = divmod(k, g.KW)
            i, j = i * g.DH, j * g.DW
            view = padded[
                :, i : i + (g.OH - 1) * g.SH + 1 : g.SH, j : j + (g.OW - 1) * g.SW + 1 : g.SW
            ]
            script(np.add, view, tap, view)
        script.free(taps)
        script(np.copyto, dx, padded[:, top : top + g.H, left : left + g.W])
        script.free(padded)


def pad(script: Script, x: np.ndarray, g: Geometry) -> np.ndarray:
    """Write x into the middle of zeros; return x itself where there are no margins."""
    (top, bottom), (left, right) = g.margins
    if g.margins == ((0, 0), (0, 0)):
        return x
    shape = (len(x), top + g.H + bottom, left + g.W + right, g.C)
    padded = script.constant(("padded", g.margins, g.H, g.W), shape, 0)
    script(np.copyto, padded[:, top : top + g.H, left : left + g.W], x)
    return padded
