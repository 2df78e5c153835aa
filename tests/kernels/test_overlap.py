"""Tiles that overlap: every pixel has its place, and large weights' gradients come in pieces."""

import numpy as np
import pytest

import minicnn as mc
from minicnn.functional.conv import conv2d_backward, conv2d_forward
from minicnn.kernels.cpu import winograd
from minicnn.kernels.cpu.overlap import places
from minicnn.kernels.cpu.rows import LONG, repeats


@pytest.mark.parametrize("margin", [0, 1, 2])
@pytest.mark.parametrize("pixels", range(1, 14))
def test_places_has_every_pixel_once(pixels, margin):
    tiles = -(-(pixels + margin) // 4)
    found = []
    for slots, some, first in places(pixels, margin, 4, tiles):
        for i in range(slots.stop - slots.start):
            for a in range(some.stop - some.start):
                pixel = first + i + 4 * a
                assert pixel == 4 * (some.start + a) + slots.start + i - margin
                found.append(pixel)
    assert sorted(found) == list(range(pixels))


@pytest.mark.parametrize("most", [1, 36 * 24 * 4 * 7, 10_000_000])
def test_conv2d_gradient_of_weights_in_pieces(rng, monkeypatch, most):
    """Whatever the pieces, and with several chunks of pictures."""
    monkeypatch.setattr(winograd, "LARGE", 0)
    monkeypatch.setattr(winograd, "MOST", most)
    monkeypatch.setattr(winograd, "CHUNK_BYTES", 1 << 14)
    x = rng.standard_normal((9, 7, 6, 20)).astype("float32")
    w = rng.standard_normal((3, 3, 20, 24)).astype("float32")
    with mc.conv_algorithm("winograd"):
        y, cache = conv2d_forward(x, w, None, padding="same")
        found = conv2d_backward(y, cache)[:2]
    book = conv2d_forward.dispatch(object), conv2d_backward.dispatch(object)
    _, cache = book[0](x.astype("float64"), w.astype("float64"), None, padding="same")
    for array, wanted in zip(found, book[1](y.astype("float64"), cache)[:2], strict=True):
        assert np.linalg.norm(array - wanted) < 1e-5 * np.linalg.norm(wanted)


def test_rows_are_as_long_as_numpys_buffer():
    """Shorter ones are copied there, which makes sums with a bias half as fast."""
    assert np.getbufsize() <= LONG
    for shape in [(32, 32, 16), (32, 32, 24), (8, 8, 256), (1, 10_007, 3)]:
        k = repeats(shape)
        assert shape[0] * shape[1] % k == 0
        assert k * shape[2] >= LONG
    assert repeats((8, 8, 64)) == 64  # a whole picture
    assert repeats((5,)) == 1
