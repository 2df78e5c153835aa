"""Heat over a picture, in colours."""

from __future__ import annotations

import numpy as np

from ..options import number

VIRIDIS = (
    (68, 1, 84), (72, 40, 120), (62, 74, 137), (49, 104, 142), (38, 130, 142),
    (31, 158, 137), (53, 183, 121), (109, 205, 89), (180, 222, 44), (253, 231, 37),
)  # fmt: skip
"""Ten colours of matplotlib's viridis, evenly spaced: it grows lighter from end to end, so that
those who see no red or no green, or no colour at all, read it as well."""


def colours(heat: np.ndarray) -> np.ndarray:
    """Return the colours of heat from 0 to 1, of any shape: (..., 3) uint8, viridis."""
    steps, table = np.linspace(0, 1, len(VIRIDIS)), np.array(VIRIDIS, float)
    return (
        np.stack([np.interp(heat, steps, table[:, c]) for c in range(3)], -1).round().astype("u1")
    )


def overlay(picture: np.ndarray, heat: np.ndarray, opacity: float = 0.5) -> np.ndarray:
    """Lay heat over a picture, in colours from dark blue to yellow.

    picture: (H, W, 3) or grey, (H, W, 1), uint8.  heat: (H, W), any float; what is below zero
    counts as zero, the largest becomes yellow.  opacity: 0, the picture alone, to 1, heat alone.
    Returns (H, W, 3) uint8.
    """
    picture, heat = np.asarray(picture), np.asarray(heat)
    if picture.dtype != np.uint8 or picture.ndim != 3 or picture.shape[-1] not in (1, 3):
        raise ValueError(
            f"picture {picture.shape} {picture.dtype}: expected (H, W, 3) or (H, W, 1), uint8"
        )
    if heat.shape != picture.shape[:2] or heat.dtype.kind not in "fiub":
        raise ValueError(
            f"heat {heat.shape} {heat.dtype}: expected one number for each of the picture's "
            f"{picture.shape[:2]} pixels"
        )
    if not np.isfinite(heat).all():
        raise ValueError("heat: expected finite numbers")
    opacity = number(opacity, "opacity", least=0)
    if opacity > 1:
        raise ValueError(f"opacity {opacity}: expected 0 to 1")
    heat = np.maximum(heat.astype(float), 0)
    heat /= heat.max() or 1
    mixed = (1 - opacity) * picture + opacity * colours(heat)
    return mixed.round().astype(np.uint8)
