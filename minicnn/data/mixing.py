"""Augmentations that mix pictures, and with them their labels (`augment`)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from ..backend import Array, array_module
from .sampling import to_uint8
from .variation import check_integer, check_pictures, per_picture


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
