"""3x3 convolution in tiles of 4x4 outputs: Winograd's F(4x4, 3x3).

`winograd_matrices` tells why this is a convolution.  Here is how it becomes fast with nothing but
array functions: all its steps are matrix products.

- A chunk of pictures is gathered as (6, 6, tiles, C), the place within the tile first, its column
  before its row.  A transform along one direction is then one product (6, 6) @ (6, 6*tiles*C).
- The 36 elementwise products, summed over the channels, are 36 matrix products in one call,
  (36, tiles, C) @ (36, C, O): for 16 outputs 36 products instead of 144.
- The backward pass uses the same matrices transposed: one transform of dy serves both gradients.
- A bias is added to one of the 36 products (`ONES`), and its gradient is read off there.

The transformed input is 2.25 times as large as the input: it is made again in the backward pass.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import cached_property
from math import ceil, prod

import numpy as np

from ..geometry import Geometry, Pictures, chunks
from ..script import Script
from .overlap import SPAN, TILE, add_shifted, first_slots, in_order, picture_in_tiles, places
from .team import Jobs
from .winograd_matrices import ONES, float32_matrices

CHUNK_BYTES = 1 << 20  # of transformed input and output: with what is around them, a core's L2
LARGE, MOST = 4_000_000, 5_000_000  # bytes of the gradient of U: it is made in pieces, and of one


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

    def write_ut(self, jobs: Jobs, ut: np.ndarray, w: np.ndarray, room: np.ndarray) -> None:
        """Write the same with C and O exchanged, as one lies in memory: (36, O, C).

        room: like w, to be overwritten.
        """
        C, O = self.g.C, self.g.O
        turned, w, rows = room.reshape(3, 3, O, C), w.transpose(0, 1, 3, 2), ut.reshape(36, -1)
        for job, part in jobs.cut(O):
            columns = slice(part.start * C, part.stop * C)
            job(np.copyto, turned[:, :, part], w[:, :, part])
            job(np.matmul, self.m.GG, room.reshape(9, -1)[:, columns], rows[:, columns])

    # Forward.

    def forward(
        self,
        script: Script,
        x: Pictures,
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
            y = script.new((TILE, TILE, self.t, m, self.u, self.g.O))
            script(np.matmul, self.m.AT, half.reshape(TILE, SPAN, -1), y.reshape(TILE, TILE, -1))
            script.free(half)
            put(part, in_order(y))
            script.free(y)

    def transform(self, script: Script, x: np.ndarray) -> np.ndarray:
        """Write B^T d B of all tiles d: (m, H, W, C) -> (36, t*m*u, C).

        Along the columns first, for all rows once.  Then the rows that a tile shares with the next
        one are copied from there, transformed: with the tiles' rows first, that is one long run.
        """
        m, C, t = len(x), self.g.C, self.t
        d = self.gather(script, x)
        slots, rows = d.shape[1:3]
        half = script.new((SPAN, SPAN, rows, m, self.u, C))
        script(np.matmul, self.m.BT, d.reshape(SPAN, -1), first_slots(half, slots))
        if slots < SPAN:
            script(np.copyto, half[:, TILE:, :t], half[:, : SPAN - TILE, 1:])
        v = script.new((36, t * m * self.u, C))
        whole = half[:, :, :t].reshape(SPAN, SPAN, -1)
        script(np.matmul, self.m.BT, whole, v.reshape(SPAN, SPAN, -1))
        script.free(half, d)
        return v

    @cached_property
    def slots(self) -> tuple[int, int]:
        """How many rows of pixels a tile has of its own, and how many tiles there are then.

        A tile reads 6 rows, 2 of them the first ones of the next tile: one tile more, perhaps
        without pixels, has the last.  A single tile has all of them itself.
        """
        return (SPAN, 1) if self.t == 1 else (TILE, self.t + 1)

    def gather(self, script: Script, x: np.ndarray) -> np.ndarray:
        """Write x in tiles, (6, slots, rows of tiles, m, u, C), the column first; zero outside."""
        g, (slots, rows) = self.g, self.slots
        (top, _), (left, _) = g.margins
        shape = (SPAN, slots, rows, len(x), self.u, g.C)
        if prod(shape) * 4 > CHUNK_BYTES:
            d = script.new(shape)
            script(d.fill, 0)
        else:  # what is outside stays zero
            d = script.constant(("gathered", top, left, *self.inside), shape, 0)
        for i, a, y in places(self.inside[0], top, slots, rows):
            for j, b, z in places(self.inside[1], left, SPAN, self.u):
                script(np.copyto, d[j, i, a, :, b], picture_in_tiles(x, i, a, y, j, b, z))
        return d

    @cached_property
    def inside(self) -> tuple[int, int]:
        """Height and width of the part of x that the tiles read."""
        (top, _), (left, _) = self.g.margins
        height, width = self.t * TILE + SPAN - TILE, self.u * TILE + SPAN - TILE
        return min(self.g.H, height - top), min(self.g.W, width - left)

    # Backward.

    def backward(
        self,
        script: Script,
        x: Pictures,
        get: Callable[[slice, np.ndarray], None],
        dw: np.ndarray,
        db: np.ndarray | None,
        ut: np.ndarray | None,
        dx: np.ndarray | None,
        after: Callable[[slice], None] = lambda part: None,
    ) -> None:
        """Write the calls of all gradients.

        get: is called with each chunk and room for its dy in tiles, (4, 4, m, t, u, O), and writes
        the calls that fill it.  dw, db, dx: where the gradients go; ut: from `write_ut`, for dx.
        after: is called with each chunk whose dx has been written.
        """
        large = 36 * self.g.C * self.g.O * 4 > LARGE
        du, more = None if large else script.new((36, self.g.C, self.g.O)), None
        for part in self.parts(len(x)):
            m, first = part.stop - part.start, part.start == 0
            v = self.transform(script, x[part])
            e = self.transform_dy(script, m, part, get)
            if db is not None:
                add_product(script, script.ones(e.shape[1]), e[ONES], db, first)
            if du is None:
                self.add_dw(script, v, e, dw, first)
            else:
                more = script.like(du) if not first and more is None else more
                add_product(script, v.transpose(0, 2, 1), e, du, first, more)
            if dx is not None:
                script(np.matmul, e, ut, v)
                script.free(e)
                self.write_dx(script, v, dx[part])
                script.free(v)
                after(part)
            else:
                script.free(e, v)
        if du is not None:
            script(np.matmul, self.m.GGT, du.reshape(36, -1), dw.reshape(9, -1))
        script.free(du, more)

    def add_dw(
        self, script: Script, v: np.ndarray, e: np.ndarray, dw: np.ndarray, first: bool
    ) -> None:
        """Write dw += G^T (v^T e) G, some channels at a time: the product is 4 times as large."""
        C, O = self.g.C, self.g.O
        for at in chunks(C, 36 * O * 4, MOST):
            du = script.new((36, at.stop - at.start, O))
            script(np.matmul, v[..., at].transpose(0, 2, 1), e, du)
            some = dw.reshape(9, C, O)[:, at].reshape(9, -1)
            add_product(script, self.m.GGT, du.reshape(36, -1), some, first)
            script.free(du)

    def transform_dy(
        self, script: Script, m: int, part: slice, get: Callable[[slice, np.ndarray], None]
    ) -> np.ndarray:
        """Write A dy A^T of all tiles: (36, m*t*u, O)."""
        O, tiles = self.g.O, m * self.t * self.u
        dy = script.new((TILE, TILE, self.t, m, self.u, O))
        get(part, in_order(dy))
        half = script.new((SPAN, TILE, tiles * O))
        script(np.matmul, self.m.A, dy.reshape(TILE, -1), half.reshape(SPAN, -1))
        script.free(dy)
        e = script.new((36, tiles, O))
        script(np.matmul, self.m.A, half, e.reshape(SPAN, SPAN, -1))
        script.free(half)
        return e

    def write_dx(self, script: Script, v: np.ndarray, dx: np.ndarray) -> None:
        """Write B v B^T, and the sum of the tiles where they overlap: `transform`, backwards.

        What a tile says about pixels of the next one is added there, as soon as it is known.
        """
        m, C, t, over = len(dx), self.g.C, self.t, SPAN - TILE
        slots, rows = self.slots
        half = script.new((SPAN, SPAN, rows, m, self.u, C))
        whole = half[:, :, :t].reshape(SPAN, SPAN, -1)
        script(np.matmul, self.m.B, v.reshape(SPAN, SPAN, -1), whole)
        if slots < SPAN:
            script(half[:, : TILE + 1, t].fill, 0)  # of the tile that has only what is added now
            for line in half:
                add_shifted(script, line[:over], line[TILE:], m * self.u * C)
        d = script.new((SPAN, slots, rows, m, self.u, C))
        script(np.matmul, self.m.B, first_slots(half, slots), d.reshape(SPAN, -1))
        script.free(half)
        self.scatter(script, d, dx)
        script.free(d)

    def scatter(self, script: Script, d: np.ndarray, dx: np.ndarray) -> None:
        """Write the calls that undo `gather`, overlaps added up; zero where nobody read."""
        g, (height, width), u = self.g, self.inside, self.u
        (top, _), (left, _) = g.margins
        if (height, width) != (g.H, g.W):
            script(dx[:, height:].fill, 0)
            script(dx[:, :, width:].fill, 0)
        rows = list(places(height, top, *self.slots))

        def put(j: slice, b: slice, z: int) -> None:
            for i, a, y in rows:
                script(np.copyto, picture_in_tiles(dx, i, a, y, j, b, z), d[j, i, a, :, b])

        last = width + left - u * TILE  # columns of the last tile that are nobody else's
        if last > 0:
            put(slice(TILE, TILE + last), slice(u - 1, u), u * TILE - left)
        if u > 1:
            script(d[TILE:, ..., -1, :].fill, 0)
            for here, there in zip(d, d[TILE:], strict=False):
                add_shifted(script, here, there, g.C)
        for j, b, z in places(width, left, TILE, u):
            put(j, b, z)


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
