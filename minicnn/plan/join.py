"""Join: the sum at the end of a Residual, as if it were a layer, so that it can end a run."""

from __future__ import annotations

from typing import Any

import numpy as np

from ..backend import Array
from ..kernels.cpu.rows import in_rows, masked, zero_row
from ..kernels.cpu.team import Team
from ..kernels.script import maximum
from ..layers import Layer, ReLU
from .slices import Backwards, Run, teamwise


class Join(Layer):
    """y = x + the other side's output.

    sides: those outputs, by slice, which it owns.  Its ``backward`` leaves the gradients of the
    other side in ``dsides``, held.
    """

    def __init__(self, path: str, sides: list[Array], team: Team) -> None:
        super().__init__()
        self.path, self.declared = path, {}
        self.sides = dict(zip(map(id, team.scripts), sides, strict=True))
        self.dsides: list[Array] = []

    def side(self, s: Any) -> Array:
        """Return the other side's output of a slice."""
        return self.sides[id(s)]


@teamwise(Join, ReLU)
@teamwise(Join)
def plan_join(
    run: Run, xs: list[Array], team: Team, need_dx: bool
) -> tuple[list[Array], Backwards]:
    """Add, and cut off at zero if a ReLU follows."""
    join, relu = run[0], len(run) > 1
    ys = []
    for x, s in zip(xs, team.scripts, strict=True):
        side = join.side(s)
        y = x if s.memory.alone(x) else side if s.memory.alone(side) else s.like(x)
        s(np.add, x, side, y)
        if relu:
            s(maximum, in_rows(y), zero_row(s, y), in_rows(y))
        s.free(*(array for array in (x, side) if array is not y))
        ys.append(s.hold(y) if relu and s.training else y)  # type: ignore[attr-defined]

    def backward(dys: list[Array]) -> list[Any]:
        ds = []
        for dy, y, s in zip(dys, ys, team.scripts, strict=True):
            d = dy
            if relu:
                d = s.reuse(dy)
                masked(s, dy, y, d)
                s.free(y)
            join.dsides.append(s.hold(d))
            ds.append(d)
        return ds

    return ys, backward
