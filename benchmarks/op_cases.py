"""What `ops.py` times: arguments for the functions of the book, in the sizes of real networks.

An operation is a pair ``NAME_forward``, ``NAME_backward`` of `minicnn.functional`, or an update
rule ``NAME_update``.
"""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from minicnn import functional


@dataclass(frozen=True)
class Case:
    """One call: a label for people, its arguments, and the operations of its direct form.

    needs_dx: whether backward is asked for the gradient of x; not in a network's first layer.
    """

    label: str
    args: tuple[Any, ...]
    flops: float = 0.0
    needs_dx: bool = True


def functions() -> dict[str, Callable[..., Any]]:
    """Return every function of the book that others may register bodies for, by name."""
    found = {}
    for module in pkgutil.iter_modules(functional.__path__, functional.__name__ + "."):
        for name, function in vars(importlib.import_module(module.name)).items():
            if hasattr(function, "registry") and function.__module__ == module.name:
                found[name] = function
    return found


def registered(found: dict[str, Callable[..., Any]]) -> set[str]:
    """Return the operations of which at least one half has a body for NumPy arrays."""
    return {base(name) for name, function in found.items() if np.ndarray in function.registry}


def base(name: str) -> str:
    """Return the operation of a function: "conv2d" of "conv2d_backward"."""
    return name.removesuffix("_forward").removesuffix("_backward")


def floats(*shape: int) -> np.ndarray:
    """Return normal float32 numbers, the same each time."""
    return np.random.default_rng(0).standard_normal(shape, dtype="float32")


# (N, H = W, C, O, window, stride, padding): shared/reference/cpu.md's, then the tutorial network's.
CONVOLUTIONS = (
    (64, 32, 64, 64, 3, 1, "same"),
    (64, 16, 128, 128, 3, 1, "same"),
    (64, 8, 256, 256, 3, 1, "same"),
    (64, 32, 16, 16, 3, 1, "same"),
    (64, 16, 32, 32, 3, 1, "same"),
    (64, 8, 64, 64, 3, 1, "same"),
    (64, 32, 64, 128, 3, 2, 1),
    (64, 8, 256, 64, 1, 1, "valid"),
    (128, 32, 3, 32, 3, 1, "valid"),
    (128, 15, 32, 64, 3, 1, "valid"),
    (128, 6, 64, 64, 3, 1, "valid"),
)
ACTIVATIONS = ((64, 32, 32, 64), (64, 16, 16, 128), (64, 8, 8, 256), (128, 32, 32, 16))
POOLED = ((64, 32, 32, 64), (128, 30, 30, 32), (128, 13, 13, 64))


def convolutions() -> Iterator[Case]:
    """Yield convolutions; the flops are those of one forward pass."""
    for N, H, C, O, K, S, padding in CONVOLUTIONS:
        margin = {"same": K // 2, "valid": 0}.get(padding, padding)
        OH = (H + 2 * margin - K) // S + 1
        label = f"{N}x{H}x{H}x{C} -> {O}, {K}x{K}" + (f" stride {S}" if S > 1 else f" {padding}")
        args = (floats(N, H, H, C), floats(K, K, C, O) * 0.05, floats(O), S, padding)
        yield Case(label, args, 2.0 * N * OH * OH * K * K * C * O, needs_dx=C > 3)


def pictures(shapes: tuple[tuple[int, ...], ...], *more: Any) -> Iterator[Case]:
    """Yield activations of these shapes, with further arguments."""
    for shape in shapes:
        yield Case("x".join(map(str, shape)), (floats(*shape), *more))


def norms(*statistics: str) -> Iterator[Case]:
    """Yield activations with one vector for each channel of the names given."""
    for shape in ACTIVATIONS:
        vectors = [abs(floats(shape[-1])) + 0.5 for _ in statistics]
        yield Case("x".join(map(str, shape)), (floats(*shape), *vectors))


def uint8_pictures() -> Case:
    """Return pictures with mean, std and scale."""
    x = (np.arange(128 * 32 * 32 * 3) % 256).astype("uint8").reshape(128, 32, 32, 3)
    return Case("128x32x32x3", (x, np.float32([0.5] * 3), np.float32([0.25] * 3), 1 / 255))


def denses() -> Iterator[Case]:
    """Yield dense layers: the tutorial network's, VGG's."""
    for N, I, O in ((128, 1024, 64), (64, 4096, 256)):
        args = (floats(N, I), floats(I, O) * 0.05, floats(O))
        yield Case(f"{N}x{I} -> {O}", args, 2.0 * N * I * O)


def losses() -> Iterator[Case]:
    """Yield logits and labels."""
    yield Case("128x10", (floats(128, 10), np.arange(128) % 10))


def updates(memories: int, *options: Any) -> Iterator[Case]:
    """Yield flat buffers of parameters and gradients, with a rule's memories and options."""
    for size in (122_624, 11_174_000):
        memory = [np.zeros(size, "float32") for _ in range(memories)]
        yield Case(f"{size:,}", (floats(size), floats(size) * 1e-3, *memory, *options))


CASES: dict[str, Callable[[], Iterable[Case]]] = {
    "conv2d": convolutions,
    "dense": denses,
    "maxpool2d": lambda: pictures(POOLED, 2),
    "averagepool2d": lambda: pictures(POOLED[:1], 2),
    "globalaveragepool2d": lambda: pictures(((64, 8, 8, 256), (128, 8, 8, 64))),
    "batchnorm": lambda: norms("gamma", "beta"),
    "batchnorm_inference": lambda: norms("gamma", "beta", "mean", "var"),
    "relu": lambda: pictures(ACTIVATIONS[:1]),
    "leaky_relu": lambda: pictures(ACTIVATIONS[:1], 0.1),
    "sigmoid": lambda: pictures(ACTIVATIONS[:1]),
    "tanh": lambda: pictures(ACTIVATIONS[:1]),
    "silu": lambda: pictures(ACTIVATIONS[:1]),
    "gelu": lambda: pictures(ACTIVATIONS[:1]),
    "softmax": lambda: pictures(((128, 10),)),
    "softmax_cross_entropy": losses,
    "normalize": lambda: [uint8_pictures()],
    "dropout": lambda: pictures(ACTIVATIONS[:1], 0.5, np.random.default_rng(0)),
    "sgd_update": lambda: updates(0, 1e-6),
    "momentum_update": lambda: updates(1, 1e-6, 0.9),
    "rmsprop_update": lambda: updates(1, 1e-6, 0.9, 1e-7),
    "adam_update": lambda: updates(2, 1, 1e-6, 0.9, 0.999, 1e-8),
    "average_update": lambda: updates(0, 0.999),
    "decay_update": lambda: [Case("122,624", (floats(122_624), 1e-9))],
}
