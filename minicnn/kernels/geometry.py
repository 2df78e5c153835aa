"""Geometry: the sizes of one convolution, and how its work is cut into chunks."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from math import ceil
from typing import Any, Protocol

import numpy as np

from ..functional.windows import Margins, Padding, Pair, out_size, pair, resolve_padding


@dataclass(frozen=True)
class Geometry:
    """Sizes of a convolution in the letters of the book (`functional`), N left out."""

    H: int
    W: int
    C: int
    O: int
    KH: int
    KW: int
    SH: int
    SW: int
    DH: int
    DW: int
    margins: Margins
    groups: int

    @classmethod
    def of(
        cls,
        x_shape: tuple[int, ...],
        w_shape: tuple[int, ...],
        stride: Pair = 1,
        padding: Padding = "valid",
        dilation: Pair = 1,
        groups: int = 1,
    ) -> Geometry:
        """Return the geometry of ``conv2d_forward`` with these arguments."""
        H, W, C = x_shape[-3:]
        KH, KW, _, O = w_shape
        steps, gaps = pair(stride, "stride"), pair(dilation, "dilation")
        margins = resolve_padding(padding, (H, W), (KH, KW), steps, gaps)
        return cls(H, W, C, O, KH, KW, *steps, *gaps, margins, groups)

    @property
    def OH(self) -> int:
        """Height of y."""
        return out_size(self.H + sum(self.margins[0]), self.KH, self.SH, self.DH)

    @property
    def OW(self) -> int:
        """Width of y."""
        return out_size(self.W + sum(self.margins[1]), self.KW, self.SW, self.DW)

    @property
    def w_shape(self) -> tuple[int, ...]:
        """The shape of filters without groups."""
        return self.KH, self.KW, self.C, self.O

    @property
    def T(self) -> int:
        """Taps of a window."""
        return self.KH * self.KW

    @property
    def plain(self) -> bool:
        """Whether the window moves by one pixel, without gaps and groups."""
        return self.SH == self.SW == self.DH == self.DW == self.groups == 1


class Pictures(Protocol):
    """An array (n, H, W, C), or what stands for one and makes its chunks when they are asked for.

    A chunk can be read until the next one is asked for.
    """

    def __len__(self) -> int: ...

    def __getitem__(self, part: slice, /) -> np.ndarray[Any, Any]: ...


def chunks(n: int, bytes_each: int, limit: int) -> Iterator[slice]:
    """Cut n pictures into parts of nearly one size, of ``limit`` bytes at most, or one picture.

    None is larger than the first.
    """
    count = ceil(n / max(1, limit // max(1, bytes_each)))
    bounds = [-(-n * k // count) for k in range(count + 1)]
    for start, stop in pairwise(bounds):
        yield slice(start, stop)
