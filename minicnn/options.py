"""What an option may be: checks that say its name, what it was, and what was expected."""

from __future__ import annotations

from math import inf, isfinite, nan
from numbers import Integral, Real
from typing import Any


def is_whole(value: Any) -> bool:
    """Whether ``value`` is an integer, Python's or NumPy's (and not True or False)."""
    return isinstance(value, Integral) and not isinstance(value, bool)


def whole(value: Any, name: str, least: int = 1) -> int:
    """Return ``value`` as an int; raise ValueError unless it is an integer >= least."""
    if not is_whole(value) or value < least:
        raise ValueError(f"{name} {value!r}: expected an integer >= {least}")
    return int(value)


def number(
    value: Any, name: str, least: float = -inf, above: float = -inf, below: float = inf
) -> float:
    """Return ``value`` as a float; raise ValueError unless it is finite and within bounds.

    The bounds are value >= least, value > above, value < below.
    """
    try:
        x = float(value) if isinstance(value, Real) and not isinstance(value, bool) else nan
    except OverflowError:  # an integer beyond all floats
        x = inf
    if isfinite(x) and x >= least and above < x < below:
        return x
    bounds = ((">=", least, -inf), (">", above, -inf), ("<", below, inf))
    limits = " and ".join(f"{sign} {limit:g}" for sign, limit, none in bounds if limit != none)
    raise ValueError(f"{name} {value!r}: expected a number {limits}".rstrip())
