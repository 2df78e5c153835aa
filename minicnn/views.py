"""Test-time augmentation: the mean answer to several views of a picture.

A view costs what a prediction costs: "flip" takes twice as long as none, "flip+shift" six times.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from . import plan as planned
from .backend import Array, array_module
from .data.sampling import mirror
from .layers import Sequential, Softmax

STILL, UP_LEFT, DOWN_RIGHT = 0, -1, 1  # pixels along both sides at once

VIEWS: dict[str, list[tuple[float, int, bool]]] = {
    "flip": [(1 / 2, STILL, False), (1 / 2, STILL, True)],
    "flip+shift": [
        (weight, shift, flipped)
        for weight, shift in ((1 / 4, STILL), (1 / 8, UP_LEFT), (1 / 8, DOWN_RIGHT))
        for flipped in (False, True)
    ],
}
"""Weight, shift, and whether it is mirrored, for each view."""


def check_views(model: Sequential, tta: Any) -> None:
    """Raise ValueError unless ``tta`` is None or names views that the model's pictures have."""
    if tta is None:
        return
    if not isinstance(tta, str) or tta not in VIEWS:
        raise ValueError(f"tta {tta!r}: expected None, {' or '.join(map(repr, VIEWS))}")
    if len(model.input_shape) != 3:
        raise ValueError(
            f"tta {tta!r} is for pictures, (H, W, C); the model takes {model.input_shape}: leave "
            "tta out"
        )
    if len(model.output_shape) != 1:
        raise ValueError(
            f"tta {tta!r} averages answers about whole pictures, (K,); the model's are "
            f"{model.output_shape}, and a mirrored picture's lie elsewhere: leave tta out"
        )


def infer_views(model: Sequential, x: Array, tta: str | None) -> Array:
    """Return the logits for a batch x, (N, K): their weighted mean over the views of ``tta``.

        logits = sum_v weight_v logits(view_v(x))

    None: the output for x itself.  Of a model that ends in Softmax the logarithms of its
    probabilities are averaged: they are the logits, but for a constant that softmax doesn't see.
    """
    if tta is None:
        return planned.infer(model, x)
    xp, total = array_module(x), None
    for weight, shift, flipped in VIEWS[tta]:
        y = planned.infer(model, view(x, shift, flipped))
        if isinstance(model.last_leaf(), Softmax):
            y = xp.log(xp.maximum(y, float(np.finfo(y.dtype).tiny)))
        y *= weight
        total = y if total is None else total + y
    return total


def view(x: Array, shift: int, flipped: bool) -> Array:
    """Move pictures by some pixels along both sides, with their mirror image beyond the border,
    and then mirror them left and right.

    x: (N, H, W, C), of any dtype.
    """
    if shift:
        xp = array_module(x)
        for axis in (1, 2):
            size = x.shape[axis]
            x = xp.take(x, mirror(xp.arange(size) + shift, size), axis=axis)
    return x[:, :, ::-1].copy() if flipped else x
