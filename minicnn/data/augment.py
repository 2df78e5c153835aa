"""Vary the pictures of a batch, so that a network sees a new one each time.

Each class here is called as ``x, labels = vary(x, labels, rng)``: x is uint8 (N, H, W, C), on the
CPU or the GPU, and isn't modified; rng is a generator of the same library (`Stream.next` gives
one).  The whole batch is varied at once, each picture by chances of its own (`CutMix`: all alike),
and a GPU is never waited for.  So a function of your own will do as well.

What depends on the epoch has a method ``for_epoch(epoch, count, seed, xp)``: `Batches` asks it for
what varies the batches of this epoch, of a data set of so many examples in the library xp.  If
that has a method ``for_examples(chosen)``, it is asked for what varies the examples of a batch
(`functional.gather`).  `AlternatingFlip` does both.

A GPU flips, shifts and covers while it gathers the batch: ``known_to_kernels`` says what a kernel
calls that (`kernels.cuda.batch.Changes`), where nothing else is done before it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from ..backend import Array, array_module
from .mixing import CutMix, MixUp
from .moving import AlternatingFlip, RandomCrop, RandomFlip, RandomRotation, RandomZoom
from .sampling import to_uint8
from .variation import between, check_integer, check_pictures, check_range, per_picture

__all__ = [
    "AlternatingFlip",
    "BrightnessContrast",
    "CutMix",
    "Cutout",
    "MixUp",
    "RandomCrop",
    "RandomFlip",
    "RandomRotation",
    "RandomZoom",
]


@dataclass(frozen=True)
class Cutout:
    """Cover a square of ``size`` pixels in each picture with the grey level ``fill``.

    Its middle is any pixel, so that near a border less than the square is covered.  The paper
    fills with the mean of the data set, which for uint8 pictures is about the default.
    Raises ValueError if size < 1 or fill isn't 0 to 255.

    DeVries and Taylor, "Improved regularization of convolutional neural networks with cutout",
    2017.
    """

    size: int = 8
    fill: int = 128

    def __post_init__(self) -> None:
        check_integer("Cutout", "size", self.size, 1)
        check_integer("Cutout", "fill", self.fill, 0, 255)

    def known_to_kernels(self) -> dict[str, Any]:
        """Return what a kernel calls this."""
        return {"cutout": self.size, "fill": self.fill}

    def __call__(self, x: Array, labels: Array, rng: Any) -> tuple[Array, Array]:
        """Return x: uint8 (N, H, W, C) and the labels as they are."""
        check_pictures(x)
        xp = array_module(x)
        N, H, W, _ = x.shape
        top = rng.integers(0, H, size=(N, 1)) - self.size // 2
        left = rng.integers(0, W, size=(N, 1)) - self.size // 2
        rows, columns = xp.arange(H) - top, xp.arange(W) - left
        rows = (rows >= 0) & (rows < self.size)  # (N, H)
        columns = (columns >= 0) & (columns < self.size)  # (N, W)
        hole = rows[:, :, None, None] & columns[:, None, :, None]
        return xp.where(hole, xp.full((), self.fill, dtype="uint8"), x), labels


@dataclass(frozen=True)
class BrightnessContrast:
    """Change the light of each picture.

        y = mean + (x - mean) * c + 255 * b        c in 1 +- contrast,  b in +- brightness

    with the mean over the picture, rounded and clipped to 0 to 255.
    Raises ValueError unless both are 0 to 1.
    """

    brightness: float = 0.2
    contrast: float = 0.2

    def __post_init__(self) -> None:
        check_range("BrightnessContrast", "brightness", self.brightness, 0, 1)
        check_range("BrightnessContrast", "contrast", self.contrast, 0, 1)

    def __call__(self, x: Array, labels: Array, rng: Any) -> tuple[Array, Array]:
        """Return x: uint8 (N, H, W, C) and the labels as they are."""
        check_pictures(x)
        lift = per_picture(255 * between(rng, len(x), self.brightness))
        factor = per_picture(1 + between(rng, len(x), self.contrast))
        mean = x.mean(axis=(1, 2, 3), keepdims=True, dtype="float32")
        return to_uint8((x - mean) * factor + mean + lift), labels
