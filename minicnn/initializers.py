"""What weights start from: functions (rng, shape) -> float64 array, by name.

The fans are the numbers of terms that meet in one output (in) and that one input spreads to (out):
(I, O) for dense weights (I, O), KH*KW times the channels for convolution weights (KH, KW, C, O).
"""

from __future__ import annotations

from collections.abc import Callable
from math import prod, sqrt
from typing import TypeAlias

import numpy as np

from .backend import Shape

Initializer: TypeAlias = Callable[[np.random.Generator, Shape], np.ndarray]


def fans(shape: Shape) -> tuple[int, int]:
    """Return fan in and fan out of a weight shape (..., I, O)."""
    if len(shape) < 2:
        raise ValueError(f"a weight of shape {shape} has no fans: use 'zeros' or 'ones'")
    taps = prod(shape[:-2])
    return taps * shape[-2], taps * shape[-1]


def zeros(rng: np.random.Generator, shape: Shape) -> np.ndarray:
    """Return zeros."""
    return np.zeros(shape)


def ones(rng: np.random.Generator, shape: Shape) -> np.ndarray:
    """Return ones."""
    return np.ones(shape)


def uniform(rng: np.random.Generator, shape: Shape, variance: float) -> np.ndarray:
    """Return numbers from -a to a, of the given variance a^2 / 3."""
    a = sqrt(3 * variance)
    return rng.uniform(-a, a, shape)


def normal(rng: np.random.Generator, shape: Shape, variance: float) -> np.ndarray:
    """Return normal numbers of the given variance."""
    return rng.standard_normal(shape) * sqrt(variance)


def glorot_uniform(rng: np.random.Generator, shape: Shape) -> np.ndarray:
    """Keep the variance level both ways, 2 / (in + out) (Glorot and Bengio 2010, eq. 16)."""
    return uniform(rng, shape, 2 / sum(fans(shape)))


def glorot_normal(rng: np.random.Generator, shape: Shape) -> np.ndarray:
    """Keep the variance level both ways, 2 / (in + out) (Glorot and Bengio 2010, eq. 12)."""
    return normal(rng, shape, 2 / sum(fans(shape)))


def he_uniform(rng: np.random.Generator, shape: Shape) -> np.ndarray:
    """Make up for the half that ReLU cuts off, 2 / in (He et al. 2015, eq. 10)."""
    return uniform(rng, shape, 2 / fans(shape)[0])


def he_normal(rng: np.random.Generator, shape: Shape) -> np.ndarray:
    """Make up for the half that ReLU cuts off, 2 / in (He et al. 2015, eq. 10)."""
    return normal(rng, shape, 2 / fans(shape)[0])


def lecun_uniform(rng: np.random.Generator, shape: Shape) -> np.ndarray:
    """Keep the variance level forward, 1 / in (LeCun et al. 1998, eq. 16)."""
    return uniform(rng, shape, 1 / fans(shape)[0])


def lecun_normal(rng: np.random.Generator, shape: Shape) -> np.ndarray:
    """Keep the variance level forward, 1 / in (LeCun et al. 1998, eq. 16)."""
    return normal(rng, shape, 1 / fans(shape)[0])


def orthogonal(rng: np.random.Generator, shape: Shape) -> np.ndarray:
    """Return a rotation: rows or columns, the fewer, are orthonormal (Saxe et al. 2014).

    The weight is seen as a matrix (KH*KW*C, O).
    """
    fans(shape)
    rows, columns = prod(shape[:-1]), shape[-1]
    q, r = np.linalg.qr(rng.standard_normal((max(rows, columns), min(rows, columns))))
    q = q * np.sign(np.diag(r))  # makes every rotation equally likely (Mezzadri 2007)
    return (q if rows >= columns else q.T).reshape(shape)


def dirac(rng: np.random.Generator, shape: Shape) -> np.ndarray:
    """Let the first filters pass their channels through: 1 at tap (KH // 2, KW // 2), else 0.

        w[KH // 2, KW // 2, c, o] = [c = o]     o < C

    The filters after the first C are uniform of variance 1 / (3 in), as PyTorch's are by default.
    What comes in is there from the start, and goes on training (Zagoruyko and Komodakis 2017;
    Jordan 2024, "94% on CIFAR-10 in 3.29 seconds", section 3.3).
    """
    w = uniform(rng, shape, 1 / (3 * fans(shape)[0]))
    same = np.arange(min(shape[-2:]))
    w[..., same] = 0
    w[tuple(size // 2 for size in shape[:-2])][same, same] = 1
    return w


INITIALIZERS: dict[str, Initializer] = {
    f.__name__: f
    for f in (
        zeros,
        ones,
        glorot_uniform,
        glorot_normal,
        he_uniform,
        he_normal,
        lecun_uniform,
        lecun_normal,
        orthogonal,
        dirac,
    )
}


def get(name: str) -> Initializer:
    """Return the initializer called ``name``; raises ValueError that lists the names."""
    if not isinstance(name, str) or name not in INITIALIZERS:
        raise ValueError(f"initializer {name!r}: expected one of {', '.join(INITIALIZERS)}")
    return INITIALIZERS[name]
