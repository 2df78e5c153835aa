"""Augmentations that mix pictures, and with them their labels (`augment`)."""

from __future__ import annotations

from dataclasses import dataclass
from math import inf
from numbers import Real
from typing import Any

from ..backend import Array, array_module
from .sampling import to_uint8
from .variation import check_integer, check_pictures, check_range, per_picture


@dataclass(frozen=True)
class Mixing:
    """What mixes each picture with another one of the batch: see `MixUp` and `CutMix`.

    The labels become distributions, float32 (N, classes), which `CrossEntropy` takes as well as
    class ids.  Labels that are distributions already are mixed as they are.
    """

    alpha: float
    classes: int = 10

    def __post_init__(self) -> None:
        real = isinstance(self.alpha, Real) and not isinstance(self.alpha, bool)
        if not real or not 0 < self.alpha < inf:
            raise ValueError(f"{self.name}(alpha={self.alpha!r}): expected a number > 0")
        check_integer(self.name, "classes", self.classes, 2)

    @property
    def name(self) -> str:
        """The name of the class."""
        return type(self).__name__

    def share(self, rng: Any, n: int) -> Array:
        """Draw n numbers t ~ Beta(alpha, alpha), float32."""
        alpha = float(self.alpha)  # CuPy takes Python's numbers only
        return rng.beta(alpha, alpha, size=n).astype("float32")

    def targets(self, labels: Array, N: int) -> Array:
        """Return the labels as distributions, float32 (N, classes)."""
        if labels.shape == (N,):
            ids = array_module(labels).arange(self.classes)
            return (labels[:, None] == ids).astype("float32")
        if labels.shape == (N, self.classes):
            return labels.astype("float32")
        raise ValueError(
            f"{self.name}(classes={self.classes}): labels are {labels.shape}, "
            f"expected {(N,)} or {(N, self.classes)}"
        )


@dataclass(frozen=True)
class MixUp(Mixing):
    """Mix each picture, and its label, with another one of the batch.

        x' = t x + (1 - t) x_other      y' = t y + (1 - t) y_other      t ~ Beta(alpha, alpha)

    The labels become distributions, float32 (N, classes), which `CrossEntropy` takes as well as
    class ids.  Labels that are distributions already are mixed as they are.
    Raises ValueError if alpha <= 0, classes < 2, or the labels have another shape.

    Zhang et al., "mixup: beyond empirical risk minimization", 2017.
    """

    alpha: float = 0.2

    def __call__(self, x: Array, labels: Array, rng: Any) -> tuple[Array, Array]:
        """Return x: uint8 (N, H, W, C) and targets: float32 (N, classes)."""
        check_pictures(x)
        targets = self.targets(labels, len(x))
        other = partners(x, rng)
        t = self.share(rng, len(x))
        mixed = to_uint8(per_picture(t) * x + (1 - per_picture(t)) * x[other])
        return mixed, mix(targets, other, t)


@dataclass(frozen=True)
class CutMix(Mixing):
    """Put a piece of another picture of the batch over each, at the same place.

        side = sqrt(1 - t) of the picture's      t ~ Beta(alpha, alpha)
        y' = s y + (1 - s) y_other               s: the share of pixels that stay

    As in the paper's algorithm, one box serves the whole batch: its middle is any pixel, and what
    is outside the picture is cut off, so that s is counted afterwards, pixel by pixel.  A batch is
    left as it is with chance 1 - ``probability`` (its authors' code takes 0.5 on CIFAR).

    The labels become distributions, as those of `MixUp`; both may be used, one after the other.
    Raises ValueError if alpha <= 0, classes < 2, probability isn't 0 to 1, or the labels have
    another shape.

    Yun et al., "CutMix: regularization strategy to train strong classifiers with localizable
    features", 2019.
    """

    alpha: float = 1.0
    probability: float = 1.0

    def __post_init__(self) -> None:
        super().__post_init__()
        check_range(self.name, "probability", self.probability, 0, 1)

    def __call__(self, x: Array, labels: Array, rng: Any) -> tuple[Array, Array]:
        """Return x: uint8 (N, H, W, C) and targets: float32 (N, classes)."""
        check_pictures(x)
        xp = array_module(x)
        N, H, W, _ = x.shape
        targets = self.targets(labels, N)
        other = partners(x, rng)
        side = xp.sqrt(1 - self.share(rng, 1)) * (rng.random(1) < self.probability)
        box = xp.ones((1, 1, 1), dtype=bool)
        for axis, size in ((1, H), (2, W)):
            length = xp.rint(size * side).astype("int64")
            place = xp.arange(size) - (rng.integers(0, size, size=1) - length // 2)
            within = (place >= 0) & (place < length)
            box = box & (within[None, :, None] if axis == 1 else within[None, None, :])
        kept = 1 - box.sum(axis=(1, 2)).astype("float32") / (H * W)  # (1,)
        return xp.where(box[..., None], x[other], x), mix(targets, other, kept)


def partners(x: Array, rng: Any) -> Array:
    """Draw with which picture of the batch each is mixed: a permutation (N,), by either library."""
    return array_module(x).argsort(rng.random(len(x)))


def mix(targets: Array, other: Array, share: Array) -> Array:
    """Return ``share`` of each picture's own target and the rest of its partner's.

    targets: (N, classes).  other: (N,).  share: (N,), or (1,) for all.
    """
    return share[:, None] * targets + (1 - share)[:, None] * targets[other]
