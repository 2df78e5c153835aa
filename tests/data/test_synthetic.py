from __future__ import annotations

import numpy as np
import pytest

from minicnn.data import synthetic as module
from minicnn.data.synthetic import CLASSES, DRAW, synthetic


def test_synthetic_has_the_form_of_cifar10():
    x, y = synthetic(50, seed=3)
    assert x.shape == (50, 32, 32, 3) and x.dtype == np.uint8 and x.flags.c_contiguous
    assert y.shape == (50,) and y.dtype == np.int64
    assert len(CLASSES) == len(set(CLASSES)) == 10


def test_synthetic_repeats_bitwise():
    (x, y), (again, y_again), (other, _) = synthetic(300, 1), synthetic(300, 1), synthetic(300, 2)
    np.testing.assert_array_equal(x, again)
    np.testing.assert_array_equal(y, y_again)
    assert (x != other).mean() > 0.9


@pytest.mark.parametrize("chunk", [1, 7, 1000])
def test_synthetic_is_the_same_in_any_chunks(monkeypatch, chunk):
    x, _ = synthetic(100, 5)
    monkeypatch.setattr(module, "CHUNK", chunk)
    np.testing.assert_array_equal(synthetic(100, 5)[0], x)


def test_synthetic_is_balanced_and_shuffled():
    y = synthetic(205)[1]
    counts = np.bincount(y, minlength=10)
    assert counts.min() == 20 and counts.max() == 21
    assert (np.diff(y) == 1).mean() < 0.3  # not 0, 1, 2, ...


def test_synthetic_fills_the_range_of_values():
    x, _ = synthetic(200)
    assert x.min() == 0 and x.max() == 255 and 90 < x.mean() < 165
    assert len(np.unique(x.reshape(200, -1), axis=0)) == 200


@pytest.mark.parametrize(
    "name, inside, outside",
    [
        ("disc", [(0, 0), (0.6, 0.5)], [(0.7, 0.7)]),
        ("ring", [(0.7, 0), (-0.5, 0.5)], [(0, 0), (0.3, 0.3), (1, 0)]),
        ("square", [(0, 0), (0.7, 0.7)], [(0.8, 0), (0, -0.8)]),
        ("triangle", [(0, 0), (0, -0.9), (0.7, 0.4)], [(0, 0.6), (0.7, -0.5), (-0.7, -0.5)]),
        ("cross", [(0, 0), (0.9, 0.2), (0.2, -0.9)], [(0.5, 0.5), (1, 0)]),
        ("star", [(0, 0), (0.9, 0)], [(-0.7, 0), (0.6, 0.4)]),
        ("crescent", [(-0.5, 0), (0, 0.7)], [(0.5, 0), (0, 0), (-1, 0)]),
        ("stripes", [(0.3, 0), (0.3, 9)], [(-0.3, 0), (-0.3, 9)]),
        ("checks", [(0.4, 0.4), (-0.4, -0.4)], [(0.4, -0.4), (-0.4, 0.4)]),
        ("dots", [(0, 0), (2 * np.pi / 4.5, 0)], [(np.pi / 4.5, 0), (0, np.pi / 4.5)]),
    ],
)
def test_drawing_is_positive_inside(name, inside, outside):
    draw = DRAW[CLASSES.index(name)]
    for points, sign in ((inside, 1), (outside, -1)):
        for u, v in points:
            value = draw(np.float32([[u]]), np.float32([[v]]))
            assert value.dtype == np.float32 and sign * value[0, 0] > 0, (u, v)


@pytest.mark.parametrize("name, turns", [("triangle", 3), ("square", 4), ("cross", 4), ("star", 5)])
def test_drawing_has_its_symmetry(name, turns):
    draw = DRAW[CLASSES.index(name)]
    u, v = np.random.default_rng(0).uniform(-1, 1, (2, 500)).astype(np.float32)
    angle = 2 * np.pi / turns
    cos, sin = np.float32(np.cos(angle)), np.float32(np.sin(angle))
    turned = draw(cos * u - sin * v, sin * u + cos * v)
    np.testing.assert_allclose(turned, draw(u, v), atol=1e-5)


@pytest.mark.parametrize("n", [0, -1, 2.0, True])
def test_synthetic_refuses_a_wrong_count(n):
    with pytest.raises(ValueError, match="number of pictures"):
        synthetic(n)


@pytest.mark.parametrize("seed", [-1, 0.5, None])
def test_synthetic_refuses_a_wrong_seed(seed):
    with pytest.raises(ValueError, match="seed"):
        synthetic(10, seed)
