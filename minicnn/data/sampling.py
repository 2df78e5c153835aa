"""Read pictures at other places than their pixels: shifted, turned, scaled.

x is uint8 (N, H, W, C), on the CPU or the GPU.  A place outside a picture shows its mirror image.
"""

from __future__ import annotations

import numpy as np

from ..backend import Array, array_module

CPU_PART = 16  # pictures at once on a CPU: what is computed on the way stays in its cache


def turn_and_zoom(x: Array, cos: Array, sin: Array) -> Array:
    """Read each picture at turned and scaled places, between the pixels.

    The pixel at offset (r, c) from the middle is read at (cos r + sin c, cos c - sin r): for an
    angle a and a zoom z these are cos(a) / z and sin(a) / z, and the picture turns
    counterclockwise.  A place between pixels is a mixture of its four neighbours (bilinear).

    x: uint8 (N, H, W, C)  cos, sin: float32 (N,).  Returns uint8 (N, H, W, C).
    """
    xp = array_module(x)
    y = xp.empty(x.shape, dtype=x.dtype)
    step = CPU_PART if xp is np else len(x)
    for start in range(0, len(x), step):
        part = slice(start, start + step)
        y[part] = turn_and_zoom_part(x[part], cos[part], sin[part])
    return y


def turn_and_zoom_part(x: Array, cos: Array, sin: Array) -> Array:
    """Do `turn_and_zoom` for some of the pictures."""
    xp = array_module(x)
    _, H, W, C = x.shape
    cos, sin = cos[:, None, None], sin[:, None, None]
    down = xp.arange(H, dtype="float32")[:, None] - (H - 1) / 2
    right = xp.arange(W, dtype="float32") - (W - 1) / 2
    rows = mirror(cos * down + sin * right + (H - 1) / 2, H)  # (N, H, W)
    columns = mirror(cos * right - sin * down + (W - 1) / 2, W)

    # The neighbour at the upper left, by its number in the batch, and the steps to the others.
    top = xp.floor(rows).clip(0, max(H - 2, 0))
    left = xp.floor(columns).clip(0, max(W - 2, 0))
    first = pixel_numbers(x) + (top * W + left).astype("int64")
    step_down, step_right = W * (H > 1), 1 * (W > 1)
    below = (rows - top)[..., None].repeat(C, axis=3)  # 0 to 1, (N, H, W, C)
    beside = (columns - left)[..., None].repeat(C, axis=3)

    pixels = x.reshape(-1, C)
    upper, lower = (
        blend(xp.take(pixels, start, axis=0), xp.take(pixels, start + step_right, axis=0), beside)
        for start in (first, first + step_down)
    )
    return to_uint8(blend(upper, lower, below))


def blend(a: Array, b: Array, share: Array) -> Array:
    """Return a + (b - a) * share, float32."""
    y = b.astype("float32")
    y -= a
    y *= share
    y += a
    return y


def mirror(place: Array, size: int) -> Array:
    """Fold coordinates back into 0 ... size - 1, as mirrors at the first and last pixel would.

    What is more than a picture away is taken from the border.
    """
    last = size - 1
    return (last - abs(last - abs(place))).clip(0, last)


def pick(x: Array, rows: Array, columns: Array) -> Array:
    """Gather the pixels of each picture at ``rows`` and ``columns``, integers that broadcast.

    x: (N, H, W, C).  Returns (N, ., ., C).
    """
    numbers = pixel_numbers(x) + rows * x.shape[2] + columns
    return array_module(x).take(x.reshape(-1, x.shape[3]), numbers, axis=0)


def pixel_numbers(x: Array) -> Array:
    """Return the number, in the batch, of the first pixel of each picture: (N, 1, 1)."""
    N, H, W, _ = x.shape
    return (array_module(x).arange(N) * (H * W))[:, None, None]


def to_uint8(x: Array) -> Array:
    """Round to the nearest of 0 to 255."""
    return array_module(x).rint(x).clip(0, 255).astype("uint8")
