"""Random numbers on the device: the methods that CuPy's Generator has, with its arguments."""

from __future__ import annotations

from typing import Any

import numpy as np

from .array import wrap
from .stream import refuse


def default_rng(seed: int | None = None) -> Generator:
    """Return a generator.  It gives NumPy's numbers for this seed, so that tests can compare."""
    if not isinstance(seed, int | None):
        raise TypeError(f"the stand-in takes an integer seed, got {seed!r}")
    return Generator(np.random.default_rng(seed))


class Generator:
    """CuPy's Generator has no permutation, choice, shuffle or normal."""

    def __init__(self, rng: np.random.Generator) -> None:
        self.rng = rng

    def random(self, size: Any = None, dtype: Any = np.float64) -> Any:
        return wrap(np.asarray(self.rng.random(checked(size), dtype=np.dtype(dtype))))

    def integers(self, low: int, high: int | None = None, size: Any = None) -> Any:
        numbers(low, high)
        return wrap(np.asarray(self.rng.integers(low, high, checked(size))))

    def standard_normal(self, size: Any = None, dtype: Any = np.float64) -> Any:
        return wrap(np.asarray(self.rng.standard_normal(checked(size), dtype=np.dtype(dtype))))

    def uniform(self, low: float = 0.0, high: float = 1.0, size: Any = None) -> Any:
        numbers(low, high)
        return wrap(np.asarray(self.rng.uniform(low, high, checked(size))))

    def beta(self, a: float, b: float, size: Any = None) -> Any:
        numbers(a, b)
        return wrap(np.asarray(self.rng.beta(a, b, checked(size))))


def checked(size: Any) -> Any:
    """Return a size if it is None, an integer or a tuple of integers."""
    refuse("random numbers")
    for value in size if isinstance(size, tuple) else (size,):
        if type(value) not in (int, type(None)):
            raise TypeError(f"size {size!r}: expected an integer or a tuple of them")
    return size


def numbers(*values: Any) -> None:
    """Raise TypeError for what isn't a Python number: CuPy takes no NumPy scalars here."""
    for value in values:
        if type(value) not in (int, float, type(None)):
            raise TypeError(f"{value!r} is required to be a cupy.ndarray or a scalar")
