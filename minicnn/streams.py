"""Random numbers: one integer seeds a run, and every use has a stream of its own.

The n-th generator of a stream is a function of (seed, name, n) and of nothing else.  So a stream
has no hidden state: its whole memory is the integer ``position``, which a checkpoint can keep and
any thread can be handed.  Shuffling doesn't disturb dropout, and one more layer doesn't change
the order of the pictures.
"""

from __future__ import annotations

import zlib
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

    def next(self, xp: Any = np) -> Any:
        """Return the next generator, of NumPy or CuPy, and move on by one."""
        key = (zlib.crc32(self.name.encode()), self.position)
        self.position += 1
        sequence = np.random.SeedSequence(self.seed, spawn_key=key)
        if xp is np:
            return np.random.default_rng(sequence)
        return xp.random.default_rng(int(sequence.generate_state(1, np.uint64)[0]))
