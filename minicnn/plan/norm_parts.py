"""What the planners of BatchNorm share: the layers of a run, chunks, and rows of numbers."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ..backend import Array
from ..kernels.cpu.rows import in_rows, zero_row
from ..kernels.geometry import chunks
from ..kernels.memory import Memory
from ..kernels.script import maximum
from ..layers import BatchNorm, MaxPool2D, ReLU
from .convolution import halves
from .join import Join
from .slices import Run, Slice

CHUNK_BYTES = 1 << 19  # of one operand: several lie in the cache together


def cut_up(x: Array) -> list[slice]:
    """Cut a slice into chunks."""
    return list(chunks(len(x), x[0].nbytes, CHUNK_BYTES))


class Rows:
    """Numbers of each channel that the meeting finds, laid out to be used on rows of pixels."""

    def __init__(self, count: int, x: Array, memory: Memory) -> None:
        self.wide = memory.lasting((count, in_rows(x).shape[1]), x.dtype)

    def __getitem__(self, k: int) -> np.ndarray:
        return self.wide[k]

    def set(self, *numbers: np.ndarray) -> None:
        """Put numbers, (C,) each, into the rows."""
        for row, values in zip(self.wide, numbers, strict=True):
            row.reshape(-1, values.size)[...] = values


@dataclass
class Parts:
    """The layers of a run by what they are."""

    norm: BatchNorm
    conv: Run
    join: Join | None
    relu: bool
    pool: bool

    @classmethod
    def of(cls, run: Run) -> Parts | None:
        """Sort a run; None if its pooling isn't by 2."""
        at = next(i for i, layer in enumerate(run) if isinstance(layer, BatchNorm))
        rest = run[at + 1 :]
        pools = [layer for layer in rest if isinstance(layer, MaxPool2D)]
        if not all(map(halves, pools)) or (pools and min(pools[0].input_shape[:2]) < 2):
            return None
        join = next((layer for layer in rest if isinstance(layer, Join)), None)
        relu = any(isinstance(layer, ReLU) for layer in rest)
        return cls(run[at], run[:at], join, relu, bool(pools))


def write_scaled(s: Slice, x: Array, scaling: Rows, out: Array) -> None:
    """Write out = x * factor + offset."""
    rows = in_rows(out)
    s(np.multiply, in_rows(x), scaling[0], rows)
    s(np.add, rows, scaling[1], rows)


def finish(s: Slice, p: Parts, out: Array, side: Array | None) -> None:
    """Write what comes after: the residual sum, and the cut at zero."""
    rows = in_rows(out)
    if side is not None:
        s(np.add, out, side, out)
    if p.relu:
        s(maximum, rows, zero_row(s, out), rows)
