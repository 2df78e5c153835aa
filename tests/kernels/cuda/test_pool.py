"""Pooling on the GPU equals the book's, and the naive loops'."""

from __future__ import annotations

import numpy as np
import pytest

from minicnn.functional import pool as book
from minicnn.functional.activation import relu_backward, relu_forward
from minicnn.kernels.cuda import pool as gpu
from minicnn.kernels.geometry import Geometry

CASES = {  # x, size, stride, padding
    "by 2": ((2, 6, 8, 16), 2, 2, "valid"),
    "odd": ((3, 7, 9, 3), 2, 2, "valid"),
    "overlapping": ((2, 7, 9, 5), 3, 2, "same"),
    "stride 1": ((1, 6, 5, 8), 3, 1, 1),
    "rectangles": ((2, 9, 7, 4), (3, 2), (1, 3), ((2, 1), (0, 1))),
    "stride > size": ((2, 9, 11, 1), 2, (3, 4), "valid"),
    "one pixel": ((1, 1, 1, 1), 1, 1, "valid"),
    "one picture, many channels": ((1, 3, 3, 136), 3, 2, "same"),
    "16 x 16": ((1, 17, 16, 2), 16, 1, "valid"),
}

each_case = pytest.mark.parametrize("case", CASES)


def geometry(x_shape, size, stride, padding):
    KH, KW = (size, size) if isinstance(size, int) else size
    C = x_shape[-1]
    return Geometry.of(x_shape, (KH, KW, C, C), stride, padding)


def prepared(floor, rng, case):
    """x and dy in float64, many of x's values equal."""
    x_shape, *how = CASES[case]
    g = geometry(x_shape, *how)
    x = floor.round(rng.integers(-3, 4, x_shape) + 0.5 * rng.integers(0, 2, x_shape))
    dy = floor.exact(rng, (x_shape[0], g.OH, g.OW, g.C))
    return x, dy, how, g


@each_case
def test_maxpool(floor, rng, case):
    x, dy, how, g = prepared(floor, rng, case)
    y, cache = book.maxpool2d_forward(x, *how)
    on_y, winner = floor.s.new(y.shape), floor.s.new(y.shape, "uint8")
    gpu.maxpool_forward(floor.s, floor.real(x), None, on_y, winner, g)
    np.testing.assert_array_equal(floor.get(on_y), y)
    np.testing.assert_array_equal(winner.get(), cache[0])
    dx = floor.s.new(x.shape)
    gpu.maxpool_backward(floor.s, floor.real(dy), winner, None, dx, g)
    floor.check(dx, book.maxpool2d_backward(dy, cache))
    gpu.maxpool_forward(floor.s, floor.real(-x), None, on_y, None, g)  # without a way back
    np.testing.assert_array_equal(floor.get(on_y), book.maxpool2d_forward(-x, *how)[0])


@each_case
@pytest.mark.parametrize("has_bias", [False, True])
def test_maxpool_with_bias_and_relu(floor, rng, case, has_bias):
    x, dy, how, g = prepared(floor, rng, case)
    b = rng.integers(-2, 3, g.C) / 4
    high, relu_cache = relu_forward(x + b if has_bias else x)
    y, cache = book.maxpool2d_forward(high, *how)
    on_y, winner = floor.s.new(y.shape), floor.s.new(y.shape, "uint8")
    bias = floor.acc(b) if has_bias else None
    gpu.maxpool_forward(floor.s, floor.real(x), bias, on_y, winner, g, relu=True)
    np.testing.assert_array_equal(floor.get(on_y), y)
    dx = floor.s.new(x.shape)
    gpu.maxpool_backward(floor.s, floor.real(dy), winner, on_y, dx, g)
    floor.check(dx, relu_backward(book.maxpool2d_backward(dy, cache), relu_cache))


def test_pool_at_any_address(floor, rng):
    shape, how = (2, 5, 5, 16), (3, 2, "same")
    g = geometry(shape, *how)
    x, dy = floor.exact(rng, shape), floor.exact(rng, (2, g.OH, g.OW, 16))
    on_x, on_dy, on_y = floor.shifted(x), floor.shifted(dy), floor.shifted(dy)
    winner = floor.cupy.zeros((dy.size + 1,), dtype="uint8")[1:].reshape(dy.shape)
    y, cache = book.maxpool2d_forward(x, *how)
    gpu.maxpool_forward(floor.s, on_x, None, on_y, winner, g)
    np.testing.assert_array_equal(floor.get(on_y), y)
    gpu.maxpool_backward(floor.s, on_dy, winner, None, on_x, g)
    floor.check(on_x, book.maxpool2d_backward(dy, cache))
    y, cache = book.averagepool2d_forward(x, *how)
    gpu.averagepool_forward(floor.s, floor.shifted(x), on_y, g)
    floor.check(on_y, y)
    gpu.averagepool_backward(floor.s, on_dy, on_x, g)
    floor.check(on_x, book.averagepool2d_backward(dy, cache))
    y, _ = book.globalaveragepool2d_forward(x)
    on_y = floor.shifted(np.zeros((2, 16)))
    gpu.globalaveragepool_forward(floor.s, floor.shifted(x), on_y)
    floor.check(on_y, y)
    gpu.globalaveragepool_backward(floor.s, on_y, on_x)
    floor.check(on_x, book.globalaveragepool2d_backward(floor.get(on_y), shape))


@pytest.mark.filterwarnings("ignore:invalid value")
def test_maxpool_of_what_is_not_finite(floor, rng):
    x = rng.choice([np.nan, np.inf, -np.inf, 0.0, 1.0], (4, 7, 7, 8))
    x[0, :3, :3] = -np.inf  # no winner but the margin, which takes the first tap
    how = 3, 2, "same"
    y, cache = book.maxpool2d_forward(x, *how)
    g = geometry(x.shape, *how)
    on_y, winner = floor.s.new(y.shape), floor.s.new(y.shape, "uint8")
    gpu.maxpool_forward(floor.s, floor.real(x), None, on_y, winner, g)
    np.testing.assert_array_equal(floor.get(on_y), y)
    np.testing.assert_array_equal(winner.get(), cache[0])


@each_case
@pytest.mark.parametrize("count_padding", [False, True])
def test_averagepool(floor, rng, case, count_padding):
    x, dy, how, g = prepared(floor, rng, case)
    y, cache = book.averagepool2d_forward(x, *how, count_padding)
    on_y, dx = floor.s.new(y.shape), floor.s.new(x.shape)
    gpu.averagepool_forward(floor.s, floor.real(x), on_y, g, count_padding)
    floor.check(on_y, y)
    gpu.averagepool_backward(floor.s, floor.real(dy), dx, g, count_padding)
    floor.check(dx, book.averagepool2d_backward(dy, cache))


@pytest.mark.parametrize(
    "shape", [(1, 1, 1, 1), (3, 5, 7, 3), (2, 4, 4, 64), (2, 9, 3, 520), (5, 40, 30, 1)], ids=str
)
def test_globalaveragepool(floor, rng, order, shape):
    x, dy = floor.exact(rng, shape), floor.exact(rng, (shape[0], shape[3]))
    y, cache = book.globalaveragepool2d_forward(x)
    on_y, dx = floor.s.new(y.shape), floor.s.new(shape)
    gpu.globalaveragepool_forward(floor.s, floor.real(x), on_y)
    floor.check(on_y, y)
    gpu.globalaveragepool_backward(floor.s, floor.real(dy), dx)
    floor.check(dx, book.globalaveragepool2d_backward(dy, cache))


@pytest.mark.parametrize("C", [1, 3, 8, 24])
def test_bias_relu(floor, rng, C):
    x, b, dy = (
        floor.exact(rng, (2, 3, 5, C)),
        rng.standard_normal(C),
        floor.exact(rng, (2, 3, 5, C)),
    )
    b = b.astype("float32").astype("float64")
    on_x, y = floor.real(x), floor.s.new(x.shape)
    for bias, relu in ((b, True), (b, False), (None, True)):
        expected = x if bias is None else x + bias
        expected = np.maximum(expected, 0) if relu else expected
        gpu.bias_relu(floor.s, on_x, None if bias is None else floor.acc(bias), y, relu)
        floor.check(y, expected)
    gpu.bias_relu(floor.s, on_x, floor.acc(b), on_x, True)
    dx = floor.real(dy)
    gpu.relu_mask(floor.s, dx, on_x, dx)
    np.testing.assert_array_equal(floor.get(dx), dy * (floor.get(on_x) > 0))
