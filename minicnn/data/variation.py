"""What the augmentations have in common: chances of each picture's own, and checks."""

from __future__ import annotations

from numbers import Real
from typing import Any

from ..backend import Array


def between(rng: Any, n: int, most: float) -> Array:
    """Draw n numbers from -most to most, float32."""
    return (2 * rng.random(n, dtype="float32") - 1) * most


def per_picture(values: Array) -> Array:
    """Let one value for each picture broadcast over its pixels: (N,) -> (N, 1, 1, 1)."""
    return values[:, None, None, None]


def check_pictures(x: Array) -> None:
    """Raise ValueError unless x is a batch of uint8 pictures."""
    if x.ndim != 4 or x.dtype != "uint8":
        raise ValueError(
            f"pictures are {x.dtype} {x.shape}, expected uint8 (N, H, W, C): "
            "augment before anything is scaled, in the model or by hand"
        )


def check_integer(owner: str, name: str, value: int, low: int, high: int | None = None) -> None:
    """Raise ValueError unless ``value`` is an integer from ``low`` to ``high``."""
    whole = isinstance(value, int) and not isinstance(value, bool)
    if not whole or value < low or (high is not None and value > high):
        bound = f">= {low}" if high is None else f"from {low} to {high}"
        raise ValueError(f"{owner}({name}={value!r}): expected an integer {bound}")


def check_range(owner: str, name: str, value: float, low: float, high: float) -> None:
    """Raise ValueError unless low <= value <= high."""
    real = isinstance(value, Real) and not isinstance(value, bool)
    if not real or not low <= value <= high:
        raise ValueError(f"{owner}({name}={value!r}): expected a number from {low} to {high}")
