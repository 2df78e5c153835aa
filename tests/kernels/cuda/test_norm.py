"""Normalization on the GPU equals the book's."""

from __future__ import annotations

import numpy as np
import pytest

import minicnn as mc
from minicnn.functional import norm as book
from minicnn.functional.windows import channel_sum
from minicnn.kernels.cuda import norm as gpu
from minicnn.kernels.cuda.columns import Columns

SHAPES = [
    (2, 1),
    (1, 2, 1, 3),
    (2, 3, 5, 1),
    (4, 7, 9, 3),
    (300, 40),
    (3, 5, 7, 16),
    (2, 3, 2, 1030),
    (9, 31, 29, 8),
]
EPS = 1e-5

each_shape = pytest.mark.parametrize("shape", SHAPES, ids=str)


def parameters(floor, rng, C):
    """Gamma and beta as float32 holds them."""
    return (rng.standard_normal(C).astype("float32").astype("float64") for _ in range(2))


def rooms(floor, C, count):
    return [floor.s.new((C,), floor.s.acc_dtype) for _ in range(count)]


def train(floor, x, gamma, beta, **options):
    """Run the forward pass; return y, mean, var and inverse."""
    y, found = floor.s.new(x.shape), rooms(floor, x.shape[-1], 3)
    scale, shift = (None if each is None else floor.acc(each) for each in (gamma, beta))
    gpu.batchnorm_forward(floor.s, floor.real(x), scale, shift, EPS, y, *found, **options)
    return y, *found


@each_shape
@pytest.mark.parametrize("fused", [False, True])
def test_batchnorm(floor, rng, order, shape, fused):
    C = shape[-1]
    x, dy, addend = (floor.exact(rng, shape) for _ in range(3))
    gamma, beta = parameters(floor, rng, C)
    expected, cache = book.batchnorm_forward(x, gamma, beta, EPS)
    options = {}
    if fused:
        expected = np.maximum(expected + addend, 0)
        options = {"relu": True, "addend": floor.real(addend)}
    y, mean, var, inverse = train(floor, x, gamma, beta, **options)
    spread = 1 + 1 / np.sqrt(cache[1] + EPS).min()  # two values a channel may be near each other
    floor.check(y, expected, 4 * spread)
    floor.check_sums(mean, cache[0])
    floor.check_sums(var, cache[1])

    passed = dy * (floor.get(y) > 0) if fused else dy
    dx, dgamma, dbeta = book.batchnorm_backward(passed, cache)
    on_dx, room = floor.s.new(shape), floor.s.new(shape)
    sums = rooms(floor, C, 2)
    gpu.batchnorm_backward(
        floor.s, floor.real(dy), floor.real(x), y if fused else None, floor.acc(gamma), mean,
        inverse, on_dx, *sums, room if fused else None,
    )  # fmt: skip
    M = x.size / C
    floor.check(on_dx, dx, 4 * spread)
    floor.check_sums(sums[0], dgamma, np.sqrt(M) * spread)
    floor.check_sums(sums[1], dbeta, np.sqrt(M))
    if fused:
        np.testing.assert_array_equal(floor.get(room), passed)


def test_batchnorm_without_parameters(floor, rng):
    x, dy = floor.exact(rng, (5, 4, 3, 6)), floor.exact(rng, (5, 4, 3, 6))
    y, cache = book.batchnorm_forward(x, np.ones(6), np.zeros(6), EPS)
    on_y, mean, _, inverse = train(floor, x, None, None)
    floor.check(on_y, y, 4)
    on_dx = floor.real(dy)  # in place
    gpu.batchnorm_backward(
        floor.s, on_dx, floor.real(x), None, None, mean, inverse, on_dx, None, None
    )
    floor.check(on_dx, book.batchnorm_backward(dy, cache)[0], 4)


@pytest.mark.parametrize("shape", [(64, 16, 16, 4), (50, 7, 7, 3), (6, 5)], ids=str)
@pytest.mark.parametrize("mean", [1000.0, -3e4])
def test_batchnorm_of_channels_far_from_zero(floor32, rng, shape, mean):
    x = floor32.exact(rng, shape, mean)
    exact, cache = book.batchnorm_forward(x, np.ones(shape[-1]), np.zeros(shape[-1]), EPS)
    single = [np.asarray(a, "float32") for a in (x, np.ones(shape[-1]), np.zeros(shape[-1]))]
    _, book_cache = book.batchnorm_forward(*single, EPS)
    y, on_mean, on_var, _ = train(floor32, x, None, None)
    unit = np.spacing(np.float32(abs(mean)))
    assert abs(floor32.get(on_mean) - cache[0]).max() <= 1.01 * unit
    assert abs(floor32.get(on_mean) - cache[0]).max() <= abs(book_cache[0] - cache[0]).max() + unit
    np.testing.assert_allclose(floor32.get(on_var), cache[1], rtol=1e-5)  # a naive one: 0.06
    assert abs(floor32.get(y) - exact).max() < 2 * unit / np.sqrt(cache[1].min())


def test_batchnorm_of_what_is_not_finite(floor, rng):
    x = floor.exact(rng, (6, 5, 5, 4))
    x[2, 1, 1, 1], x[3, 3, 3, 2] = np.nan, np.inf
    y, mean, var, _ = train(floor, x, np.ones(4), np.zeros(4))
    for found in (y, mean, var):
        finite = np.isfinite(floor.get(found).reshape(-1, 4))
        assert finite[:, [0, 3]].all() and not finite[:, 1].any()
    assert not np.isfinite(floor.get(var)[2])


def test_running_statistics(floor, rng):
    shape, momentum = (7, 5, 3, 9), 0.8
    x = floor.exact(rng, shape, 2.0)
    x[0, 0, 0, 4] = np.nan
    layer = mc.Sequential([mc.BatchNorm(momentum)]).build(shape[1:], dtype="float64")
    with np.errstate(invalid="ignore"):
        layer.forward(x, training=True)
    expected = [layer.state[name] for name in sorted(layer.state)]
    running = floor.acc(np.zeros(9)), floor.acc(np.ones(9))
    _, mean, var, _ = train(floor, x, None, None, running=(*running, momentum))
    again = floor.acc(np.zeros(9)), floor.acc(np.ones(9))
    gpu.running_update(floor.s, mean, var, x.size // 9, (*again, momentum))
    for found in (running, again):
        for each, right in zip(found, expected, strict=True):
            floor.check_sums(each, right)
        assert [floor.get(each)[4] for each in found] == [0, 1]


@each_shape
@pytest.mark.parametrize("fused", [False, True])
def test_batchnorm_inference(floor, rng, shape, fused):
    C = shape[-1]
    x, dy, addend = (floor.exact(rng, shape) for _ in range(3))
    gamma, beta = parameters(floor, rng, C)
    mean, var = rng.standard_normal(C), rng.random(C) + 0.1
    expected, cache = book.batchnorm_inference_forward(x, gamma, beta, mean, var, EPS)
    options = {}
    if fused:
        expected = np.maximum(expected + addend, 0)
        options = {"relu": True, "addend": floor.real(addend)}
    y, (inverse, dgamma, dbeta) = floor.s.new(shape), rooms(floor, C, 3)
    on_mean = floor.acc(mean)
    gpu.batchnorm_inference_forward(
        floor.s, floor.real(x), floor.acc(gamma), floor.acc(beta), on_mean, floor.acc(var), EPS, y,
        inverse=inverse, **options,
    )  # fmt: skip
    floor.check(y, expected, 10)
    floor.check_sums(inverse, 1 / np.sqrt(var + EPS))
    passed = dy * (floor.get(y) > 0) if fused else dy
    dx = floor.s.new(shape)
    gpu.batchnorm_backward(
        floor.s, floor.real(dy), floor.real(x), y if fused else None, floor.acc(gamma), on_mean,
        inverse, dx, dgamma, dbeta, fixed=True,
    )  # fmt: skip
    found = book.batchnorm_inference_backward(passed, cache)
    M = x.size / C
    floor.check(dx, found[0], 10)
    floor.check_sums(dgamma, found[1], 10 * np.sqrt(M))
    floor.check_sums(dbeta, found[2], np.sqrt(M))


@each_shape
def test_channel_sum(floor, rng, order, shape):
    dy, y = floor.exact(rng, shape), np.maximum(floor.exact(rng, shape), 0)
    (db,) = rooms(floor, shape[-1], 1)
    size = np.sqrt(dy.size / shape[-1])
    gpu.channel_sum(floor.s, floor.real(dy), db)
    floor.check_sums(db, channel_sum(dy), size)
    gpu.channel_sum(floor.s, floor.real(dy), db, floor.real(y))
    floor.check_sums(db, channel_sum(dy * (y > 0)), size)


def test_sums_at_any_address(floor, rng):
    dy = floor.exact(rng, (50, 24))
    (db,) = rooms(floor, 24, 1)
    gpu.channel_sum(floor.s, floor.shifted(dy), db)
    floor.check_sums(db, channel_sum(dy), 10)


def test_batchnorm_at_any_address(floor, rng):
    x, dy = floor.exact(rng, (50, 24)), floor.exact(rng, (50, 24))
    y, cache = book.batchnorm_forward(x, np.ones(24), np.zeros(24), EPS)
    on_x, found = floor.shifted(x), rooms(floor, 24, 3)
    gpu.batchnorm_forward(floor.s, on_x, None, None, EPS, on_x, *found)  # y where x was
    floor.check(on_x, y, 4)
    on_dy, room = floor.shifted(dy), floor.s.new(dy.shape)
    mean, _, inverse = found
    gpu.batchnorm_backward(
        floor.s, on_dy, floor.real(x), None, None, mean, inverse, on_dy, None, None, room
    )
    floor.check(on_dy, book.batchnorm_backward(dy, cache)[0], 4)
    np.testing.assert_array_equal(floor.get(room), dy)


def test_sums_over_nothing_are_refused(floor32):
    for shape in ((0, 3), (4, 0)):
        with pytest.raises(ValueError, match="expected one value at least"):
            gpu.channel_sum(floor32.s, floor32.s.new(shape), floor32.s.new(shape[1:]))


def test_sums_can_be_repeated(floor32, rng):
    x = floor32.exact(rng, (64, 9, 9, 20))
    first, second = (train(floor32, x, None, None) for _ in range(2))
    for a, b in zip(first, second, strict=True):
        assert a.get().tobytes() == b.get().tobytes()


@pytest.mark.parametrize("M", [1, 7, 300, 70_000, 10**7])
@pytest.mark.parametrize("C", [1, 3, 64, 100, 1024, 40_000])
def test_columns_cover_the_matrix(floor32, M, C):
    class Shape:
        shape, size = (M, C), M * C

    cut = Columns.of(floor32.s, Shape)
    pack = 4 if C % 4 == 0 else 1
    assert 256 % cut.across == 0 and (cut.tiles - 1) * cut.across * pack < C
    assert cut.tiles * cut.across * pack >= C
    assert 1 <= cut.parts <= M
    assert cut.blocks <= max(528, cut.tiles)


@pytest.mark.parametrize(
    "shape", [(1, 1, 1, 1), (2, 5, 7, 3), (3, 4, 4, 3), (1, 2, 3, 16)], ids=str
)
def test_normalize(floor, rng, shape):
    C = shape[-1]
    mean, std = rng.random(C).astype("float32"), (rng.random(C) + 0.2).astype("float32")
    x = rng.integers(0, 256, shape, dtype="uint8")
    for pictures, on_gpu in ((x, floor.cupy.asarray(x)), (x.astype(float), floor.real(x))):
        y, cache = book.normalize_forward(
            pictures, mean.astype("float64"), std.astype("float64"), 1 / 255
        )
        found, statistics = floor.s.new(shape), (floor.acc(mean), floor.acc(std))
        gpu.normalize_forward(floor.s, on_gpu, *statistics, 1 / 255, found)
        floor.check(found, y, 5)
    dy, dx = floor.exact(rng, shape), floor.s.new(shape)
    gpu.normalize_backward(floor.s, floor.real(dy), statistics[1], 1 / 255, dx)
    floor.check(dx, book.normalize_backward(dy, cache), 1 / 255)


def test_batchnorm_with_an_outlier_first(floor32, rng):
    x = floor32.exact(rng, (500, 4))
    x[0] = 1e4
    _, cache = book.batchnorm_forward(x, np.ones(4), np.zeros(4), EPS)
    _, mean, var, _ = train(floor32, x, None, None)
    floor32.check_sums(mean, cache[0])
    np.testing.assert_allclose(floor32.get(var), cache[1], rtol=1e-6)
