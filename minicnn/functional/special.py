"""The error function, which NumPy lacks."""

from __future__ import annotations

from math import pi, sqrt

from ..backend import Array, array_module
from .windows import COLUMN_BYTES, parts

# Numerators and denominators, highest power first, of W. J. Cody, "Rational Chebyshev
# approximations for the error function", Math. Comp. 23 (1969), tables II and III, in the digits
# of his SPECFUN.  The denominators' leading 1 is written out.
SMALL = (  # erf(x) = x P(x^2) / Q(x^2), |x| <= 0.46875
    (
        1.85777706184603153e-1,
        3.16112374387056560e00,
        1.13864154151050156e02,
        3.77485237685302021e02,
        3.20937758913846947e03,
    ),
    (
        1.0,
        2.36012909523441209e01,
        2.44024637934444173e02,
        1.28261652607737228e03,
        2.84423683343917062e03,
    ),
)
MIDDLE = (  # erfc(x) = exp(-x^2) P(x) / Q(x), 0.46875 <= x <= 4
    (
        2.15311535474403846e-8,
        5.64188496988670089e-1,
        8.88314979438837594e00,
        6.61191906371416295e01,
        2.98635138197400131e02,
        8.81952221241769090e02,
        1.71204761263407058e03,
        2.05107837782607147e03,
        1.23033935479799725e03,
    ),
    (
        1.0,
        1.57449261107098347e01,
        1.17693950891312499e02,
        5.37181101862009858e02,
        1.62138957456669019e03,
        3.29079923573345963e03,
        4.36261909014324716e03,
        3.43936767414372164e03,
        1.23033935480374942e03,
    ),
)
LARGE = (  # erfc(x) = exp(-x^2) / x (1 / sqrt(pi) - P(z) z / Q(z)), z = 1 / x^2, x >= 4
    (
        1.63153871373020978e-2,
        3.05326634961232344e-1,
        3.60344899949804439e-1,
        1.25781726111229246e-1,
        1.60837851487422766e-2,
        6.58749161529837803e-4,
    ),
    (
        1.0,
        2.56852019228982242e00,
        1.87295284992346725e00,
        5.27905102951428412e-1,
        6.05183413124413191e-2,
        2.33520497626869185e-3,
    ),
)


def erf(x: Array) -> Array:
    """Return the error function, 2 / sqrt(pi) times the integral of exp(-t^2) from 0 to x.

    x: any shape.  Returns the same shape and dtype; the error is a few units in the last place.
    """
    y = array_module(x).empty(x.shape, dtype=x.dtype)
    ravelled, result = x.reshape(-1), y.reshape(-1)
    for part in parts(x.size, x.dtype.itemsize, COLUMN_BYTES // 8):  # a dozen in between
        result[part] = erf_part(ravelled[part])
    return y


def erf_part(x: Array) -> Array:
    """Compute all three ranges and take the right one: no branch, so both array libraries."""
    xp = array_module(x)
    size = abs(x)
    small = xp.minimum(size, 0.46875)
    middle = xp.minimum(xp.maximum(size, 0.46875), 4.0)
    large = xp.minimum(xp.maximum(size, 4.0), 6.0)  # beyond 6, erf is 1 in float64
    z = 1 / (large * large)
    tail = (1 / sqrt(pi) - z * ratio(z, *LARGE)) / large
    y = xp.where(
        size <= 0.46875,
        small * ratio(small * small, *SMALL),
        xp.where(
            size <= 4.0,
            1 - xp.exp(-middle * middle) * ratio(middle, *MIDDLE),
            1 - xp.exp(-large * large) * tail,
        ),
    )
    return xp.where(x < 0, -y, y)


def ratio(x: Array, numerator: tuple[float, ...], denominator: tuple[float, ...]) -> Array:
    """Return the quotient of two polynomials in x, coefficients from the highest power down."""
    top, bottom = x * numerator[0], x * denominator[0]
    for a, b in zip(numerator[1:-1], denominator[1:-1], strict=True):
        top, bottom = (top + a) * x, (bottom + b) * x
    return (top + numerator[-1]) / (bottom + denominator[-1])
