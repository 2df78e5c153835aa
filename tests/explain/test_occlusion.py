"""Occlusion on pictures whose answer is known."""

from __future__ import annotations

import tracemalloc
from math import exp

import numpy as np
import pytest

import minicnn as mc
from minicnn import explain

from .nets import NETS, corner_model, pictures, settled

WHITE = np.full((2, 8, 8, 3), 255, "uint8")


def quarter(k, inside, outside):
    """A picture that is ``inside`` in its quarter k."""
    heat = np.full((8, 8), outside)
    heat[4 * (k // 2) :, 4 * (k % 2) :][:4, :4] = inside
    return heat


@pytest.mark.parametrize("target", range(4))
def test_occlusion_finds_the_corner_that_counts(target):
    """Each quarter gives its own class a logit of 3; black takes it away."""
    heat = explain.occlusion(corner_model(), WHITE, target, size=4, stride=4, fill=0)
    mine = 1 / 4 - 1 / (1 + 3 * exp(3))  # without its quarter
    others = 1 / 4 - exp(3) / (1 + 3 * exp(3))  # without another's: it gains
    assert heat.dtype == np.float32 and mine > 0.2 and others < 0
    np.testing.assert_allclose(heat, [quarter(target, mine, others)] * 2, rtol=1e-5)


def test_occlusion_covers_with_its_mean_colour():
    """A picture of one colour has nothing to cover; a dark one has its bright quarter."""
    model = corner_model()
    for level in (0, 77, 255):
        assert not explain.occlusion(model, np.full((1, 8, 8, 3), level, "uint8"), 2).any()
    x = np.repeat(quarter(3, 255, 55)[None, :, :, None], 3, axis=3).astype("uint8")
    covered = x.copy()
    covered[:, 4:, 4:] = 105  # (255 + 3 * 55) / 4
    before, after = mc.predict(model, x), mc.predict(model, covered)
    heat = explain.occlusion(model, x, size=4, stride=4)
    np.testing.assert_allclose(heat[0, 4:, 4:], (before - after)[0, 3], rtol=1e-5)
    assert heat[0, 4:, 4:].min() > 0.3 > abs(heat[0, :4]).max()


def slowly(model, x, target, size, stride, fill):
    """The formula, square by square."""
    N, H, W, _ = x.shape
    rows = [*range(0, H - size, stride), H - size]
    columns = [*range(0, W - size, stride), W - size]
    heat = np.zeros((N, H, W))
    for n in range(N):
        p = mc.predict(model, x[n : n + 1])[0, target[n]]
        drops = {}
        for i in rows:
            for j in columns:
                covered = x[n].copy()
                covered[i : i + size, j : j + size] = fill
                drops[i, j] = p - mc.predict(model, covered[None])[0, target[n]]
        for a in range(H):
            for b in range(W):
                over = [d for (i, j), d in drops.items() if 0 <= a - i < size and 0 <= b - j < size]
                heat[n, a, b] = sum(over) / len(over)
    return heat


@pytest.mark.parametrize(
    ("size", "stride", "fill"), [(4, 3, 128), (5, 5, (9, 200, 70)), (10, 1, 0), (3, 2, 255)]
)
def test_occlusion_is_its_formula(size, stride, fill):
    """Sizes and steps that don't divide the sides; batches that cut through pictures."""
    model, x = settled(NETS["plain"]()), pictures(3)
    target = [2, 0, 1]
    found = explain.occlusion(model, x, target, size, stride, fill, batch_size=7)
    expected = slowly(model, x, target, size, stride, fill)
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-7)
    assert found.any()


def test_occlusion_takes_a_quarter_of_the_shorter_side():
    model, x = settled(NETS["plain"]()), pictures()  # 12 x 10
    expected = explain.occlusion(model, x, size=2, stride=1)
    np.testing.assert_array_equal(explain.occlusion(model, x), expected)
    tiny = mc.Sequential(mc.Normalize(), mc.Flatten(), mc.Dense(2)).build((1, 2, 1))
    assert explain.occlusion(tiny, pictures(1, (1, 2, 1))).shape == (1, 1, 2)


def test_occlusion_of_floats():
    layers = mc.Conv2D(2, 3), mc.Flatten(), mc.Dense(3)
    model = mc.Sequential(*layers).build((6, 6, 2), dtype="float64")
    x = np.random.default_rng(0).standard_normal((2, 6, 6, 2))
    found = explain.occlusion(model, x, [0, 2], 3, 3, fill=-1.5)
    np.testing.assert_allclose(found, slowly(model, x, [0, 2], 3, 3, -1.5), rtol=1e-5, atol=1e-7)


def test_occlusion_leaves_the_pictures_alone():
    x = pictures()
    before = x.copy()
    explain.occlusion(settled(NETS["plain"]()), x)
    np.testing.assert_array_equal(x, before)


def test_occlusion_takes_the_memory_of_a_batch():
    """900 squares of a picture of 30 kB."""
    layers = mc.Normalize(), mc.GlobalAveragePool2D(), mc.Dense(2)
    model, x = mc.Sequential(*layers).build((100, 100, 3)), pictures(1, (100, 100, 3))
    explain.occlusion(model, x, 0, size=42, stride=42, batch_size=8)  # plans are made
    tracemalloc.start()
    explain.occlusion(model, x, 0, size=42, stride=2, batch_size=8)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 8_000_000 < 900 * x.nbytes


@pytest.mark.parametrize(
    ("options", "match"),
    [
        ({"size": 0}, "size 0: expected an integer >= 1"),
        ({"size": 11}, "size 11: a picture is only 12 x 10 pixels"),
        ({"size": 2.5}, "size 2.5"),
        ({"stride": 0}, "stride 0"),
        ({"size": 3, "stride": 4}, "stride 4: squares of 3 would leave gaps; at most 3"),
        ({"fill": (1, 2)}, r"fill \(1, 2\): expected None, a number, or one per channel \(3\)"),
        ({"fill": "grey"}, "fill 'grey'"),
        ({"fill": float("nan")}, "fill nan"),
        ({"fill": 256}, "fill 256: expected 0 to 255"),
        ({"fill": (0, -1, 0)}, "expected 0 to 255"),
    ],
)
def test_occlusion_refuses_wrong_options(options, match):
    with pytest.raises(ValueError, match=match):
        explain.occlusion(settled(NETS["plain"]()), pictures(), **options)
