"""Layers without a planner: their own methods do it, on whole arrays of the model's dtype."""

from __future__ import annotations

from typing import Any

from ...backend import Array
from ..slices import Planned, Run
from .launches import Launches
from .simple import planner


@planner()
def plan_whole(run: Run, x: Array, s: Launches, need_dx: bool) -> Planned:
    """Let the layer's own forward and backward do it; such a script isn't captured."""
    (layer,) = run
    s.whole = False
    y = s.new((len(x), *layer.output_shape))
    here, there = (s.new(part.shape, s.acc_dtype) for part in (x, y))
    s.cast(x, here)

    def forward() -> None:
        given = here.copy()  # which the layer may keep
        there[...] = layer.forward(given, True) if s.training else layer.infer(given)

    s.call(forward)
    s.cast(there, y)
    s.free(x, here, there)

    def backward(dy: Array) -> Any:
        dthere = s.new(dy.shape, s.acc_dtype)
        s.cast(dy, dthere)
        dhere = s.new(x.shape, s.acc_dtype) if need_dx else None

        def go_back() -> None:
            if dhere is None:
                layer.backward_params(dthere.copy())
            else:
                dhere[...] = layer.backward(dthere.copy())

        s.call(go_back)
        dx = None
        if dhere is not None:
            dx = s.new(x.shape)
            s.cast(dhere, dx)
        s.free(dy, dthere, dhere)
        return dx

    return y, backward
