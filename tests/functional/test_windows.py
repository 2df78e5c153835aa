from __future__ import annotations

import naive
import numpy as np
import pytest

from minicnn.functional import windows as w

CASES = {  # size of the picture, taps, stride, dilation
    "square": ((5, 5), (3, 3), (1, 1), (1, 1)),
    "rectangles": ((6, 9), (2, 4), (1, 1), (1, 1)),
    "unequal strides": ((7, 8), (3, 2), (2, 3), (1, 1)),
    "unequal dilations": ((9, 8), (3, 2), (1, 2), (2, 3)),
    "stride beyond the kernel": ((8, 9), (2, 1), (3, 4), (1, 1)),
    "one tap": ((4, 3), (1, 1), (1, 1), (1, 1)),
    "the whole picture": ((4, 5), (4, 5), (1, 1), (1, 1)),
    "one pixel": ((1, 1), (1, 1), (2, 2), (1, 1)),
}


def windows_by_loops(x, size, stride, dilation):
    margin = (0, 0), (0, 0)
    OH, OW = naive.output_size(x.shape, size, stride, margin, dilation)
    cols = np.zeros((x.shape[0], OH, OW, size[0] * size[1], x.shape[3]))
    for oh, ow, pixels in naive.windows(x.shape, size, stride, margin, dilation):
        for k, (h, v) in enumerate(pixels.values()):
            cols[:, oh, ow, k] = x[:, h, v]
    return cols


@pytest.mark.parametrize("case", CASES)
def test_im2col_copies_every_window(backend, rng, case):
    hw, size, stride, dilation = CASES[case]
    x = rng.standard_normal((2, *hw, 3))
    cols = w.im2col(backend.array(x), size, stride, dilation)
    np.testing.assert_array_equal(
        backend.numpy(cols), windows_by_loops(x, size, stride, dilation), strict=True
    )


@pytest.mark.parametrize("case", CASES)
def test_col2im_is_the_adjoint_of_im2col(backend, rng, case):
    """<im2col(x), c> = <x, col2im(c)>, entry by entry: with x one at one pixel, zero elsewhere."""
    hw, size, stride, dilation = CASES[case]
    cols = rng.standard_normal(
        windows_by_loops(np.zeros((1, *hw, 1)), size, stride, dilation).shape
    )
    x = backend.array(np.zeros((1, *hw, 1)))
    w.col2im(backend.array(cols), x, size, stride, dilation)
    for h in range(hw[0]):
        for v in range(hw[1]):
            unit = np.zeros((1, *hw, 1))
            unit[0, h, v, 0] = 1
            expected = (windows_by_loops(unit, size, stride, dilation) * cols).sum()
            assert float(x[0, h, v, 0]) == pytest.approx(expected, rel=1e-12, abs=1e-14)


def test_col2im_adds_to_what_is_there(backend):
    x = backend.array(np.full((1, 2, 2, 1), 7.0))
    w.col2im(backend.array(np.ones((1, 2, 2, 1, 1))), x, 1)
    np.testing.assert_array_equal(backend.numpy(x), 8.0)


def test_shifted_views_share_memory():
    x = np.zeros((1, 4, 4, 1))
    for view in w.shifted_views(x, 2, 2):
        view += 1
    np.testing.assert_array_equal(x, 1)


@pytest.mark.parametrize("n", range(1, 12))
@pytest.mark.parametrize("taps", [1, 2, 3, 5])
@pytest.mark.parametrize("stride", [1, 2, 3])
@pytest.mark.parametrize("dilation", [1, 2])
def test_resolve_padding_same_gives_ceil_outputs(n, taps, stride, dilation):
    vertical, horizontal = w.resolve_padding("same", (n, 4), (taps, 1), (stride, 1), (dilation, 1))
    assert vertical == naive.same_margins(n, taps, stride, dilation)
    assert horizontal == (0, 0)
    assert w.out_size(n + sum(vertical), taps, stride, dilation) == -(-n // stride)


def test_resolve_padding_same_looks_at_each_direction():
    margins = w.resolve_padding("same", (7, 9), (4, 3), (1, 2), (1, 2))
    assert margins == ((1, 2), (2, 2))


@pytest.mark.parametrize(
    ("padding", "expected"),
    [
        ("valid", ((0, 0), (0, 0))),
        (0, ((0, 0), (0, 0))),
        (2, ((2, 2), (2, 2))),
        ((1, 3), ((1, 1), (3, 3))),
        ([1, 3], ((1, 1), (3, 3))),
        (((1, 2), (3, 4)), ((1, 2), (3, 4))),
        ([[1, 2], [3, 4]], ((1, 2), (3, 4))),
    ],
)
def test_resolve_padding_takes_every_spelling(padding, expected):
    assert w.resolve_padding(padding, (5, 6), 3) == expected


@pytest.mark.parametrize(
    "padding",
    [
        "full",
        "",
        -1,
        (1, -1),
        (1, 2, 3),
        ((1, 2), (3, -4)),
        ((1, 2, 3), (1, 2)),
        1.5,
        (1.5, 2),
        None,
    ],
    ids=repr,
)
def test_resolve_padding_refuses_the_rest(padding):
    with pytest.raises(ValueError, match="expected 'valid', 'same', an integer >= 0"):
        w.resolve_padding(padding, (5, 6), 3)


@pytest.mark.parametrize(
    "value", [0, -1, (1, 0), (1, 2, 3), (1.0, 2), True, "33", 1.5, None], ids=repr
)
def test_pair_refuses_what_isnt_two_sizes(value):
    with pytest.raises(ValueError, match=r"strides .*: expected an integer >= 1 or a pair"):
        w.pair(value, "strides")


def test_pad_and_crop_are_inverse(backend, rng):
    x, margins = rng.standard_normal((2, 3, 4, 2)), ((1, 2), (0, 3))
    padded = w.pad(backend.array(x), margins, -np.inf)
    assert padded.shape == (2, 6, 7, 2)
    np.testing.assert_array_equal(backend.numpy(w.crop(padded, margins)), x)
    assert int((padded == -np.inf).sum()) == 2 * (6 * 7 - 3 * 4) * 2


def test_pad_without_margins_copies_nothing(rng):
    x = rng.standard_normal((2, 3, 4, 2))
    assert w.pad(x, ((0, 0), (0, 0))) is x


def test_shifted_views_refuse_a_window_larger_than_the_picture():
    with pytest.raises(ValueError, match=r"3x2 taps \(dilation 2x1\) doesn't fit .* 4x5: pad it"):
        list(w.shifted_views(np.zeros((1, 4, 5, 1)), (3, 2), 1, (2, 1)))


@pytest.mark.parametrize(("N", "each", "limit"), [(10, 3, 10), (7, 100, 10), (1, 1, 1), (4, 0, 8)])
def test_parts_cover_every_picture_once(N, each, limit):
    slices = list(w.parts(N, each, limit))
    assert [i for part in slices for i in range(N)[part]] == list(range(N))
    sizes = [part.stop - part.start for part in slices]
    assert all(size == 1 or size * each <= limit for size in sizes)
    assert len(slices) == -(-N // max(1, limit // max(1, each)))


def test_parts_follow_the_module_limit(monkeypatch):
    monkeypatch.setattr(w, "COLUMN_BYTES", 20)
    assert [part.stop for part in w.parts(5, 10)] == [2, 4, 5]


def test_channel_sum_adds_all_but_the_last_axis(backend, rng):
    x = rng.standard_normal((3, 4, 5, 2))
    expected = [sum(x[..., c].ravel().tolist()) for c in range(2)]
    np.testing.assert_allclose(backend.numpy(w.channel_sum(backend.array(x))), expected, rtol=1e-12)
    np.testing.assert_allclose(
        backend.numpy(w.channel_sum(backend.array(x[:, 0, 0]))), x[:, 0, 0].sum(axis=0), rtol=1e-12
    )


def test_channel_sum_keeps_digits_in_float32(backend):
    """A million terms one after the other would be off by some thousandths."""
    x = backend.array(np.full((1024, 32, 32, 2), 0.1, "float32"))
    exact = 1024 * 32 * 32 * float(np.float32(0.1))
    np.testing.assert_allclose(backend.numpy(w.channel_sum(x)), exact, rtol=1e-4)
