"""Every builder at a small size: the same code, fewer channels and layers, smaller pictures."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

import minicnn as mc

SMALL: dict[str, tuple[Callable[[], mc.Sequential], tuple[int, int, int]]] = {
    "tutorial_cnn": (lambda: mc.models.tutorial_cnn(4), (18, 19, 3)),
    "cifar_cnn": (lambda: mc.models.cifar_cnn(4), (10, 12, 3)),
    "vgg11": (lambda: mc.models.vgg11(4, filters=3), (32, 32, 3)),
    "vgg13": (lambda: mc.models.vgg13(4, filters=3), (32, 32, 3)),
    "vgg16": (lambda: mc.models.vgg16(4, filters=3), (32, 32, 3)),
    "vgg19": (lambda: mc.models.vgg19(4, filters=3), (32, 32, 3)),
    "resnet20": (lambda: mc.models.resnet20(4, filters=3), (9, 8, 3)),
    "resnet20, option B": (lambda: mc.models.resnet20(4, "B", filters=3), (9, 8, 3)),
    "resnet32": (lambda: mc.models.resnet32(4, filters=3), (8, 8, 3)),
    "resnet44": (lambda: mc.models.resnet44(4, filters=3), (8, 8, 3)),
    "resnet56": (lambda: mc.models.resnet56(4, filters=3), (8, 8, 3)),
    "resnet110": (lambda: mc.models.resnet110(4, filters=3), (8, 8, 3)),
    "resnet18": (lambda: mc.models.resnet18(4, filters=4), (9, 12, 3)),
    "resnet18, option A": (lambda: mc.models.resnet18(4, "A", filters=3), (9, 12, 3)),
    "resnet34": (lambda: mc.models.resnet34(4, filters=3), (8, 8, 3)),
    "wide_resnet": (lambda: mc.models.wide_resnet(4, depth=10, width=1), (8, 9, 3)),
    "wide_resnet, dropout": (
        lambda: mc.models.wide_resnet(4, depth=16, width=2, dropout=0.3),
        (8, 8, 3),
    ),
    "inception_small": (lambda: mc.models.inception_small(4, filters=4), (9, 8, 3)),
    "densenet_small": (lambda: mc.models.densenet_small(4, depth=10, growth=3), (9, 8, 3)),
    "speedrun94": (lambda: mc.models.speedrun94(4, widths=(4, 8, 16)), (26, 27, 3)),
}


def pictures(shape: tuple[int, int, int], N: int, seed: int = 0) -> np.ndarray:
    """Draw pictures."""
    return np.random.default_rng(seed).integers(0, 256, (N, *shape)).astype("uint8")


def settled(name: str, **options: object) -> mc.Sequential:
    """Return a small network with biases, gammas and betas that all matter."""
    make, shape = SMALL[name]
    model = make().build(shape, seed=1, **options)
    rng = np.random.default_rng(2)
    for key, view in model.params.items():
        if view.ndim == 1:
            view[...] = rng.uniform(0.5, 1.5, view.shape) if "gamma" in key else 0.2
    return model
