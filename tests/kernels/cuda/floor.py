"""Arrays in, arrays out: what tests of the GPU's kernels share."""

from __future__ import annotations

from typing import Any

import numpy as np

from minicnn.kernels.cuda.writer import Now

LIMITS = {"float32": 1e-5, "float64": 1e-11, "float16": 2e-3, "bfloat16": 1.5e-2}
"""How far results may be from the book's in float64 on the same, rounded, inputs."""


class Floor:
    """A writer for one storage type, and the ways in and out of its arrays."""

    def __init__(self, cupy: Any, kind: str) -> None:
        self.cupy, self.kind, self.limit = cupy, kind, LIMITS[kind]
        self.s = Now(kind)

    def round(self, x: np.ndarray) -> np.ndarray:
        """Return x as the storage type can hold it, in float64."""
        if self.kind == "bfloat16":
            return from_bits(to_bits(x))
        return x.astype(self.s.dtype).astype("float64")

    def real(self, x: np.ndarray) -> Any:
        """Bring x to the GPU in the storage type."""
        held = to_bits(x) if self.kind == "bfloat16" else x.astype(self.s.dtype)
        return self.cupy.asarray(held)

    def shifted(self, x: np.ndarray) -> Any:
        """The same, at an address that isn't a multiple of 16."""
        room = self.real(np.zeros(x.size + 1))[1:].reshape(x.shape)
        room[...] = self.real(x)
        return room

    def acc(self, x: Any) -> Any:
        """Bring x to the GPU in the type of sums."""
        return self.cupy.asarray(np.asarray(x).astype(self.s.acc_dtype))

    def get(self, x: Any) -> np.ndarray:
        """Return numbers from the GPU in float64."""
        held = x.get()
        if self.kind == "bfloat16" and held.dtype == "uint16":
            return from_bits(held)
        return held.astype("float64")

    def exact(self, rng: np.random.Generator, shape: Any, offset: float = 0.0) -> np.ndarray:
        """Draw numbers that the storage and the sums hold exactly, in float64."""
        return self.round(rng.standard_normal(shape) + offset)

    def check(
        self, found: Any, expected: np.ndarray, size: float = 1.0, limit: float | None = None
    ) -> None:
        """Assert that an array of the GPU is near what the book says; size: of its values."""
        found = self.get(found)
        assert found.shape == expected.shape
        limit = self.limit if limit is None else limit
        np.testing.assert_allclose(found, expected, rtol=limit, atol=limit * size)

    def check_sums(self, found: Any, expected: np.ndarray, size: float = 1.0) -> None:
        """The same for what is in the type of sums: rounding the storage plays no part."""
        assert found.dtype == self.s.acc_dtype
        self.check(found, expected, size, LIMITS[str(found.dtype)])


def to_bits(x: np.ndarray) -> np.ndarray:
    """Round to bfloat16, to nearest and ties to even; the bits."""
    bits = np.asarray(x).astype("float32").view("uint32").astype("uint64")
    return ((bits + 0x7FFF + (bits >> 16 & 1)) >> 16).astype("uint16")


def from_bits(bits: np.ndarray) -> np.ndarray:
    """Return what bits of bfloat16 mean, in float64."""
    return (bits.astype("uint32") << 16).view("float32").astype("float64")
