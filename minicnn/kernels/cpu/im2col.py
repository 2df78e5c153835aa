"""Convolution as one matrix product over windows, in chunks: the book's way, written for speed.

The rows of the matrix are copied with runs of KW*C numbers.  Narrow convolutions compute several
outputs in one row (`beside`).  dx is a convolution too, of dy (`turned`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import cached_property

import numpy as np

from ..geometry import Geometry, Pictures, chunks
from ..script import Script
from .beside import WIDTH, add_filters, outputs_beside, widened, write_filters
from .products import add_gradient, write_product
from .turned import (
    in_phases,
    phases_shape,
    turned,
    write_blocks,
    write_phases,
    write_taps,
    write_turned,
)
from .windows import columns
from .winograd import add_product

CHUNK_BYTES = 1 << 19  # of columns and output
LARGE, ROWS = 1 << 19, 256  # bytes of filters that are worth so many rows in a chunk


class Im2col:
    """The calls of one convolution with any stride and dilation, in one group.

    q: outputs that are computed side by side.  wide: the geometry of the product.
    """

    def __init__(self, g: Geometry) -> None:
        self.g = g
        self.q = outputs_beside(g)
        self.wide = widened(g, self.q)
        self.pointwise = g.T == 1 and g.plain and g.margins == ((0, 0), (0, 0))

    def parts(self, n: int) -> Iterator[slice]:
        """Cut n pictures into chunks that stay in the cache, yet are worth reading w for."""
        g = self.wide
        row = (g.T * g.C + g.O) * 4
        least = ROWS * row if g.T * g.C * g.O * 4 > LARGE else 0
        return chunks(n, g.OH * g.OW * row, max(CHUNK_BYTES, least))

    @property
    def filters_shape(self) -> tuple[int, ...]:
        """The shape of what `write_filters` writes."""
        g = self.wide
        return g.KH, g.KW, g.C, g.O

    def write_filters(self, job: Callable[..., None], filters: np.ndarray, w: np.ndarray) -> None:
        """Write the filters as the product needs them; where ``q`` is 1 that is w as it is."""
        write_filters(job, filters, w, self.g, self.q)

    def forward(
        self,
        script: Script,
        x: Pictures,
        filters: np.ndarray,
        y: np.ndarray | None,
        put: Callable[[slice, np.ndarray], None],
    ) -> None:
        """Write the calls of y = conv(x, w), without bias.

        x: (n, H, W, C).  filters: from `write_filters`, or w.  y: (n, OH, OW, O), or None: then a
        chunk of it lies in memory that is used again.  put: is called with each chunk and its y,
        and writes what is to be done with it.
        """
        g = self.g
        for part in self.parts(len(x)):
            m = part.stop - part.start
            chunk = script.new((m, g.OH, g.OW, g.O)) if y is None else y[part]
            cols = self.columns(script, x[part])
            matrix = filters.reshape(-1, self.wide.O)
            write_product(script, cols, matrix, chunk.reshape(-1, self.wide.O))
            script.free(cols if not self.pointwise else None)
            put(part, chunk)
            script.free(chunk if y is None else None)

    def columns(self, script: Script, x: np.ndarray) -> np.ndarray:
        """Write im2col, for outputs side by side; look at x itself where a window is a pixel."""
        if self.pointwise:
            return x.reshape(-1, self.g.C)
        return columns(script, x, self.wide)

    def backward(
        self,
        script: Script,
        x: Pictures,
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
        total = dw if self.q == 1 else script.new(self.filters_shape)
        for part in self.parts(len(x)):
            first = part.start == 0
            dy = get(part)
            if db is not None:
                rows = dy.reshape(-1, g.O)
                add_product(script, script.ones(len(rows)), rows, db, first)
            cols, rows = self.columns(script, x[part]), dy.reshape(-1, self.wide.O)
            matrix = total.reshape(-1, self.wide.O)
            if not first and room is None:
                room = script.new(matrix.shape)
            add_gradient(script, cols, rows, matrix, first, room)
            script.free(cols if not self.pointwise else None)
            if dx is not None and turned is not None:
                self.write_dx(script, dy, turned, dx[part])
            script.free(dy)
        if self.q > 1:
            add_filters(script, total, dw, g, self.q)
            script.free(total)
        script.free(room)

    @cached_property
    def turned(self) -> Im2col | None:
        """The convolution of dy that gives dx, in blocks where the window moves by more pixels."""
        geometry = turned(self.g)
        return None if geometry is None else Im2col(geometry)

    @cached_property
    def phases(self) -> bool:
        """Whether the pixels of the blocks are computed in turn: one product would be wide."""
        way, block = self.turned, self.g.SH * self.g.SW
        return way is not None and block > 1 and way.g.O > WIDTH

    @property
    def turned_shape(self) -> tuple[int, ...]:
        """The shape of what `write_turned` writes."""
        g = self.g
        if self.turned is None:
            return g.KH, g.KW, g.O, g.C
        if self.phases:
            return phases_shape(self.turned.g, g)
        return self.turned.filters_shape

    def write_turned(self, job: Callable[..., None], filters: np.ndarray, w: np.ndarray) -> None:
        """Write the filters as dx needs them."""
        if self.turned is None:
            job(np.copyto, filters, w.transpose(0, 1, 3, 2))
        elif self.phases:
            write_turned(job, filters, w, self.g)
        elif self.turned.q == 1:
            write_turned(job, in_phases(filters, self.g), w, self.g)
        else:
            g = self.turned.g
            plain = np.empty((g.KH, g.KW, g.C, g.O), w.dtype)
            write_turned(job, in_phases(plain, self.g), w, self.g)
            self.turned.write_filters(job, filters, plain)

    def write_dx(self, script: Script, dy: np.ndarray, filters: np.ndarray, dx: np.ndarray) -> None:
        """Write dx of a chunk."""
        g, way = self.g, self.turned
        if way is None:
            write_taps(script, dy, filters, dx, g)
        elif self.phases:
            cols = way.columns(script, dy)
            write_phases(script, cols, filters, dx, g)
            script.free(cols if not way.pointwise else None)
        elif g.SH == g.SW == 1:
            way.forward(script, dy, filters, dx, lambda part, chunk: None)
        else:
            way.forward(
                script,
                dy,
                filters,
                None,
                lambda part, blocks: write_blocks(script, blocks, dx[part], g),
            )
