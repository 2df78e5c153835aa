"""Random numbers: one integer seeds a run, and every use has a stream of its own.

The n-th generator of a stream is a function of (seed, name, n) and of nothing else.  So a stream
has no hidden state: its whole memory is the integer ``position``, which a checkpoint can keep and
any thread can be handed.  Shuffling doesn't disturb dropout, and one more layer doesn't change
the order of the pictures.
"""

from __future__ import annotations

import zlib
from functools import cached_property
from typing import Any

import numpy as np


class Stream:
    """A named sequence of random generators.

    seed: int >= 0, the run's.  name: what the numbers are for, "weights", "shuffle", ...
    """

    def __init__(self, seed: int, name: str, position: int = 0) -> None:
        if isinstance(seed, bool) or not isinstance(seed, int | np.integer) or seed < 0:
            raise ValueError(f"seed {seed!r}: expected an integer >= 0")
        self.seed, self.name, self.position = int(seed), name, position

    def __repr__(self) -> str:
        return f"Stream(seed={self.seed}, name={self.name!r}, position={self.position})"

    @property
    def number(self) -> int:
        """The name as a number of 32 bits."""
        return zlib.crc32(self.name.encode())

    def next(self, xp: Any = np) -> Any:
        """Return the next generator, of NumPy or CuPy, and move on by one."""
        self.position += 1
        key = self.number, self.position - 1
        sequence = np.random.SeedSequence(self.seed, spawn_key=key)
        if xp is np:
            return np.random.default_rng(sequence)
        return Draw(self.seed, *key, sequence, xp)


class Draw:
    """The n-th generator of a stream on a GPU.

    seed, number, position: what its numbers are a function of; a kernel that makes them by
    counting needs no more.  For all else it is CuPy's generator, which is made when it is first
    asked for: that is a kernel of its own, and megabytes of state.
    """

    def __init__(
        self, seed: int, number: int, position: int, sequence: np.random.SeedSequence, xp: Any
    ) -> None:
        self.seed, self.number, self.position = seed, number, position
        self.sequence, self.xp = sequence, xp

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        return getattr(self.generator, name)

    @cached_property
    def generator(self) -> Any:
        """CuPy's generator."""
        return self.xp.random.default_rng(int(self.sequence.generate_state(1, np.uint64)[0]))
