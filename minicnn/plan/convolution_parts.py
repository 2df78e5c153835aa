"""What the planners of Conv2D share: the layers of a run, and what is done to y and dy."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np

from ..backend import Array
from ..functional.windows import pair
from ..kernels.cpu.geometry import Geometry
from ..kernels.cpu.rows import cut, leak, masked, weakened
from ..layers import Conv2D, LeakyReLU, MaxPool2D, Normalize, ReLU
from .activation import slope_of
from .slices import Run, Slice

Hook: TypeAlias = Callable[[Array], None]
Source: TypeAlias = Callable[[slice], Array]


@dataclass
class Parts:
    """The layers of a run by what they are, and the convolution's geometry.

    slope: that of the activation below zero, 0 for ReLU, None if there is no activation.
    after: writes what else is done with a chunk of the output while it is in the cache.
    """

    conv: Conv2D
    norm: Normalize | None
    slope: float | None
    pool: bool
    g: Geometry
    after: Hook = lambda chunk: None

    @property
    def b(self) -> Array | None:
        """The bias, if there is one."""
        return self.conv.b if self.conv.use_bias else None

    @classmethod
    def of(cls, run: Run) -> Parts | None:
        """Sort a run; None for other pooling than by 2, for groups, for slopes not from 0 to 1."""
        conv = next(layer for layer in run if isinstance(layer, Conv2D))
        pools = [layer for layer in run if isinstance(layer, MaxPool2D)]
        if conv.groups > 1 or not all(map(halves, pools)):
            return None
        g = Geometry.of(
            conv.input_shape, conv.w.shape, conv.strides, conv.padding, conv.dilation_rate
        )
        norm = run[0] if isinstance(run[0], Normalize) else None
        slopes = [slope_of(layer) for layer in run if isinstance(layer, ReLU | LeakyReLU)]
        if None in slopes or (pools and min(g.OH, g.OW) < 2):
            return None
        return cls(conv, norm, slopes[0] if slopes else None, bool(pools), g)

    def output(self, s: Slice, n: int) -> np.ndarray:
        """Return room for the run's output."""
        g, by = self.g, 2 if self.pool else 1
        return s.new((n, g.OH // by, g.OW // by, g.O))

    def activate(self, s: Slice, chunk: Array) -> None:
        """Write the activation of a chunk of the output, in place."""
        if self.slope == 0:
            cut(s, chunk)
        elif self.slope is not None:
            leak(s, chunk, self.slope, chunk)

    def gradient(self, s: Slice, dy: Array, y: Array, part: slice) -> Array:
        """Return a chunk of dy before the activation, to be freed by the caller."""
        if self.slope is None:
            return s.hold(dy)[part]
        rows = s.new(dy[part].shape)
        self.write_gradient(s, dy[part], y[part], rows)
        return rows

    def write_gradient(self, s: Slice, dy: Array, y: Array, out: Array) -> None:
        """Write dy before the activation somewhere."""
        if self.slope is None:
            s(np.copyto, out, dy)
        elif self.slope == 0:
            masked(s, dy, y, out)
        else:
            weakened(s, dy, y, self.slope, out)


def halves(layer: MaxPool2D) -> bool:
    """Whether max-pooling is by 2 x 2 without overlap and margins."""
    strides = layer.pool_size if layer.strides is None else layer.strides
    plain = layer.padding in ("valid", 0) or (
        np.size(layer.padding) > 1 and not np.any(layer.padding)
    )
    return pair(layer.pool_size) == pair(strides) == (2, 2) and bool(plain)
