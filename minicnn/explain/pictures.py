"""Heat over a picture, in colours."""

from __future__ import annotations

import numpy as np

from ..options import number

PLASMA = (
    (13, 8, 135), (70, 3, 159), (114, 1, 168), (156, 23, 158), (189, 55, 134),
    (216, 87, 107), (237, 121, 83), (251, 159, 58), (253, 202, 38), (240, 249, 33),
)  # fmt: skip
"""Ten colours of matplotlib's plasma, evenly spaced: it grows lighter from end to end, so that who
sees no red or no green, or no colour at all, reads it as well; few photographs have its hues."""


def colours(heat: np.ndarray) -> np.ndarray:
    """Return the colours of heat from 0 to 1, of any shape: (..., 3) uint8, plasma."""
    steps, table = np.linspace(0, 1, len(PLASMA)), np.array(PLASMA, float)
    channels = [np.interp(heat, steps, table[:, c]) for c in range(3)]
    return np.stack(channels, axis=-1).round().astype(np.uint8)


def overlay(picture: np.ndarray, heat: np.ndarray, opacity: float = 0.75) -> np.ndarray:
    """Lay heat over a picture, in colours from purple over orange to yellow.

        y = (1 - a) picture + a colour(h)        h = heat / max heat        a = opacity h

    The less heat, the more of the picture is seen; without any it stays what it is.

    picture: (H, W, 3) or grey, (H, W, 1), uint8.  heat: (H, W), any finite numbers; what is below
    zero counts as zero.  opacity: how much of the hottest place is colour, 0 to 1.
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
    alpha = opacity * heat[..., None]
    mixed = (1 - alpha) * picture + alpha * colours(heat)
    return mixed.round().astype(np.uint8)
