"""What the planners of Conv2D share: the layers of a run, and what is done to y and dy."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np

from ..backend import Array
from ..functional.windows import pair
from ..kernels.cpu.rows import cut, leak, masked, weakened
from ..kernels.cpu.team import Jobs
from ..kernels.geometry import Geometry
from ..layers import Conv2D, LeakyReLU, MaxPool2D, Normalize, ReLU
from .activation import slope_of
from .slices import Run, Slice

DENSE = 1 << 14  # C * O up to which groups are computed as one convolution with zeros

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
        """Sort a run; None for other pooling than by 2, wide groups, slopes not from 0 to 1."""
        conv = next(layer for layer in run if isinstance(layer, Conv2D))
        pools = [layer for layer in run if isinstance(layer, MaxPool2D)]
        if not all(map(halves, pools)):
            return None
        g = Geometry.of(
            conv.input_shape, conv.w.shape, conv.strides, conv.padding, conv.dilation_rate
        )
        norm = run[0] if isinstance(run[0], Normalize) else None
        slopes = [slope_of(layer) for layer in run if isinstance(layer, ReLU | LeakyReLU)]
        if None in slopes or (pools and min(g.OH, g.OW) < 2):
            return None
        if conv.groups > 1 and g.C * g.O > DENSE:
            return None
        return cls(conv, norm, slopes[0] if slopes else None, bool(pools), g)

    def of_weights(self, write: Callable[[Jobs, Array, Array], None]) -> Callable[..., None]:
        """Return what `Slice.prepare` wants, from a function of jobs, array and weights.

        The weights of groups get zeros between them first.  So then it is one job, not several at
        once.
        """
        conv, g = self.conv, self.g

        def prepared(jobs: Jobs, array: Array) -> None:
            if conv.groups == 1:
                write(jobs, array, conv.w)
                return
            alone, dense = jobs.alone(), np.zeros(g.w_shape, conv.w.dtype)
            alone(np.copyto, blocks(dense, conv.groups), in_groups(conv.w, conv.groups))
            write(alone, array, dense)

        return prepared

    def new_dw(self, s: Slice) -> Array:
        """Return where the gradient of those weights goes."""
        conv, g = self.conv, self.g
        return s.grad(conv, "w") if conv.groups == 1 else s.new(g.w_shape)

    def end_dw(self, s: Slice, dw: Array) -> None:
        """Write what is left to do with it: of groups, only their own part counts."""
        conv = self.conv
        if conv.groups > 1:
            s(np.copyto, in_groups(s.grad(conv, "w"), conv.groups), blocks(dw, conv.groups))
            s.free(dw)

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


def in_groups(w: Array, G: int) -> Array:
    """Look at (KH, KW, C/G, O) group by group: (KH, KW, G, C/G, O/G)."""
    return w.reshape(*w.shape[:3], G, -1).transpose(0, 1, 3, 2, 4)


def blocks(dense: Array, G: int) -> Array:
    """Look at the blocks on the diagonal of (KH, KW, C, O): (KH, KW, G, C/G, O/G)."""
    KH, KW, C, O = dense.shape
    return np.einsum("hwgcgo->hwgco", dense.reshape(KH, KW, G, C // G, G, O // G))


def halves(layer: MaxPool2D) -> bool:
    """Whether max-pooling is by 2 x 2 without overlap and margins."""
    strides = layer.pool_size if layer.strides is None else layer.strides
    plain = layer.padding in ("valid", 0) or (
        np.size(layer.padding) > 1 and not np.any(layer.padding)
    )
    return pair(layer.pool_size) == pair(strides) == (2, 2) and bool(plain)
