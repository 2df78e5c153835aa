"""How a matrix (M, C) is cut up for sums over its rows (``columns.cuh``)."""

from __future__ import annotations

from dataclasses import dataclass

from ...backend import Array
from .writer import Writer

TILE = 256  # threads of a block

BLOCKS = 528
"""Blocks that keep the largest GPUs busy: four for each of 132 processors.  A constant, so that
sums have the same order, and the same last bits, on every GPU."""

DEPTH = 8  # rows that a thread does at least, where there are enough


@dataclass(frozen=True)
class Columns:
    """Blocks of ``across`` x (TILE / across) threads over a matrix: ``parts`` of its rows.

    tiles: how many such blocks lie side by side.
    """

    M: int
    C: int
    across: int
    tiles: int
    parts: int

    @classmethod
    def of(cls, s: Writer, x: Array, blocks: int = BLOCKS, depth: int = DEPTH) -> Columns:
        """Cut x, (..., C), into parts of its rows.  Raises ValueError if there are none."""
        if x.size == 0:
            raise ValueError(f"sums over the rows of x {x.shape}: expected one value at least")
        C = x.shape[-1]
        M = x.size // C
        across, tiles = lie_across(s, C)
        rows = TILE // across * depth
        return cls(M, C, across, tiles, max(1, min(-(-M // rows), blocks // tiles)))

    @property
    def blocks(self) -> int:
        """The blocks of a launch."""
        return self.parts * self.tiles


def lie_across(s: Writer, C: int) -> tuple[int, int]:
    """Return how many threads of a block lie side by side, a power of two, and how many blocks."""
    pack = 16 // s.dtype.itemsize
    threads = C // pack if C % pack == 0 else C
    across = min(32, 1 << (threads - 1).bit_length())
    return across, -(-threads // across)
