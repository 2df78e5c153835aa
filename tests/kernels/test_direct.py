"""The product over windows: outputs side by side, dx as a convolution of dy, products in pieces."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from minicnn.functional.conv import conv2d_backward, conv2d_forward
from minicnn.kernels.cpu import choose, products
from minicnn.kernels.cpu.beside import outputs_beside
from minicnn.kernels.cpu.im2col import Im2col
from minicnn.kernels.cpu.turned import turned
from minicnn.kernels.geometry import Geometry
from minicnn.kernels.script import Script

the_book = conv2d_forward.dispatch(object), conv2d_backward.dispatch(object)

KERNELS = [(1, 1), (3, 3), (2, 5), (5, 4), (7, 7)]
STRIDES = [1, 2, 3, (1, 2), (3, 1)]
PADDINGS = ["valid", "same", 1, ((2, 0), (0, 1))]
CHANNELS = [(8, 8), (3, 16), (12, 5), (1, 1), (40, 3)]
SIZES = [(12, 12), (9, 15), (8, 7)]


def run_alone(g, x, w, dy):
    """Return y, dw, db and dx of one convolution by Im2col, every buffer of undefined contents."""
    way, script = Im2col(g), Script(x.dtype)
    filters, turned_filters = np.empty(way.filters_shape), np.empty(way.turned_shape)
    y, dx, dw, db = np.empty_like(dy), np.empty_like(x), np.empty_like(w), np.empty(g.O)
    way.write_filters(script, filters, w)
    way.forward(script, x, filters, y, lambda part, chunk: None)
    way.write_turned(script, turned_filters, w)

    def get(part):
        chunk = script.like(dy[part])  # freed once, or the script complains
        script(np.copyto, chunk, dy[part])
        return chunk

    way.backward(script, x, get, dw, db, turned_filters, dx)
    for block in script.memory.blocks.values():
        block.fill(255)  # nan
    script.run()
    return y, dw, db, dx


@pytest.mark.parametrize("size", SIZES, ids=str)
@pytest.mark.parametrize("padding", PADDINGS, ids=str)
@pytest.mark.parametrize("stride", STRIDES, ids=str)
@pytest.mark.parametrize("kernel", KERNELS, ids=str)
def test_im2col_gives_what_the_book_gives(kernel, stride, padding, size):
    rng = np.random.default_rng(0)
    for C, O in CHANNELS:
        x = rng.standard_normal((3, *size, C))
        w = rng.standard_normal((*kernel, C, O))
        y, cache = the_book[0](x, w, None, stride, padding)
        dy = rng.standard_normal(y.shape)
        dx, dw, _ = the_book[1](dy, cache)
        g = Geometry.of(x.shape, w.shape, stride, padding)
        found = run_alone(g, x, w, dy)
        for got, wanted in zip(found, (y, dw, dy.sum((0, 1, 2)), dx), strict=True):
            np.testing.assert_allclose(got, wanted, rtol=1e-9, atol=1e-9)


def test_grid_has_cases_of_every_kind():
    """Side by side by two, three and four; dx in blocks of several sizes, and by taps."""
    beside, blocks, phases = set(), set(), set()
    for kernel, stride, padding, size in itertools.product(KERNELS, STRIDES, PADDINGS, SIZES):
        for C, O in CHANNELS:
            g = Geometry.of((*size, C), (*kernel, C, O), stride, padding)
            beside.add(outputs_beside(g))
            way = Im2col(g)
            kinds = phases if way.phases else blocks
            kinds.add(None if way.turned is None else way.turned.g.O // C)
    assert beside == {1, 2, 3, 4} and blocks >= {None, 1, 2, 3, 4, 9} and phases == {2, 3, 4, 9}


def test_dx_in_phases_where_blocks_are_wide():
    narrow = Im2col(Geometry.of((32, 32, 8), (3, 3, 8, 32), 2, 1))
    wide = Im2col(Geometry.of((32, 32, 32), (3, 3, 32, 32), 2, 1))
    assert narrow.turned is not None and not narrow.phases
    assert wide.turned is not None and wide.phases
    assert turned(Geometry.of((9, 9, 2), (3, 3, 2, 2), 1, "valid", 2)) is None  # gaps


@pytest.mark.parametrize("rows", [1, 60, 1024, 997])
@pytest.mark.parametrize("K, N", [(9, 8), (600, 8), (288, 32), (576, 64), (3000, 40)])
def test_products_in_pieces(rows, K, N):
    rng, script = np.random.default_rng(0), Script(np.float64)
    a, b, d = (rng.standard_normal(shape) for shape in ((rows, K), (K, N), (rows, N)))
    out, total, room = np.empty((rows, N)), np.empty((K, N)), np.empty((K, N))
    products.write_product(script, a, b, out)
    products.add_gradient(script, a, d, total, True, None)
    products.add_gradient(script, a, d, total, False, room)
    script.run()
    np.testing.assert_allclose(out, a @ b, atol=1e-10)
    np.testing.assert_allclose(total, 2 * (a.T @ d), atol=1e-10)


@pytest.mark.parametrize("rows", [1, 60, 1024, 997])
def test_pieces_are_small_and_even(rows):
    M = products.piece(rows, 288, 32, least=16)
    assert rows % M == 0
    assert rows == M or 16 <= M <= products.SMALL // (288 * 32)
    assert products.piece(rows, 576, 64, least=16) == rows  # wide enough as it is
    assert products.piece(1024, 288, 32, least=16) == 64


def test_choose_takes_no_tiles_that_are_mostly_thrown_away():
    sizes = ((4, 64, "winograd"), (5, 64, "direct"), (6, 64, "winograd"), (7, 24, "direct"))
    for size, C, wanted in (*sizes, (8, 24, "winograd"), (32, 64, "winograd")):
        g = Geometry.of((size, size, C), (3, 3, C, C), padding="same")
        assert choose.choose(g, 128, np.dtype("float32"), need_dx=True) == wanted
