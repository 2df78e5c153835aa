"""3x3 convolution in tiles of 4x4 outputs: Winograd's F(4x4, 3x3).

`winograd_matrices` tells why this is a convolution.  Here is how it becomes fast with nothing but
array functions: all its steps are matrix products.

- A chunk of pictures is gathered as (6, 6, tiles, C), the place within the tile first.  A transform
  along one direction is then one product (6, 6) @ (6, 6*tiles*C).
- The 36 elementwise products, summed over the channels, are 36 matrix products in one call,
  (36, tiles, C) @ (36, C, O): for 16 outputs 36 products instead of 144.
- The backward pass uses the same matrices transposed: one transform of dy serves both gradients.
- A bias is added to one of the 36 products (`ONES`), and its gradient is read off there.

The transformed input is 2.25 times as large as the input: it is made again in the backward pass.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import cached_property
from math import ceil

import numpy as np
from numpy.lib.stride_tricks import as_strided

from .geometry import Geometry, chunks
from .script import Script
from .team import Jobs
from .winograd_matrices import ONES, float32_matrices

TILE, SPAN = 4, 6  # outputs of a tile along one side, and the inputs that it reads
CHUNK_BYTES = 1 << 20  # of transformed input and output: with what is around them, a core's L2


class Winograd:
    """The calls of one 3x3 convolution of stride 1.

    rows, columns: how many of the OH x OW outputs are wanted, from the top left.
    """

    def __init__(self, g: Geometry, rows: int | None = None, columns: int | None = None) -> None:
        self.g = g
        self.rows, self.columns = rows or g.OH, columns or g.OW
        self.t, self.u = ceil(self.rows / TILE), ceil(self.columns / TILE)
        self.m = float32_matrices()

    def parts(self, n: int) -> Iterator[slice]:
        """Cut n pictures into chunks that stay in the cache, yet are worth reading U for."""
        C, O, tiles = self.g.C, self.g.O, self.t * self.u
        each = SPAN * SPAN * tiles * (C + O) * 4
        least = 128 * each // tiles if C * O > 1 << 13 else 0
        return chunks(n, each, max(CHUNK_BYTES, least))

    # The weights, once for all slices.

    def write_u(self, jobs: Jobs, u: np.ndarray, w: np.ndarray) -> None:
        """Write G w G^T: (3, 3, C, O) -> (36, C, O)."""
        w, u = w.reshape(9, -1), u.reshape(36, -1)
        for job, part in jobs.cut(w.shape[1]):
            job(np.matmul, self.m.GG, w[:, part], u[:, part])

    def write_ut(self, jobs: Jobs, ut: np.ndarray, w: np.ndarray) -> None:
        """Write the same with C and O exchanged, as one lies in memory: (36, O, C)."""
        for job, part in jobs.cut(self.g.O):
            turned = np.empty((3, 3, part.stop - part.start, self.g.C), w.dtype)
            job(np.copyto, turned, w[..., part].transpose(0, 1, 3, 2))
            rows = slice(part.start * self.g.C, part.stop * self.g.C)
            job(np.matmul, self.m.GG, turned.reshape(9, -1), ut.reshape(36, -1)[:, rows])

    # Forward.

    def forward(
        self,
        script: Script,
        x: np.ndarray,
        u: np.ndarray,
        b: np.ndarray | None,
        put: Callable[[slice, np.ndarray], None],
    ) -> None:
        """Write the calls of y = conv(x, w) + b.

        x: (n, H, W, C).  u: from `write_u`.  put: is called with each chunk and its y in tiles,
        (4, 4, m, t, u, O), and writes what is to be done with it.
        """
        for part in self.parts(len(x)):
            m = part.stop - part.start
            v = self.transform(script, x[part])
            products = script.new((36, m * self.t * self.u, self.g.O))
            script(np.matmul, v, u, products)
            script.free(v)
            if b is not None:
                script(np.add, products[ONES], b, products[ONES])
            half = script.new((TILE, products.size // SPAN))
            script(np.matmul, self.m.AT, products.reshape(SPAN, -1), half)
            script.free(products)
            y = script.new((TILE, TILE, m, self.t, self.u, self.g.O))
            script(np.matmul, self.m.AT, half.reshape(TILE, SPAN, -1), y.reshape(TILE, TILE, -1))
            script.free(half)
            put(part, y)
            script.free(y)

    def transform(self, script: Script, x: np.ndarray) -> np.ndarray:
        """Write B^T d B of all tiles d: (m, H, W, C) -> (36, m*t*u, C)."""
        m, C = len(x), self.g.C
        padded = self.pad(script, x)
        S = padded.strides
        windows = as_strided(
            padded,
            (SPAN, SPAN, m, self.t, self.u, C),
            (S[1], S[2], S[0], TILE * S[1], TILE * S[2], S[3]),
        )
        d = script.new(windows.shape)
        script(np.copyto, d, windows)
        half = script.like(d)
        script(np.matmul, self.m.BT, d.reshape(SPAN, -1), half.reshape(SPAN, -1))
        script.free(d)
        v = script.new((36, m * self.t * self.u, C))
        script(np.matmul, self.m.BT, half.reshape(SPAN, SPAN, -1), v.reshape(SPAN, SPAN, -1))
        script.free(half)
        return v

    @cached_property
    def span(self) -> tuple[int, int]:
        """Height and width of what the tiles read, margins counted in."""
        return self.t * TILE + 2, self.u * TILE + 2

    def pad(self, script: Script, x: np.ndarray) -> np.ndarray:
        """Write x into the middle of zeros, (m, *span, C); return x itself if it fits as it is."""
        (top, _), (left, _) = self.g.margins
        if (top, left) == (0, 0) and self.span[0] <= self.g.H and self.span[1] <= self.g.W:
            return x
        m, C = len(x), self.g.C
        height, width = self.inside
        padded = script.constant(("padded", top, left, height, width), (m, *self.span, C), 0)
        middle = padded[:, top : top + height, left : left + width]
        script(np.copyto, middle, x[:, :height, :width])
        return padded

    @cached_property
    def inside(self) -> tuple[int, int]:
        """Height and width of the part of x that the tiles read."""
        (top, _), (left, _) = self.g.margins
        return min(self.g.H, self.span[0] - top), min(self.g.W, self.span[1] - left)

    # Backward.

    def backward(
        self,
        script: Script,
        x: np.ndarray,
        get: Callable[[slice, np.ndarray], None],
        dw: np.ndarray,
        db: np.ndarray | None,
        ut: np.ndarray | None,
        dx: np.ndarray | None,
    ) -> None:
        """Write the calls of all gradients.

        get: is called with each chunk and room for its dy in tiles, (4, 4, m, t, u, O), and writes
        the calls that fill it.  dw, db, dx: where the gradients go; ut: from `write_ut`, for dx.
        """
        du, more = script.new((36, self.g.C, self.g.O)), None
        for part in self.parts(len(x)):
            m, first = part.stop - part.start, part.start == 0
            v = self.transform(script, x[part])
            e = self.transform_dy(script, m, part, get)
            if db is not None:
                add_product(script, script.ones(e.shape[1]), e[ONES], db, first)
            if not first and more is None:
                more = script.like(du)
            add_product(script, v.transpose(0, 2, 1), e, du, first, more)
            if dx is not None:
                script(np.matmul, e, ut, v)
                script.free(e)
                self.write_dx(script, v, dx[part])
            else:
                script.free(e)
            script.free(v)
        script(np.matmul, self.m.GGT, du.reshape(36, -1), dw.reshape(9, -1))
        script.free(du, more)

    def transform_dy(
        self, script: Script, m: int, part: slice, get: Callable[[slice, np.ndarray], None]
    ) -> np.ndarray:
        """Write A dy A^T of all tiles: (36, m*t*u, O)."""
        O, tiles = self.g.O, m * self.t * self.u
        dy = script.new((TILE, TILE, m, self.t, self.u, O))
        get(part, dy)
        half = script.new((SPAN, TILE, tiles * O))
        script(np.matmul, self.m.A, dy.reshape(TILE, -1), half.reshape(SPAN, -1))
        script.free(dy)
        e = script.new((36, tiles, O))
        script(np.matmul, self.m.A, half, e.reshape(SPAN, SPAN, -1))
        script.free(half)
        return e

    def write_dx(self, script: Script, v: np.ndarray, dx: np.ndarray) -> None:
        """Write B v B^T, and the sum of the tiles where they overlap.

        A tile owns its first 4x4 pixels; the other 2 rows and 2 columns are its neighbours'.
        """
        m, C = len(dx), self.g.C
        half = script.like(v)
        script(np.matmul, self.m.B, v.reshape(SPAN, -1), half.reshape(SPAN, -1))
        d = script.new((SPAN, SPAN, m, self.t, self.u, C))
        script(np.matmul, self.m.B, half.reshape(SPAN, SPAN, -1), d.reshape(SPAN, SPAN, -1))
        script.free(half)
        t, u, over = self.t, self.u, SPAN - TILE
        whole = script.new((m, (t + 1) * TILE, (u + 1) * TILE, C))
        script(whole[:, t * TILE : t * TILE + over].fill, 0)
        script(whole[:, :, u * TILE : u * TILE + over].fill, 0)
        places = whole.reshape(m, t + 1, TILE, u + 1, TILE, C).transpose(2, 4, 0, 1, 3, 5)
        script(np.copyto, places[:, :, :, :t, :u], d[:TILE, :TILE])
        for here, there in (
            (places[:over, :, :, 1:, :u], d[TILE:, :TILE]),
            (places[:, :over, :, :t, 1:], d[:TILE, TILE:]),
            (places[:over, :over, :, 1:, 1:], d[TILE:, TILE:]),
        ):
            script(np.add, here, there, here)
        script.free(d)
        (top, _), (left, _) = self.g.margins
        height, width = self.inside
        if (height, width) != (self.g.H, self.g.W):
            script(dx[:, height:].fill, 0)
            script(dx[:, :, width:].fill, 0)
        middle = whole[:, top : top + height, left : left + width]
        script(np.copyto, dx[:, :height, :width], middle)
        script.free(whole)


def add_product(
    script: Script,
    a: np.ndarray,
    b: np.ndarray,
    total: np.ndarray,
    first: bool,
    room: np.ndarray | None = None,
) -> None:
    """Write total = a @ b for the first chunk, total += a @ b for the others."""
    if first:
        script(np.matmul, a, b, total)
        return
    product = script.like(total) if room is None else room
    script(np.matmul, a, b, product)
    script(np.add, total, product, total)
    if room is None:
        script.free(product)
