"""Occlusion: what a network can't do without is found by covering it."""

from __future__ import annotations

from typing import Any

import numpy as np

from ..backend import Array, to_numpy
from ..layers import Sequential
from ..options import whole
from ..train import predict
from .checks import check_classifier, check_target


def occlusion(
    model: Sequential,
    x: Array,
    target: Any = None,
    size: int | None = None,
    stride: int | None = None,
    fill: Any = None,
    batch_size: int = 256,
) -> np.ndarray:
    """Return how much covering each place costs a class (Zeiler and Fergus 2014, section 4.2).

        heat[i,j] = mean over the squares that cover (i, j) of  p(x) - p(x with the square covered)

    p: the probability of the class.  A square goes over the picture in steps of ``stride``, and
    lies at its borders too.  It knows nothing of the network's inside, and takes a prediction for
    each square.

    x: (N, H, W, C).  target: the class, one for all pictures or (N,); None, the class that the
    model says of the whole picture.  size: of the square, in pixels; None, a quarter of the
    shorter side.  stride: at most ``size``; None, half of it.  fill: what it is covered with, in
    the scale of x: a number, or one for each channel; None, each picture's mean colour.
    batch_size: covered pictures at once, which is what the memory depends on.
    Returns (N, H, W), float32, -1 to 1: above zero where covering takes probability away, below
    zero where it gives some.  The model stays what it was.
    """
    check_classifier(model, x)
    H, W = model.input_shape[:2]
    x = to_numpy(x)
    size = whole(max(1, min(H, W) // 4) if size is None else size, "size")
    stride = whole(max(1, size // 2) if stride is None else stride, "stride")
    if size > min(H, W):
        raise ValueError(f"size {size}: a picture is only {H} x {W} pixels")
    if stride > size:
        raise ValueError(f"stride {stride}: squares of {size} would leave gaps; at most {size}")
    colours = check_fill(x, fill)

    before = predict(model, x, batch_size)
    targets = check_target(model, x, target)
    targets = before.argmax(axis=1) if targets is None else targets
    corners = [(i, j) for i in starts(H, size, stride) for j in starts(W, size, stride)]
    total, count = np.zeros((len(x), H, W)), np.zeros((H, W))
    for i, j in corners:
        count[i : i + size, j : j + size] += 1
    P = len(corners)
    for start in range(0, len(x) * P, batch_size):
        tasks = [divmod(k, P) for k in range(start, min(start + batch_size, len(x) * P))]
        rows = np.array([n for n, _ in tasks])
        covered = x[rows]
        for picture, (n, place) in zip(covered, tasks, strict=True):
            i, j = corners[place]
            picture[i : i + size, j : j + size] = colours[n]
        after = predict(model, covered, batch_size)
        drops = before[rows, targets[rows]] - after[np.arange(len(rows)), targets[rows]]
        for drop, (n, place) in zip(drops, tasks, strict=True):
            i, j = corners[place]
            total[n, i : i + size, j : j + size] += drop
    return (total / count).astype(np.float32)


def starts(length: int, size: int, stride: int) -> list[int]:
    """Return where squares begin along a side: every ``stride`` pixels, and one at the end."""
    last = length - size
    return [*range(0, last, stride), last]


def check_fill(x: np.ndarray, fill: Any) -> np.ndarray:
    """Return the colour that covers each picture, (N, C), in the dtype of x."""
    N, C = len(x), x.shape[-1]
    if fill is None:
        colour = x.mean(axis=(1, 2), dtype="float64")
    else:
        try:
            colour = np.asarray(fill, "float64")
        except (TypeError, ValueError):
            colour = np.empty(0)
        if colour.shape not in ((), (1,), (C,)) or not np.isfinite(colour).all():
            raise ValueError(f"fill {fill!r}: expected None, a number, or one per channel ({C})")
    if x.dtype.kind in "iu":
        if colour.min() < 0 or colour.max() > 255:
            raise ValueError(f"fill {fill!r}: expected 0 to 255, as the pictures")
        colour = colour.round()
    return np.broadcast_to(colour, (N, C)).astype(x.dtype)
