from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest

from minicnn.kernels.cpu.winograd_matrices import (
    ONES,
    POINTS,
    TAPS,
    TILE,
    cook_toom,
    exact_matrices,
    float32_matrices,
)

HALF = Fraction(1, 2)
CASES = [
    (4, 3, POINTS),
    (4, 3, (0, 1, -1, 2, -2)),
    (4, 3, (3, HALF, -2, Fraction(5, 7), 0.25)),  # in no order, and none of the easy ones
    (2, 3, (0, 1, -1)),
    (6, 3, (0, 1, -1, 2, -2, HALF, -HALF)),
    (3, 2, (0, 1, -1)),
    (2, 5, (0, 1, -1, 2, -HALF)),
    (1, 3, (0, 1)),
    (3, 1, (-1, 5)),
    (1, 1, ()),
]


def fractions(rng, *shape):
    """Random fractions: with these, equal means equal."""
    numbers = [Fraction(int(a), int(b)) for a, b in rng.integers(1, 50, (np.prod(shape), 2))]
    signs = rng.choice([-1, 1], len(numbers))
    return np.array([s * x for s, x in zip(signs.tolist(), numbers, strict=True)]).reshape(shape)


def correlate(d, g):
    """Convolve without tricks: (n, n), (r, r) -> (m, m)."""
    m, r = len(d) - len(g) + 1, len(g)
    return np.array([[(d[i : i + r, j : j + r] * g).sum() for j in range(m)] for i in range(m)])


def correlate_transposed(dY, g):
    """Send every dY[i, j] g back to where it was read: (m, m), (r, r) -> (n, n)."""
    m, r = len(dY), len(g)
    dd = np.full((m + r - 1, m + r - 1), Fraction(0))
    for i in range(m):
        for j in range(m):
            dd[i : i + r, j : j + r] += dY[i, j] * g
    return dd


@pytest.mark.parametrize(("m", "r", "points"), CASES)
def test_winograd_is_a_convolution_along_a_line(rng, m, r, points):
    AT, G, BT = exact_matrices(m, r, points)
    d, g = fractions(rng, m + r - 1), fractions(rng, r)
    expected = [(d[i : i + r] * g).sum() for i in range(m)]
    assert (AT @ ((G @ g) * (BT @ d))).tolist() == expected


@pytest.mark.parametrize(("m", "r", "points"), CASES)
def test_winograd_is_a_convolution_in_the_plane(rng, m, r, points):
    AT, G, BT = exact_matrices(m, r, points)
    n = m + r - 1
    d, g = fractions(rng, n, n), fractions(rng, r, r)
    Y = AT @ ((G @ g @ G.T) * (BT @ d @ BT.T)) @ AT.T
    assert Y.tolist() == correlate(d, g).tolist()


@pytest.mark.parametrize(("m", "r", "points"), CASES)
def test_winograd_transposed_is_the_gradient(rng, m, r, points):
    AT, G, BT = exact_matrices(m, r, points)
    n = m + r - 1
    d, g, dY = fractions(rng, n, n), fractions(rng, r, r), fractions(rng, m, m)
    E, U, V = AT.T @ dY @ AT, G @ g @ G.T, BT @ d @ BT.T
    assert (BT.T @ (E * U) @ BT).tolist() == correlate_transposed(dY, g).tolist()
    assert (G.T @ (E * V) @ G).tolist() == correlate(d, dY).tolist()


@pytest.mark.parametrize(("m", "r", "points"), CASES)
def test_cook_toom_rounds_the_exact_matrices(m, r, points):
    n = m + r - 1
    for matrix, exact, shape in zip(
        cook_toom(m, r, points), exact_matrices(m, r, points), ((m, n), (n, r), (n, n)), strict=True
    ):
        assert matrix.dtype == "float64"
        assert matrix.shape == exact.shape == shape
        assert matrix.tolist() == [[float(x) for x in row] for row in exact]


def test_cook_toom_makes_the_matrices_of_the_docstring():
    AT, G, BT = cook_toom(2, 3, (0, 1, -1))
    assert AT.tolist() == [[1, 1, 1, 0], [0, 1, -1, 1]]
    assert G.tolist() == [[-1, 0, 0], [0.5, 0.5, 0.5], [0.5, -0.5, 0.5], [0, 0, 1]]
    assert BT.tolist() == [[-1, 0, 1, 0], [0, 1, 1, 0], [0, -1, 1, 0], [0, -1, 0, 1]]


def test_ones_is_where_a_number_is_added_to_the_whole_tile(rng):
    AT, _, _ = exact_matrices(TILE, TAPS, POINTS)
    assert ONES == 7
    products = np.full(36, Fraction(0))
    products[ONES] = Fraction(5, 3)
    assert (AT @ products.reshape(6, 6) @ AT.T).tolist() == [[Fraction(5, 3)] * 4] * 4
    dY = fractions(rng, 4, 4)
    assert (AT.T @ dY @ AT).reshape(36)[ONES] == dY.sum()


def test_float32_matrices_are_those_of_f43(rng):
    M = float32_matrices()
    AT, G, BT = cook_toom(TILE, TAPS, POINTS)
    GG = (
        np.kron(G, G).reshape(6, 6, 9).swapaxes(0, 1).reshape(36, 9)
    )  # the place along the row first
    for matrix, expected in zip(M, (AT, AT.T, BT, BT.T, GG, GG.T), strict=True):
        assert matrix.dtype == "float32"
        assert matrix.flags.c_contiguous
        assert not matrix.flags.writeable
        np.testing.assert_array_equal(matrix, expected.astype("float32"))
    g = rng.standard_normal((3, 3))
    np.testing.assert_allclose((M.GG @ g.reshape(9)).reshape(6, 6).T, G @ g @ G.T, rtol=2e-6)
    assert float32_matrices() is M


@pytest.mark.parametrize(
    ("m", "r", "points", "complaint"),
    [
        (4, 3, (0, 1, -1, 2, 1), "all different"),
        (4, 3, (0, 1, -1, 0.5, HALF), "all different"),
        (4, 3, (0, 1, -1, 2), "expected 5 points, infinity being one more, got 4"),
        (2, 3, (0, 1, -1, 2), "expected 3 points"),
        (0, 3, (0,), "at least one output"),
    ],
)
def test_cook_toom_refuses(m, r, points, complaint):
    with pytest.raises(ValueError, match=complaint):
        cook_toom(m, r, points)


def tiles_with_gradients(AT, G, BT, d, g, dY):
    """Convolve many tiles and channels as a network does; return Y, dd and dg.

    d: (tiles, C, n, n).  g: (C, O, r, r).  dY: (tiles, O, m, m).
    """
    U = (G @ g @ G.T).transpose(2, 3, 0, 1)  # (n, n, C, O)
    V = (BT @ d @ BT.T).transpose(2, 3, 0, 1)  # (n, n, tiles, C)
    E = (AT.T @ dY @ AT).transpose(2, 3, 0, 1)  # (n, n, tiles, O)
    Y = AT @ (V @ U).transpose(2, 3, 0, 1) @ AT.T
    dd = BT.T @ (E @ U.transpose(0, 1, 3, 2)).transpose(2, 3, 0, 1) @ BT
    dg = G.T @ (V.transpose(0, 1, 3, 2) @ E).transpose(2, 3, 0, 1) @ G
    return Y, dd, dg


def errors_in_float32(points, m=4):
    """Return the errors of Y, dd and dg in float32, relative to their sizes."""
    rng = np.random.default_rng(0)
    n = m + 2
    d, g = rng.standard_normal((300, 8, n, n)), rng.standard_normal((8, 16, 3, 3))
    inputs = [a.astype("float32") for a in (d, g, rng.standard_normal((300, 16, m, m)))]
    matrices = cook_toom(m, 3, points)
    exact = tiles_with_gradients(*matrices, *[a.astype("float64") for a in inputs])
    rounded = tiles_with_gradients(*[a.astype("float32") for a in matrices], *inputs)
    assert all(a.dtype == "float32" for a in rounded)
    return [
        float(np.linalg.norm(a - b) / np.linalg.norm(b))
        for a, b in zip(rounded, exact, strict=True)
    ]


def test_winograd_loses_few_digits_in_float32():
    Y, dd, dg = errors_in_float32(POINTS)
    assert Y < 1e-6
    assert dd < 1e-6
    assert dg < 4e-6
    assert max(errors_in_float32((0, 1, -1), m=2)) < 1e-6


@pytest.mark.parametrize(
    "others", [(2, -2), (HALF, -HALF), (2, HALF), (3, -Fraction(1, 3)), (2, 3)], ids=str
)
def test_other_points_lose_more_digits(others):
    ours, theirs = errors_in_float32(POINTS), errors_in_float32((0, 1, -1, *others))
    for name, a, b in zip(("forward", "dx", "dw"), ours, theirs, strict=True):
        print(f"{name}: 2, -1/2 {a:.1e}   {', '.join(map(str, others))} {b:.1e} ({b / a:.2f}x)")
        assert b > 1.1 * a


def test_points_without_one_lose_as_many_digits():
    """They would do as well, but for the bias (`ONES`)."""
    ours, theirs = errors_in_float32(POINTS), errors_in_float32((0, 2, -2, HALF, -HALF))
    np.testing.assert_allclose(theirs, ours, rtol=0.25)
    ratios = [f"{b / a:.2f}x" for a, b in zip(ours, theirs, strict=True)]
    print("0, 2, -2, 1/2, -1/2:", *ratios)
