from __future__ import annotations

import numpy as np
import pytest

from minicnn.kernels.cuda import elementwise
from minicnn.kernels.cuda.module import KINDS
from minicnn.kernels.cuda.writer import Now

pytestmark = pytest.mark.usefixtures("order")
each_kind = pytest.mark.parametrize("kind", KINDS)
SIZES = (0, 1, 7, 8, 1000, 70_001)


def rounded(kind, x):
    """Round floats as a storage type does; bfloat16 by whole numbers, to nearest and even."""
    if kind != "bfloat16":
        return x.astype(Now(kind).dtype)
    bits = x.astype("float32").view("uint32").astype("uint64")
    return ((bits + 0x7FFF + (bits >> 16 & 1)) >> 16).astype("uint16")


def floats(kind, x):
    """The floats that an array in storage holds."""
    if kind != "bfloat16":
        return x.astype("float64")
    return (x.astype("uint32") << 16).view("float32").astype("float64")


@each_kind
@pytest.mark.parametrize("size", SIZES)
def test_copy_add_scale_fill(cupy, rng, kind, size):
    s = Now(kind)
    a, b = (rounded(kind, rng.standard_normal(size)) for _ in range(2))
    x, other, y = cupy.asarray(a), cupy.asarray(b), s.new((size,))
    elementwise.copy(s, x, y)
    np.testing.assert_array_equal(y.get(), a)
    elementwise.add(s, x, other, y)
    total = rounded(kind, (floats(kind, a) + floats(kind, b)).astype(s.acc_dtype))
    np.testing.assert_array_equal(y.get(), total)
    elementwise.add(s, y, y, y)
    np.testing.assert_array_equal(floats(kind, y.get()), 2 * floats(kind, total))
    elementwise.scale(s, x, -0.3, y)
    times = (s.acc_dtype.type(-0.3) * floats(kind, a).astype(s.acc_dtype)).astype(s.acc_dtype)
    np.testing.assert_array_equal(y.get(), rounded(kind, times))
    elementwise.scale(s, y, 2.0, y)
    np.testing.assert_array_equal(floats(kind, y.get()), 2 * floats(kind, rounded(kind, times)))
    elementwise.fill(s, y, 1.5)
    np.testing.assert_array_equal(floats(kind, y.get()), 1.5)
    sums = s.new((size,), s.acc_dtype)
    elementwise.fill(s, sums, 0.1)
    np.testing.assert_array_equal(sums.get(), s.acc_dtype.type(0.1))


@each_kind
@pytest.mark.parametrize("shift", [1, 3, 4])
def test_arrays_may_begin_anywhere(cupy, rng, kind, shift):
    s = Now(kind)
    a = rounded(kind, rng.standard_normal(1000))
    x, y = cupy.asarray(a), cupy.asarray(np.zeros_like(a))
    elementwise.copy(s, x[shift:], y[: 1000 - shift])
    np.testing.assert_array_equal(y.get()[: 1000 - shift], a[shift:])
    assert not y.get()[1000 - shift :].any()
    elementwise.copy(s, x[: 1000 - shift], y[shift:])
    np.testing.assert_array_equal(y.get()[shift:], a[:-shift])


@each_kind
def test_cast_rounds_to_nearest(cupy, rng, kind):
    s = Now(kind)
    x = np.concatenate([
        rng.standard_normal(1000) * 10.0 ** rng.integers(-9, 5, 1000),
        [0.0, -0.0, 1 + 2.0**-8, 1 + 3 * 2.0**-8, 1 + 2.0**-11, np.inf, -np.inf, 65520.0],
    ]).astype(s.acc_dtype)  # fmt: skip
    copy, back = s.new(x.shape), s.new(x.shape, s.acc_dtype)
    elementwise.cast_to(s, cupy.asarray(x), copy)
    with np.errstate(over="ignore"):
        wanted = rounded(kind, x)
    np.testing.assert_array_equal(copy.get(), wanted)
    elementwise.widen(s, copy, back)
    np.testing.assert_array_equal(back.get(), floats(kind, wanted).astype(s.acc_dtype))


@each_kind
def test_cast_keeps_nan(cupy, kind):
    s = Now(kind)
    bits = np.array([0x7FC00000, 0x7F800001, 0xFFFFFFFF], "uint32").view("float32")
    with np.errstate(invalid="ignore"):  # one of them is a NaN that signals
        x = cupy.asarray(bits.astype(s.acc_dtype))
    copy, back = s.new(x.shape), s.new(x.shape, s.acc_dtype)
    elementwise.cast_to(s, x, copy)
    elementwise.widen(s, copy, back)
    assert np.isnan(back.get()).all()


@each_kind
@pytest.mark.parametrize("shape", [(2, 3, 4, 5), (7, 1), (0, 3), (300, 33)])
def test_channels_go_in_and_out(cupy, rng, kind, shape):
    s = Now(kind)
    parts = [
        rounded(kind, rng.standard_normal((*shape[:-1], width))) for width in (shape[-1], 2, 3)
    ]
    whole = s.new((*shape[:-1], shape[-1] + 5))
    first = 0
    for part in parts:
        elementwise.copy_channels(s, cupy.asarray(part), whole, first)
        first += part.shape[-1]
    np.testing.assert_array_equal(whole.get(), np.concatenate(parts, axis=-1))
    first = 0
    for part in parts:
        back = s.new(part.shape)
        elementwise.copy_channels_back(s, whole, back, first)
        np.testing.assert_array_equal(back.get(), part)
        first += part.shape[-1]


def test_channels_that_do_not_fit_are_refused(cupy):
    s = Now("float32")
    with pytest.raises(ValueError, match=r"channels 3 to 6 of \(2, 5\) aren't \(2, 3\)"):
        elementwise.copy_channels(s, s.new((2, 3)), s.new((2, 5)), 3)
    with pytest.raises(ValueError, match="aren't"):
        elementwise.copy_channels_back(s, s.new((3, 5)), s.new((2, 3)), 0)
