"""Vary the pictures of a batch, so that a network sees a new one each time.

Each class here is called as ``x, labels = vary(x, labels, rng)``: x is uint8 (N, H, W, C), on the
CPU or the GPU, and isn't modified; rng is a generator of the same library (`Stream.next` gives
one).  The whole batch is varied at once, each picture by chances of its own, and a GPU is never
waited for.

A GPU flips, shifts and covers while it gathers the batch: ``known_to_kernels`` says what a kernel
calls that (`kernels.cuda.batch.Changes`), where nothing else is done before it.

What comes in from outside a picture, at a shifted or turned border, is its mirror image: black
margins would be something that no test picture has.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from ..backend import Array, array_module
from .sampling import mirror, pick, to_uint8, turn_and_zoom


@dataclass(frozen=True)
class RandomFlip:
    """Mirror left and right in half of the pictures."""

    def known_to_kernels(self) -> dict[str, Any]:
        """Return what a kernel calls this."""
        return {"flip": True}

    def __call__(self, x: Array, labels: Array, rng: Any) -> tuple[Array, Array]:
        """Return x: uint8 (N, H, W, C) and the labels as they are."""
        check_pictures(x)
        xp = array_module(x)
        N, H, W, _ = x.shape
        flip = rng.random((N, 1)) < 0.5
        columns = xp.where(flip, xp.arange(W - 1, -1, -1), xp.arange(W))  # (N, W)
        return pick(x, xp.arange(H)[:, None], columns[:, None, :]), labels


@dataclass(frozen=True)
class RandomCrop:
    """Shift each picture by up to ``padding`` pixels in either direction.

    As if the picture were padded by its mirror image on every side and a window of its own size
    cut out.  Raises ValueError if ``padding`` is negative or as large as a picture.

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


@dataclass(frozen=True)
class MixUp:
    """Mix each picture, and its label, with another one of the batch.

        x' = t x + (1 - t) x_other      y' = t y + (1 - t) y_other      t ~ Beta(alpha, alpha)

    The labels become distributions, float32 (N, classes), which `CrossEntropy` takes as well as
    class ids.  Labels that are distributions already are mixed as they are.
    Raises ValueError if alpha <= 0, classes < 2, or the labels have another shape.

    Zhang et al., "mixup: beyond empirical risk minimization", 2017.
    """

    alpha: float = 0.2
    classes: int = 10

    def __post_init__(self) -> None:
        if not self.alpha > 0:
            raise ValueError(f"MixUp(alpha={self.alpha!r}): expected a number > 0")
        check_integer("MixUp", "classes", self.classes, 2)

    def __call__(self, x: Array, labels: Array, rng: Any) -> tuple[Array, Array]:
        """Return x: uint8 (N, H, W, C) and targets: float32 (N, classes)."""
        check_pictures(x)
        xp, N = array_module(x), len(x)
        if labels.shape == (N,):
            targets = (labels[:, None] == xp.arange(self.classes)).astype("float32")
        elif labels.shape == (N, self.classes):
            targets = labels.astype("float32")
        else:
            raise ValueError(
                f"MixUp(classes={self.classes}): labels are {labels.shape}, "
                f"expected {(N,)} or {(N, self.classes)}"
            )
        other = xp.argsort(rng.random(N))  # a permutation, drawn by either library
        alpha = float(self.alpha)  # CuPy takes Python's numbers only
        t = rng.beta(alpha, alpha, size=N).astype("float32")
        share = per_picture(t)
        mixed = to_uint8(share * x + (1 - share) * x[other])
        return mixed, t[:, None] * targets + (1 - t)[:, None] * targets[other]


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
    if not low <= value <= high:
        raise ValueError(f"{owner}({name}={value!r}): expected a number from {low} to {high}")
