from __future__ import annotations

import naive
import numpy as np
import pytest

from minicnn.functional import windows
from minicnn.functional.conv import conv2d_backward, conv2d_forward

from .pairs import assert_small_cache, check_gradient, check_pair

pytestmark = pytest.mark.usefixtures("body")

CASES = {  # x, w, options
    "plain": ((2, 5, 5, 2), (3, 3, 2, 3), {}),
    "rectangular picture and kernel": ((2, 5, 7, 2), (2, 4, 2, 3), {}),
    "one picture, one channel, one filter": ((1, 5, 4, 1), (3, 2, 1, 1), {}),
    "1x1 kernel": ((2, 3, 4, 3), (1, 1, 3, 2), {}),
    "1x1 kernel with stride": ((2, 5, 4, 2), (1, 1, 2, 3), {"stride": 2}),
    "kernel as large as the picture": ((3, 3, 4, 2), (3, 4, 2, 2), {}),
    "unequal strides": ((2, 7, 8, 2), (3, 2, 2, 2), {"stride": (2, 3)}),
    "stride beyond the kernel": ((2, 8, 9, 2), (2, 1, 2, 2), {"stride": (3, 4)}),
    "unequal dilations": ((2, 7, 8, 2), (3, 2, 2, 2), {"dilation": (2, 3)}),
    "stride and dilation": ((2, 9, 8, 1), (3, 2, 1, 2), {"stride": (2, 1), "dilation": (1, 2)}),
    "same": ((2, 5, 6, 2), (3, 3, 2, 2), {"padding": "same"}),
    "same, even kernel": ((2, 5, 6, 2), (2, 4, 2, 2), {"padding": "same"}),
    "same, stride, odd remainder": ((2, 6, 7, 2), (3, 4, 2, 2), {"padding": "same", "stride": 2}),
    "same, dilation": ((1, 6, 5, 2), (2, 3, 2, 2), {"padding": "same", "dilation": (3, 2)}),
    "same, stride beyond the kernel": (
        (2, 7, 8, 1),
        (2, 2, 1, 2),
        {"padding": "same", "stride": 3},
    ),
    "padding by an integer": ((2, 4, 5, 2), (3, 3, 2, 2), {"padding": 1}),
    "padding by a pair": ((2, 4, 5, 2), (3, 2, 2, 2), {"padding": (2, 1)}),
    "padding by four margins": ((2, 4, 5, 2), (3, 3, 2, 2), {"padding": ((0, 2), (3, 1))}),
    "padding wider than the kernel": ((1, 3, 4, 1), (2, 2, 1, 2), {"padding": (3, 2)}),
    "two groups": ((2, 5, 4, 4), (3, 2, 2, 6), {"groups": 2}),
    "depthwise": ((2, 5, 5, 3), (3, 3, 1, 3), {"groups": 3}),
    "depthwise, two filters a channel": ((2, 4, 5, 3), (2, 3, 1, 6), {"groups": 3, "padding": 1}),
    "everything at once": (
        (2, 8, 9, 4),
        (3, 2, 2, 2),
        {"stride": (2, 3), "padding": ((1, 2), (0, 1)), "dilation": (2, 3), "groups": 2},
    ),
}


def arrays(rng, x_shape, w_shape):
    """Draw x, w and b."""
    return [rng.standard_normal(shape) for shape in (x_shape, w_shape, w_shape[3:])]


def with_options(options):
    def conv2d(x, w, b=None):
        return conv2d_forward(x, w, b, **options)

    return conv2d


@pytest.mark.parametrize("case", CASES)
def test_conv2d_forward_matches_loops(backend, rng, case):
    x_shape, w_shape, options = CASES[case]
    x, w, b = arrays(rng, x_shape, w_shape)
    expected = naive.conv2d(x, w, b, **options)
    check_pair(backend, with_options(options), conv2d_backward, (x, w, b), expected)


@pytest.mark.parametrize("case", CASES)
def test_conv2d_gradient(rng, case):
    x_shape, w_shape, options = CASES[case]
    check_gradient(with_options(options), conv2d_backward, arrays(rng, x_shape, w_shape))


@pytest.mark.parametrize("pictures_in_a_part", [1, 2, 3])
@pytest.mark.parametrize("case", ["plain", "everything at once", "same, stride, odd remainder"])
def test_conv2d_is_the_same_in_parts(backend, rng, monkeypatch, case, pictures_in_a_part):
    x_shape, w_shape, options = CASES[case]
    x, w, b = arrays(rng, (7, *x_shape[1:]), w_shape)
    expected = naive.conv2d(x, w, b, **options)
    OH, OW = expected.shape[1:3]
    each = OH * OW * w_shape[0] * w_shape[1] * x_shape[3] * 8
    monkeypatch.setattr(windows, "COLUMN_BYTES", pictures_in_a_part * each)
    assert len(list(windows.parts(7, each))) == -(-7 // pictures_in_a_part)
    check_pair(backend, with_options(options), conv2d_backward, (x, w, b), expected)


@pytest.mark.parametrize("case", ["plain", "everything at once"])
def test_conv2d_gradient_in_parts(rng, monkeypatch, case):
    x_shape, w_shape, options = CASES[case]
    monkeypatch.setattr(windows, "COLUMN_BYTES", 1)  # one picture a part
    inputs = arrays(rng, (3, *x_shape[1:]), w_shape)
    check_gradient(with_options(options), conv2d_backward, inputs)


def test_conv2d_without_bias(backend, rng):
    x, w, _ = arrays(rng, (2, 5, 4, 2), (3, 2, 2, 3))
    y, cache = conv2d_forward(backend.array(x), backend.array(w))
    np.testing.assert_allclose(backend.numpy(y), naive.conv2d(x, w), rtol=1e-12, atol=1e-13)
    dx, dw, db = conv2d_backward(y, cache)
    assert db is None
    assert (dx.shape, dw.shape) == (x.shape, w.shape)


def test_conv2d_backward_leaves_dx_out_if_asked(backend, rng):
    inputs = [backend.array(a) for a in arrays(rng, (2, 5, 4, 2), (3, 2, 2, 3))]
    y, cache = conv2d_forward(*inputs)
    none, dw, db = conv2d_backward(y, cache, need_dx=False)
    _, dw_full, db_full = conv2d_backward(y, cache)
    assert none is None
    np.testing.assert_array_equal(backend.numpy(dw), backend.numpy(dw_full))
    np.testing.assert_array_equal(backend.numpy(db), backend.numpy(db_full))


def test_conv2d_doesnt_flip_the_filter():
    x = np.arange(6.0).reshape(1, 2, 3, 1)
    w = np.zeros((2, 2, 1, 1))
    w[0, 1] = 1  # reads the pixel to the right of the window's first
    y, _ = conv2d_forward(x, w)
    np.testing.assert_array_equal(y[0, :, :, 0], [[1.0, 2.0]])


@pytest.mark.parametrize("case", ["plain", "same", "depthwise", "two groups"])
def test_conv2d_cache_holds_no_columns(rng, case):
    x_shape, w_shape, options = CASES[case]
    x, w, b = arrays(rng, (4, 12, 12, *x_shape[3:]), w_shape)
    assert_small_cache(conv2d_forward, (x, w, b), **options)


def test_conv2d_memory_is_bounded_by_the_parts(rng):
    """Columns of the whole batch would be 25 times x; they are never there at once."""
    import tracemalloc

    x, w = rng.standard_normal((64, 20, 20, 8)), rng.standard_normal((5, 5, 8, 4))
    tracemalloc.start()
    y, _ = conv2d_forward(x, w)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < y.nbytes + 4 * windows.COLUMN_BYTES < x.nbytes * 25 / 3


@pytest.mark.parametrize(
    ("x", "w", "options", "message"),
    [
        ((5, 5, 2), (3, 3, 2, 4), {}, r"expected x \(N, H, W, C\).*got \(5, 5, 2\)"),
        ((1, 5, 5, 2), (3, 3, 4), {}, r"w \(KH, KW, C/G, O\), got .*\(3, 3, 4\)"),
        ((1, 2, 5, 5), (3, 3, 2, 4), {}, r"has 5 channels, but w .* reads 2 .*channels first\?"),
        ((1, 5, 5, 4), (3, 3, 2, 3), {"groups": 2}, r"writes 3, a multiple of the groups"),
        ((1, 5, 5, 4), (3, 3, 4, 4), {"groups": 0}, r"0 group\(s\)"),
        ((1, 2, 5, 1), (3, 3, 1, 1), {}, r"3x3 kernel .* doesn't fit .* 2x5: pad more"),
        ((1, 5, 5, 1), (3, 3, 1, 1), {"dilation": 3}, r"\(dilation 3x3\) doesn't fit"),
        ((1, 5, 5, 1), (3, 3, 1, 1), {"padding": "full"}, r"padding 'full': expected 'valid'"),
        ((1, 5, 5, 1), (3, 3, 1, 1), {"stride": 0}, r"stride 0: expected an integer >= 1"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_conv2d_refuses_misfits(x, w, options, message):
    with pytest.raises(ValueError, match=message):
        conv2d_forward(np.zeros(x), np.zeros(w), **options)


def test_conv2d_refuses_a_bias_of_the_wrong_size():
    with pytest.raises(ValueError, match=r"expected b \(4,\), got \(1,\)"):
        conv2d_forward(np.zeros((1, 5, 5, 2)), np.zeros((3, 3, 2, 4)), np.zeros(1))
