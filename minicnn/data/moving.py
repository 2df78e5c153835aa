"""Augmentations that move pixels: mirrored, shifted, turned, scaled (`augment`).

What comes in from outside a picture, at a shifted or turned border, is its mirror image: black
margins would be something that no test picture has.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from ..backend import Array, array_module
from ..streams import Stream
from .sampling import mirror, pick, turn_and_zoom
from .variation import between, check_integer, check_pictures, check_range


@dataclass(frozen=True)
class RandomFlip:
    """Mirror left and right in half of the pictures."""

    def known_to_kernels(self) -> dict[str, Any]:
        """Return what a kernel calls this."""
        return {"flip": True}

    def __call__(self, x: Array, labels: Array, rng: Any) -> tuple[Array, Array]:
        """Return x: uint8 (N, H, W, C) and the labels as they are."""
        check_pictures(x)
        return mirrored(x, rng.random(len(x)) < 0.5), labels


@dataclass(frozen=True)
class AlternatingFlip:
    """Mirror each picture by a coin of its own in the first epoch, and then in every second one.

    The other epochs show the mirror image of what the epoch before showed: so any two epochs in a
    row have every picture both ways, where `RandomFlip` repeats half of them.

    A coin is a function of the seed and of the picture's place in the data set, and the epoch is
    counted by the stream that shuffles: whatever the device and the size of batches, and after a
    resume.  `fit` and `Batches` know both; a call with a batch alone is an error.

    Jordan, "94% on CIFAR-10 in 3.29 seconds on a single GPU", 2024, section 3.6.
    """

    def for_epoch(self, epoch: int, count: int, seed: int, xp: Any) -> Mirrored:
        """Return what mirrors the pictures of this epoch, of a data set of ``count``."""
        coins = Stream(seed, "alternating flip").next().random(count) < 0.5
        return Mirrored(xp.asarray(coins ^ (epoch % 2 == 1)))

    def __call__(self, x: Array, labels: Array, rng: Any) -> tuple[Array, Array]:
        """Raise ValueError: a batch alone doesn't say which pictures it has."""
        raise ValueError(
            "AlternatingFlip has to know the epoch and which pictures these are: give it to fit "
            "or to Batches, or take RandomFlip"
        )


@dataclass(frozen=True)
class Mirrored:
    """Mirror left and right where ``which`` says so: bool, one for each picture."""

    which: Array

    def for_examples(self, chosen: Array | slice) -> Mirrored:
        """Return the same for some of the pictures."""
        return Mirrored(self.which[chosen])

    def known_to_kernels(self) -> dict[str, Any]:
        """Return what a kernel calls this."""
        return {"flip": self.which.view("uint8")}

    def __call__(self, x: Array, labels: Array, rng: Any) -> tuple[Array, Array]:
        """Return x: uint8 (N, H, W, C) and the labels as they are."""
        check_pictures(x)
        return mirrored(x, self.which), labels


@dataclass(frozen=True)
class RandomCrop:
    """Shift each picture by up to ``padding`` pixels in either direction.

    As if the picture were padded by its mirror image on every side ("reflect": the border pixel
    isn't doubled) and a window of its own size cut out.  Raises ValueError if ``padding`` is
    negative or as large as a picture.

    He et al., "Deep residual learning for image recognition", 2015 (there with zeros).
    """

    padding: int = 4

    def __post_init__(self) -> None:
        check_integer("RandomCrop", "padding", self.padding, 0)

    def known_to_kernels(self) -> dict[str, Any]:
        """Return what a kernel calls this."""
        return {"crop": self.padding}

    def __call__(self, x: Array, labels: Array, rng: Any) -> tuple[Array, Array]:
        """Return x: uint8 (N, H, W, C) and the labels as they are."""
        check_pictures(x)
        N, H, W, _ = x.shape
        if self.padding >= min(H, W):
            raise ValueError(
                f"RandomCrop(padding={self.padding}): pictures are {H} x {W}, "
                f"expected a padding of at most {min(H, W) - 1}"
            )
        xp = array_module(x)
        shift = rng.integers(-self.padding, self.padding + 1, size=(2, N, 1))
        rows = mirror(xp.arange(H) + shift[0], H)  # (N, H)
        columns = mirror(xp.arange(W) + shift[1], W)  # (N, W)
        return pick(x, rows[:, :, None], columns[:, None, :]), labels


@dataclass(frozen=True)
class RandomRotation:
    """Turn each picture about its middle by up to ``degrees`` either way.

    Raises ValueError unless 0 <= degrees <= 180.
    """

    degrees: float = 15.0

    def __post_init__(self) -> None:
        check_range("RandomRotation", "degrees", self.degrees, 0, 180)

    def __call__(self, x: Array, labels: Array, rng: Any) -> tuple[Array, Array]:
        """Return x: uint8 (N, H, W, C) and the labels as they are."""
        check_pictures(x)
        xp = array_module(x)
        angle = xp.deg2rad(between(rng, len(x), self.degrees))
        return turn_and_zoom(x, xp.cos(angle), xp.sin(angle)), labels


@dataclass(frozen=True)
class RandomZoom:
    """Enlarge or shrink each picture about its middle by a factor of 1 - amount to 1 + amount.

    Raises ValueError unless 0 <= amount <= 0.5.
    """

    amount: float = 0.1

    def __post_init__(self) -> None:
        check_range("RandomZoom", "amount", self.amount, 0, 0.5)

    def __call__(self, x: Array, labels: Array, rng: Any) -> tuple[Array, Array]:
        """Return x: uint8 (N, H, W, C) and the labels as they are."""
        check_pictures(x)
        scale = 1 / (1 + between(rng, len(x), self.amount))
        return turn_and_zoom(x, scale, array_module(x).zeros_like(scale)), labels


def mirrored(x: Array, which: Array) -> Array:
    """Mirror some of the pictures: x (N, H, W, C), which (N,) bool."""
    xp = array_module(x)
    _, H, W, _ = x.shape
    columns = xp.where(which[:, None], xp.arange(W - 1, -1, -1), xp.arange(W))  # (N, W)
    return pick(x, xp.arange(H)[:, None], columns[:, None, :])
