"""Drawn pictures of ten classes: a data set that needs no network and no disk.

Every picture is drawn by formulas.  A class is a function of the coordinates (u, v) on the figure,
turned, scaled and shifted for each picture; its value is > 0 inside the figure.  Colours, light,
clutter and noise are chance, so that only the shape tells the class.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeAlias

import numpy as np

Field: TypeAlias = np.ndarray
"""float32 (M, 32, 32): one number for each pixel of M pictures."""

SIZE = 32
CHUNK = 128  # pictures drawn at once: their arrays fit the cache
TAU = 2 * np.pi


def disc(u: Field, v: Field) -> Field:
    """Fill the unit circle."""
    return np.float32(0.85) - np.hypot(u, v)


def ring(u: Field, v: Field) -> Field:
    """Leave a hole in the disc."""
    return np.float32(0.2) - np.abs(np.hypot(u, v) - np.float32(0.7))


def square(u: Field, v: Field) -> Field:
    """Fill a square."""
    return np.float32(0.75) - np.maximum(np.abs(u), np.abs(v))


def triangle(u: Field, v: Field) -> Field:
    """Fill an equilateral triangle: inside of three half-planes."""
    slope, half = np.float32(np.sqrt(0.75)), np.float32(0.5)
    return np.float32(0.5) - np.maximum(v, slope * np.abs(u) - half * v)


def cross(u: Field, v: Field) -> Field:
    """Lay one bar across another."""
    a, b = np.abs(u), np.abs(v)
    return np.minimum(np.float32(0.3) - np.minimum(a, b), np.float32(0.95) - np.maximum(a, b))


def star(u: Field, v: Field) -> Field:
    """Fill a star of five points: one edge, seen in each of its ten mirrors."""
    turn = np.float32(TAU / 5)
    angle = np.arctan2(v, u)
    angle = np.abs(angle - turn * np.rint(angle / turn))  # 0 at a point of the star, TAU/10 between
    r = np.hypot(u, v)
    return np.float32(0.38) - r * np.cos(angle - np.float32(1.18))


def crescent(u: Field, v: Field) -> Field:
    """Take a disc out of a disc."""
    bite = np.hypot(u - np.float32(0.5), v) - np.float32(0.65)
    return np.minimum(np.float32(0.9) - np.hypot(u, v), bite)


def stripes(u: Field, v: Field) -> Field:
    """Fill the picture with stripes."""
    return np.float32(0.3) * np.sin(np.float32(5) * u)


def checks(u: Field, v: Field) -> Field:
    """Fill the picture with a checkerboard."""
    return np.float32(0.5) * np.sin(np.float32(4) * u) * np.sin(np.float32(4) * v)


def dots(u: Field, v: Field) -> Field:
    """Fill the picture with dots."""
    return np.float32(0.35) * (
        np.cos(np.float32(4.5) * u) + np.cos(np.float32(4.5) * v) - np.float32(0.6)
    )


DRAW: tuple[Callable[[Field, Field], Field], ...] = (
    disc, ring, square, triangle, cross, star, crescent, stripes, checks, dots,
)  # fmt: skip

CLASSES = tuple(draw.__name__ for draw in DRAW)


def synthetic(n: int = 10_000, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Draw ``n`` pictures of the ten `CLASSES`, equally many of each, in shuffled order.

    Position, size, angle, colours, light, a bar in front, contrast and noise are drawn from
    ``seed``: the same (n, seed) gives the same bytes on the same machine.  It is made to be learned
    by a small network in a few epochs, but not without errors, as CIFAR-10 is.

    Returns x: uint8 (n, 32, 32, 3) and y: int64 (n,), as `cifar10` does.
    Raises ValueError if n < 1 or seed < 0.
    """
    if isinstance(n, bool) or not isinstance(n, int | np.integer) or n < 1:
        raise ValueError(f"n {n!r}: expected a number of pictures >= 1")
    if isinstance(seed, bool) or not isinstance(seed, int | np.integer) or seed < 0:
        raise ValueError(f"seed {seed!r}: expected an integer >= 0")
    scene_seed, noise_seed = np.random.SeedSequence(seed).spawn(2)
    scene = Scene(n, np.random.default_rng(scene_seed))
    noise = np.random.default_rng(noise_seed)  # read once from front to back, whatever the chunks
    x = np.empty((n, SIZE, SIZE, 3), dtype=np.uint8)
    for start in range(0, n, CHUNK):
        part = slice(start, min(start + CHUNK, n))
        x[part] = scene.draw(part, noise)
    return x, scene.labels


class Scene:
    """What is where in ``n`` pictures, and in which light; every array is (n, ...)."""

    def __init__(self, n: int, rng: np.random.Generator) -> None:
        def uniform(low: float, high: float, *shape: int) -> np.ndarray:
            return rng.uniform(low, high, (n, *shape)).astype(np.float32)

        self.labels = rng.permutation(np.arange(n, dtype=np.int64) % len(CLASSES))
        self.center = uniform(-5, 5, 2)  # pixels from the middle
        self.radius = uniform(5.5, 12)  # pixels
        self.angle = uniform(0, TAU)
        self.stretch = uniform(0.85, 1.18)  # along u
        self.ground, self.figure, self.front = uniform(0, 1, 3), uniform(0, 1, 3), uniform(0, 1, 3)
        self.contrast = uniform(0.15, 0.6)  # between the brightness of figure and ground
        self.light = uniform(-0.25, 0.25, 2)  # how much brighter at the right, at the bottom
        self.bar = uniform(-12, 12)  # the object in front: a bar, this far from the middle
        self.bar_angle = uniform(0, TAU)
        self.bar_width = np.maximum(uniform(-4, 3), 0)  # 0: none, in most pictures
        self.noise = uniform(0.02, 0.14)

    def draw(self, part: slice, noise: np.random.Generator) -> np.ndarray:
        """Return the pictures of ``part``, uint8 (M, 32, 32, 3)."""
        axis = np.arange(SIZE, dtype=np.float32) - np.float32((SIZE - 1) / 2)
        rows, columns = axis[:, None], axis

        def each(values: np.ndarray) -> np.ndarray:
            return values[part, None, None]

        # Coordinates on the figure: shift, turn, scale.
        down, right = rows - each(self.center[:, 0]), columns - each(self.center[:, 1])
        cos, sin = each(np.cos(self.angle)), each(np.sin(self.angle))
        radius = each(self.radius)
        u = (cos * right + sin * down) / (radius * each(self.stretch))
        v = (cos * down - sin * right) / radius

        inside = np.empty_like(u)
        for label, draw in enumerate(DRAW):
            mine = np.flatnonzero(self.labels[part] == label)
            inside[mine] = draw(u[mine], v[mine])
        cover = np.clip(inside * radius + np.float32(0.5), 0, 1)[..., None]

        # Colours of any hue: the figure is darker than a bright ground, brighter than a dark one.
        ground, figure = self.ground[part], self.figure[part]
        level = ground.mean(axis=1, keepdims=True)
        gap = np.where(level > 0.5, -1, 1).astype(np.float32) * self.contrast[part, None]
        figure = level + gap + np.float32(0.5) * (figure - figure.mean(axis=1, keepdims=True))
        x = ground[:, None, None] + cover * (figure - ground)[:, None, None]

        light = each(self.light[:, 0]) * rows + each(self.light[:, 1]) * columns
        x += light[..., None] / SIZE
        across = each(np.cos(self.bar_angle)) * columns + each(np.sin(self.bar_angle)) * rows
        bar = each(self.bar_width) - np.abs(across - each(self.bar)) + np.float32(0.5)
        bar = np.clip(bar, 0, np.minimum(each(self.bar_width), 1))[..., None]
        x += bar * (self.front[part, None, None] - x)

        x += each(self.noise)[..., None] * noise.standard_normal(x.shape, dtype=np.float32)
        return np.clip(x * 255, 0, 255).astype(np.uint8)
