"""Winograd's convolution: m outputs of a filter with r taps from m + r - 1 products, not m * r.

A tile of m outputs y[i] = sum_k g[k] d[i+k] needs n = m + r - 1 inputs d.  With three small fixed
matrices it is

    y = A^T [ (G g) * (B^T d) ]                     * element by element: n products

This file tells why, and makes the matrices, F(m, r) for short.  The idea is Cook and Toom's, for
products of polynomials; that no way takes fewer products is in Winograd 1980 ("Arithmetic
Complexity of Computations"); Lavin and Gray 2016, section 4, brought it to neural networks.

1. Polynomials.  Let h(x) have m coefficients and g(x) have r.  Their product s(x) has n, and term
   by term it takes m * r products.  But n values determine it, and a value takes one product:
   s(p) = h(p) g(p).  So evaluate both at n points, multiply, interpolate.  The last point may be
   infinity, where a polynomial's "value" is its leading coefficient, here h[m-1] g[r-1].

   To evaluate is to multiply with a matrix of powers, (A h)[j] = h(p_j).  To interpolate, let
   N_j(x) be the product of (x - p_l) over all finite points but p_j, and N(x) over all of them.

       s(x) = sum_j s(p_j) N_j(x) / N_j(p_j) + s(infinity) N(x)              (Lagrange)

   for both sides have the same values at the n - 1 finite points, and the same leading coefficient.

2. A convolution is this, transposed.  Weigh the outputs with any h: with s the coefficients of h g

       sum_i h[i] y[i] = sum_ik h[i] g[k] d[i+k] = sum_l s[l] d[l]
                       = sum_j (A h)[j] (G g)[j] (B^T d)[j]

   where row j of B^T holds the coefficients of N_j (the last row those of N), and row j of G
   evaluates at p_j and divides by N_j(p_j): there it is done once for all pictures.  As this holds
   for every h, y = A^T [ (G g) * (B^T d) ].  The smallest is F(2, 3), 4 products instead of 6, from
   the points 0, 1, -1 and infinity:

       A^T =  1  1  1  0       G =  -1    0    0        B^T = -1  0  1  0
              0  1 -1  1           1/2  1/2  1/2               0  1  1  0
                                   1/2 -1/2  1/2               0 -1  1  0
                                     0    0    1               0 -1  0  1

3. Two dimensions.  Along the rows it is a convolution whose products are convolutions along the
   columns, so the one goes into the other:

       Y = A^T [ U * V ] A        U = G g G^T    V = B^T d B        d: (n, n)  g: (r, r)  Y: (m, m)

   F(4x4, 3x3) takes 36 products for 16 outputs instead of 144.  The last transform is linear, so
   the sum over channels comes before it: each of the 36 is a product (tiles, C) @ (C, O).

4. Backward.  The gradient through Y = P X Q is dX = P^T dY Q^T.  So with E = A dY A^T, the gradient
   of the products,

       dL/dd = B [ E * U ] B^T    added up where the tiles' inputs overlap
       dL/dg = G^T [ E * V ] G    added up over tiles and pictures

5. The point 1.  Its powers are ones, and so is its column of A^T.  A number added to the product
   that is at 1 in both directions is therefore added to every output of the tile: a bias costs one
   addition in 36 products (`ONES`) instead of 16 in the outputs.  Backward, the sum of dY over the
   tile, the gradient of that bias, stands at the same place of E.

What it costs.  The transforms: of V 432 multiply-adds in a tile and channel, of Y 240.  Counting
those, F(4x4, 3x3) takes 3.1 times fewer than a direct convolution with 64 channels in and out, 1.8
times fewer with 16, and more with 4.  And digits: high powers are large, and what is large cancels.
In float32, with 64 to 256 channels, a direct convolution is off by 2 to 3e-7 of its size, F(2, 3)
by 2 to 4e-7, F(4, 3) by 1 to 2e-6.  How much is lost depends on the points.  0, 1, -1 and infinity
are free; others should have a size near 1, so that their powers have, and be far from each other,
so that N_j(p_j) isn't small.  2 and -1/2 do well: with 2 and -2, or with 1/2 and -1/2, the error is
1.4 to 1.7 times as large, with 2 and 1/2 2.5 times (Barabasz et al. 2020 search for such points).
With 0, 2, -2, 1/2, -1/2 it is as small, but there is no point 1.  The points are compared again,
for the gradients too, by

    pytest tests/kernels/test_winograd_matrices.py -k lose -rP
"""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction
from functools import cache
from math import prod
from typing import NamedTuple, TypeAlias

import numpy as np

Point: TypeAlias = int | float | Fraction

TILE, TAPS = 4, 3
POINTS: tuple[Point, ...] = (0, 1, -1, 2, Fraction(-1, 2))
"""The finite points of F(4, 3); infinity is the sixth."""

ONES = POINTS.index(1) * (TILE + TAPS - 1) + POINTS.index(1)
"""Which of the 36 products is at the point 1 in both directions: what is added to it is added to
all outputs of the tile."""


def exact_matrices(
    m: int, r: int, points: Sequence[Point]
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return A^T, G, B^T of F(m, r) in fractions.

    points: the m + r - 2 finite ones, all different.  Returns AT: (m, n), G: (n, r), BT: (n, n),
    n = m + r - 1, arrays of ``Fraction``.  Raises ValueError for too few, too many or equal points.
    """
    n = m + r - 1
    if m < 1 or r < 1:
        raise ValueError(f"F({m}, {r}): expected at least one output and one tap")
    if len(points) != n - 1:
        raise ValueError(
            f"F({m}, {r}): expected {n - 1} points, infinity being one more, got {len(points)}"
        )
    p = [Fraction(point) for point in points]
    if len(set(p)) < len(p):
        raise ValueError(
            f"F({m}, {r}): the points {', '.join(map(str, p))} aren't all different, and a value "
            "known twice doesn't determine anything more: replace one of the equal ones"
        )
    AT, G, BT = (np.full(shape, Fraction(0), object) for shape in ((m, n), (n, r), (n, n)))
    for j, point in enumerate(p):
        others = p[:j] + p[j + 1 :]
        divisor = prod((point - other for other in others), start=Fraction(1))  # N_j(p_j)
        AT[:, j] = [point**i for i in range(m)]
        G[j] = [point**k / divisor for k in range(r)]
        BT[j, : n - 1] = coefficients(others)
    AT[m - 1, n - 1] = G[n - 1, r - 1] = Fraction(1)  # at infinity: the leading coefficient
    BT[n - 1] = coefficients(p)
    return AT, G, BT


def coefficients(roots: Sequence[Fraction]) -> list[Fraction]:
    """Multiply out the product of (x - root); the constant comes first."""
    result = [Fraction(1)]
    for root in roots:
        times_x, times_root = [Fraction(0), *result], [root * c for c in result] + [Fraction(0)]
        result = [a - b for a, b in zip(times_x, times_root, strict=True)]
    return result


def cook_toom(m: int, r: int, points: Sequence[Point]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return `exact_matrices` in float64: AT (m, n), G (n, r), BT (n, n)."""
    AT, G, BT = (matrix.astype(np.float64) for matrix in exact_matrices(m, r, points))
    return AT, G, BT


class Matrices(NamedTuple):
    """What a convolution by F(4x4, 3x3) multiplies with, n = 6; C-contiguous, not to be changed.

    GG is G for both directions at once, of a filter written as a column: with w as (9, C*O),
    GG @ w is U as (36, C*O), the place along the row first, as `winograd` has its tiles.  GGT, its
    transpose, takes the gradient back.
    """

    AT: np.ndarray  # (4, 6)
    A: np.ndarray  # (6, 4)
    BT: np.ndarray  # (6, 6)
    B: np.ndarray  # (6, 6)
    GG: np.ndarray  # (36, 9)
    GGT: np.ndarray  # (9, 36)


@cache
def float32_matrices() -> Matrices:
    """Return the matrices of F(4x4, 3x3) from `POINTS`, rounded from float64."""
    AT, G, BT = cook_toom(TILE, TAPS, POINTS)
    GG = np.kron(G, G).reshape(6, 6, 9).swapaxes(0, 1).reshape(36, 9)
    matrices = [np.ascontiguousarray(a, np.float32) for a in (AT, AT.T, BT, BT.T, GG, GG.T)]
    for matrix in matrices:
        matrix.flags.writeable = False
    return Matrices(*matrices)
