"""Convolutions on the GPU's floor against the book, in all storage types, kernels on the CPU.

Operands are rounded to the storage type before, so that what differs is the arithmetic alone: the
order of float32's sums, and one rounding at the end.
"""

from __future__ import annotations

import emulation
import numpy as np
import pytest

from minicnn.backend import DeviceError
from minicnn.kernels.cuda import blas, conv, conv_choose, precision
from minicnn.kernels.cuda.conv import (
    conv_backward_b,
    conv_backward_w,
    conv_backward_x,
    conv_forward,
)
from minicnn.kernels.cuda.module import KINDS

from .convolutions import CASES, GROUPS, Problem, assert_close, from_storage

LAST_ROUNDING = {"float64": 2**-53, "float32": 2**-24, "float16": 2**-11, "bfloat16": 2**-8}
SUMS = {"float64": 1e-14, "float32": 2e-6, "float16": 1e-5, "bfloat16": 1e-5}  # of the largest
every_kind = pytest.mark.parametrize("kind", KINDS)


@pytest.fixture(params=["small", "large", "wide"])
def tiles(request, monkeypatch):
    """Let all products take tiles of one size, where there are such."""

    def tile_for(kind, rows, columns, odd, depth=0):
        *larger, small = conv_choose.TILES[kind]
        named = [tile for tile in larger if tile.name == request.param]
        return named[0] if named and not odd else small

    monkeypatch.setattr(conv, "tile_for", tile_for)


def assert_stored(found, wanted, kind, terms=0):
    """Compare results that were rounded when they were stored, and before in so many terms."""
    scale = np.abs(wanted).max()
    bound = LAST_ROUNDING[kind] * (np.abs(wanted) + terms**0.5 * scale) + SUMS[kind] * scale
    assert found.shape == wanted.shape
    assert (np.abs(found - wanted) <= bound).all(), f"{np.abs(found - wanted).max() / scale:.2g}"


def check_all(p, algorithm, relu=False):
    """Compare y, dx, dw and db with the book's."""
    columns = algorithm == "im2col"  # products are stored before the bias or other taps are added
    s, g = p.s, p.g
    x, w, dy = (p.put(a) for a in (p.x, p.w, p.dy))
    y, dx = s.new(p.y.shape), s.new(p.x.shape)
    dw, db = s.new(p.w.shape, s.acc_dtype), s.new(p.b.shape, s.acc_dtype)
    conv_forward(s, x, w, p.put_sum(p.b), y, g, relu, algorithm)
    assert_stored(p.get(y), np.maximum(p.y, 0) if relu else p.y, p.kind, columns)
    conv_backward_x(s, dy, w, dx, g, algorithm)
    assert_stored(p.get(dx), p.dx, p.kind, g.T * columns)
    conv_backward_w(s, x, dy, dw, g, db, algorithm)
    assert_close(dw.get().astype(float), p.dw, SUMS[p.kind])
    assert_close(db.get().astype(float), p.db, SUMS[p.kind])


@every_kind
@pytest.mark.parametrize("name", CASES)
def test_implicit_is_the_books(cupy, tiles, name, kind):
    check_all(Problem(cupy, CASES[name], kind), "implicit")


@every_kind
@pytest.mark.parametrize("name", CASES)
def test_columns_are_the_books(cupy, monkeypatch, name, kind):
    monkeypatch.setattr("minicnn.kernels.cuda.conv_im2col.COLUMN_BYTES", 2000)  # picture by picture
    check_all(Problem(cupy, CASES[name], kind), "im2col")


@every_kind
@pytest.mark.parametrize("name", GROUPS)
def test_groups_are_the_books(cupy, name, kind):
    check_all(Problem(cupy, GROUPS[name], kind), "auto", relu=True)


@pytest.mark.parametrize("algorithm", ["implicit", "im2col"])
@every_kind
def test_relu_and_bias_are_done_on_the_way(cupy, kind, algorithm):
    check_all(Problem(cupy, CASES["same"], kind), algorithm, relu=True)


@pytest.fixture
def tf32():
    precision.allow_tf32(True)
    yield
    precision.allowed[0] = None


@pytest.mark.parametrize("algorithm", ["implicit", "im2col"])
@pytest.mark.parametrize("name", CASES)
def test_tf32_of_rounded_operands_is_the_books(cupy, tiles, tf32, name, algorithm):
    check_all(Problem(cupy, CASES[name], "float32", "tf32"), algorithm)


def test_tf32_rounds_to_the_nearest(cupy, tf32):
    p = Problem(cupy, CASES["same"], "float32", "tf32")
    nearly = 1 - 0.2 * 2**-10  # a fifth of a unit less, or two fifths: never more than half of it
    y, dw = p.s.new(p.y.shape), p.s.new(p.w.shape, p.s.acc_dtype)
    x, w, dy = (p.put(a * nearly) for a in (p.x, p.w, p.dy))
    conv_forward(p.s, x, w, p.put_sum(p.b), y, p.g, algorithm="implicit")
    conv_backward_w(p.s, x, dy, dw, p.g, algorithm="implicit")
    assert_stored(p.get(y), p.y, "float32")
    assert_close(dw.get().astype(float), p.dw, 2e-6)


def test_tf32_only_where_it_is_asked_for(cupy):
    p = Problem(cupy, CASES["same"], "float32")
    y = p.s.new(p.y.shape)
    conv_forward(p.s, p.put(p.x), p.put(p.w), p.put_sum(p.b), y, p.g, algorithm="implicit")
    assert_stored(p.get(y), p.y, "float32")
    precision.allow_tf32(True)
    try:
        conv_forward(p.s, p.put(p.x), p.put(p.w), p.put_sum(p.b), y, p.g, algorithm="implicit")
    finally:
        precision.allowed[0] = None
    assert 1e-5 < np.abs(p.get(y) - p.y).max() / np.abs(p.y).max() < 2e-3


@every_kind
@pytest.mark.parametrize("shape", [(9, 12, 11, 8), (9, 12, 11, 3)], ids=["units", "odd"])
def test_long_sums_are_cut_and_added_up(cupy, monkeypatch, shape, kind):
    monkeypatch.setattr(conv_choose, "STEPS", 2)
    p = Problem(cupy, (shape, (3, 3, 8), {"padding": 1}), kind)
    tile = conv_choose.TILES[kind][-1]
    share, count = conv_choose.cut(tile, p.g.T * p.g.C, p.g.O, 9 * 12 * 11)
    assert count > 5 and share * count >= 9 * 12 * 11 > share * (count - 1)
    for _ in range(2):
        check_all(p, "implicit")


@every_kind
def test_equal_inputs_give_equal_bits(cupy, monkeypatch, kind):
    monkeypatch.setattr(conv_choose, "STEPS", 2)
    p = Problem(cupy, CASES["strides"], kind)
    results = []
    for backwards in (False, True):  # blocks and threads in another order
        monkeypatch.setattr(emulation, "backwards", backwards)
        dw, dx = p.s.new(p.w.shape, p.s.acc_dtype), p.s.new(p.x.shape)
        conv_backward_w(p.s, p.put(p.x), p.put(p.dy), dw, p.g, algorithm="implicit")
        conv_backward_x(p.s, p.put(p.dy), p.put(p.w), dx, p.g, algorithm="implicit")
        results.append((dw.get().tobytes(), dx.get().tobytes()))
    assert results[0] == results[1]


@every_kind
def test_weights_may_lie_anywhere(cupy, kind):
    p = Problem(cupy, CASES["same"], kind)
    flat = p.s.new((p.w.size + 1,))
    w = flat[1:].reshape(*p.w.shape)
    w[...] = p.put(p.w)
    assert w.data.ptr % 16
    y, dx = p.s.new(p.y.shape), p.s.new(p.x.shape)
    conv_forward(p.s, p.put(p.x), w, p.put_sum(p.b), y, p.g, algorithm="implicit")
    conv_backward_x(p.s, p.put(p.dy), w, dx, p.g, algorithm="implicit")
    assert_stored(p.get(y), p.y, kind)
    assert_stored(p.get(dx), p.dx, kind)


@every_kind
def test_pictures_may_lie_anywhere(cupy, kind):
    p = Problem(cupy, CASES["same"], kind)
    flat = p.s.new((p.x.size + 1,))
    x = flat[1:].reshape(*p.x.shape)
    x[...] = p.put(p.x)
    y, dw = p.s.new(p.y.shape), p.s.new(p.w.shape, p.s.acc_dtype)
    conv_forward(p.s, x, p.put(p.w), p.put_sum(p.b), y, p.g, algorithm="implicit")
    conv_backward_w(p.s, x, p.put(p.dy), dw, p.g, algorithm="implicit")
    assert_stored(p.get(y), p.y, kind)
    assert_close(dw.get().astype(float), p.dw, SUMS[kind])


@every_kind
def test_sums_of_slopes_are_exact_in_float32(cupy, kind):
    p = Problem(cupy, CASES["classes"], kind)
    dy = np.random.default_rng(2).standard_normal((5000, 10)).astype(np.float16).astype(float)
    db = p.s.new((10,), p.s.acc_dtype)
    on_device = p.put(dy)
    conv_backward_b(p.s, on_device, db)
    assert_close(
        db.get().astype(float), from_storage(on_device.get(), kind).sum(axis=0), SUMS[kind]
    )


# Which way, and in which tiles.


def geometry(C, O, K=3, H=8, **options):
    return conv_choose.Geometry.of((H, H, C), (K, K, C // options.get("groups", 1), O), **options)


@pytest.mark.parametrize(
    ("g", "kind", "tf32", "way"),
    [
        (geometry(64, 64), "bfloat16", False, "implicit"),
        (geometry(64, 256), "bfloat16", False, "im2col"),
        (geometry(64, 128), "float32", False, "im2col"),
        (geometry(64, 128), "float32", True, "implicit"),
        (geometry(64, 64, K=1), "float16", False, "im2col"),
        (geometry(64, 10, K=1), "float16", False, "implicit"),
        (geometry(64, 64, K=1, padding=1), "float16", False, "implicit"),
        (geometry(64, 512, groups=64), "float32", False, "groups"),
    ],
)
def test_choice(g, kind, tf32, way):
    assert conv_choose.choose(g, kind, tf32) == way


def test_choice_for_the_gradient_of_the_input_keeps_digits():
    wide, product = geometry(64, 256), geometry(64, 256, K=1)
    assert conv_choose.choose(wide, "bfloat16", back=True) == "implicit"
    assert conv_choose.choose(wide, "float32", back=True) == "im2col"
    assert conv_choose.choose(product, "bfloat16", back=True) == "im2col"


def test_choice_can_be_made_by_hand():
    assert conv_choose.choose(geometry(64, 512), "float32", algorithm="implicit") == "implicit"
    assert conv_choose.choose(geometry(8, 8), "float32", algorithm="im2col") == "im2col"
    with pytest.raises(ValueError, match="algorithm 'fft': expected one of auto, implicit, im2col"):
        conv_choose.choose(geometry(8, 8), "float32", algorithm="fft")


def test_large_tiles_are_for_large_products():
    def name(*arguments, kind="bfloat16"):
        return conv_choose.tile_for(kind, *arguments).name

    assert name(100_000, 128, False) == "wide"
    assert name(100_000, 128, False, kind="float32") == "large"
    assert name(20_000, 128, False) == "large"  # too few wide ones for all processors
    assert name(100_000, 64, False) == "large"  # half of a wide tile would be empty
    assert name(100_000, 32, False) == "small"
    assert name(100_000, 64, True) == "small"
    assert name(10_000, 64, False) == "small"
    assert name(576, 64, False, 100_000) == "large"
    assert name(576, 64, False, 1000) == "small"


@pytest.mark.parametrize("algorithm", ["implicit", "im2col"])
def test_captured_convolution_is_done_at_each_launch(cupy, algorithm):
    p = Problem(cupy, CASES["strides"], "float32")
    x, w, dy = (p.put(a) for a in (p.x, p.w, p.dy))
    blas.prepare()
    pool = cupy.cuda.MemoryPool()
    stream = cupy.cuda.Stream(non_blocking=True)
    y, dx, dw = (p.s.new(shape) for shape in (p.y.shape, p.x.shape, p.w.shape))
    with stream, cupy.cuda.using_allocator(pool.malloc):
        stream.begin_capture()
        conv_forward(p.s, x, w, None, y, p.g, algorithm=algorithm)
        conv_backward_x(p.s, dy, w, dx, p.g, algorithm=algorithm)
        conv_backward_w(p.s, x, dy, dw, p.g, algorithm=algorithm)
        graph = stream.end_capture()
    for factor in (2, 4):
        w *= 2
        graph.launch(stream)
        stream.synchronize()
        assert_stored(p.get(y), (p.y - p.b) * factor, "float32")
        assert_stored(p.get(dx), p.dx * factor, "float32")
        assert_close(p.get(dw), p.dw, SUMS["float32"])


def test_convolution_that_is_too_large_for_an_index(cupy):
    p = Problem(cupy, CASES["same"], "float32")
    for shape in ((1 << 13, 1 << 13, 64), (3, 1 << 14, 8)):
        huge = conv_choose.Geometry.of(shape, (3, 3, 8, 8))
        with pytest.raises(ValueError, match="too large for one launch"):
            conv_forward(p.s, p.put(p.x), p.put(p.w), None, p.put(p.y), huge, algorithm="implicit")


def test_tf32_by_environment(monkeypatch):
    assert not precision.tf32_allowed()
    monkeypatch.setenv("MINICNN_TF32", "1")
    assert precision.tf32_allowed()
    monkeypatch.setenv("MINICNN_TF32", "yes")
    with pytest.raises(ValueError, match="MINICNN_TF32='yes': expected 0 or 1"):
        precision.tf32_allowed()
    with pytest.raises(ValueError, match="expected True or False"):
        precision.allow_tf32("on")


def test_old_gpus_say_what_they_cannot_multiply(standin, monkeypatch):
    monkeypatch.setattr(standin.cuda.Device, "compute_capability", "75")
    with pytest.raises(
        DeviceError, match=r"gpu:0 has compute capability 75.* bfloat16: use float16"
    ):
        precision.uses_tf32("bfloat16")
    assert not precision.uses_tf32("float32") and not precision.uses_tf32("float16")
    monkeypatch.setenv("MINICNN_TF32", "1")
    with pytest.raises(DeviceError, match="multiplies TF32"):
        precision.uses_tf32("float32")
    assert not precision.uses_tf32("float64")
