"""The GPU's random numbers on the CPU: Philox4x32-10 (Salmon et al. 2011), written in NumPy."""

from __future__ import annotations

from math import prod
from typing import Any

import numpy as np

from minicnn.streams import Stream

MULTIPLIERS = np.array([0xD2511F53, 0xCD9E8D57], np.uint64)
STEPS = np.array([0x9E3779B9, 0xBB67AE85], np.uint64)
LOW = np.uint64(0xFFFFFFFF)


def philox(counters: np.ndarray, key: tuple[int, int]) -> np.ndarray:
    """Return four numbers of 32 bits for each counter of four, (n, 4) uint64."""
    a, b, c, d = counters.astype(np.uint64).T
    words = np.array(key, np.uint64)
    for _ in range(10):
        first, second = a * MULTIPLIERS[0], c * MULTIPLIERS[1]
        a, b, c, d = (
            (second >> np.uint64(32)) ^ b ^ words[0],
            second & LOW,
            (first >> np.uint64(32)) ^ d ^ words[1],
            first & LOW,
        )
        words = (words + STEPS) & LOW
    return np.stack([a, b, c, d], axis=1)


class Numbers:
    """As much of a generator as dropout uses: the numbers that its kernel draws, one by one."""

    def __init__(self, seed: int, number: int, position: int) -> None:
        self.seed, self.number, self.position = seed, number, position
        self.place = 0
        self.bit_generator = self

    def advance(self, steps: int) -> None:
        self.place += 2 * steps  # as with NumPy's generators, a step makes two

    def random(self, size: Any = None, dtype: Any = "float32", out: Any = None) -> np.ndarray:
        shape = size if out is None else out.shape
        first, last = self.place, self.place + prod(np.atleast_1d(shape))
        counters = np.empty((-(-last // 4) - first // 4, 4), np.uint64)
        counters[:, 0] = np.arange(first // 4, -(-last // 4))
        counters[:, 1:] = self.number % 2**31, self.position & 0xFFFFFFFF, self.position >> 32
        bits = philox(counters, (self.seed & 0xFFFFFFFF, self.seed >> 32 & 0xFFFFFFFF))
        numbers = (bits >> np.uint64(8)).astype("float32") * np.float32(2**-24)
        self.place = last
        found = numbers.reshape(-1)[first % 4 :][: last - first].reshape(shape)
        if out is not None:
            out[...] = found
        return found


class PhiloxStream(Stream):
    """A stream for dropout on the CPU that draws what a GPU's does."""

    def next(self, xp: Any = np) -> Any:
        self.position += 1
        return Numbers(self.seed, self.number, self.position - 1)
