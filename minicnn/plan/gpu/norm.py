"""Planner for BatchNorm, with what is around it: three passes forward, three back."""

from __future__ import annotations

from math import prod
from typing import Any

from ...backend import Array
from ...kernels.cuda import norm
from ...layers import BatchNorm, ReLU
from ..join import Join
from ..slices import Planned, Run
from .launches import Launches
from .simple import planner


@planner(BatchNorm, Join, ReLU)
@planner(BatchNorm, Join)
@planner(BatchNorm, ReLU)
@planner(BatchNorm)
def plan_batchnorm(run: Run, x: Array, s: Launches, need_dx: bool) -> Planned:
    """Y = gamma (x - mean) / sqrt(var + eps) + beta, + a Residual's other side, cut off at zero.

    (`functional.norm`.)  Statistics are of the type of sums, whatever x is stored in.  Frozen, they
    are the running ones, and dx = dy gamma / sqrt(var + eps).
    """
    layer, relu, fixed = run[0], type(run[-1]) is ReLU, run[0].trainable is False
    join = next((other for other in run if type(other) is Join), None)
    if s.training and not fixed and len(x) * prod(layer.input_shape[:-1]) < 2:
        return None  # the book says what is wrong
    side = None if join is None else join.side(s)
    gamma = layer.gamma if layer.scale else None
    beta = layer.beta if layer.center else None
    running = layer.buffers["running_mean"], layer.buffers["running_var"]
    if not s.training:
        y = s.reuse(x)
        norm.batchnorm_inference_forward(s, x, gamma, beta, *running, layer.eps, y, relu, side)
        s.free(side)
        return y, lambda dy: dy
    y = s.like(x)
    mean, var, inverse = (s.lasting((x.shape[-1],), s.acc_dtype) for _ in range(3))
    if fixed:
        mean = running[0]
        norm.batchnorm_inference_forward(
            s, x, gamma, beta, *running, layer.eps, y, relu, side, inverse
        )
    else:
        norm.batchnorm_forward(
            *(s, x, gamma, beta, layer.eps, y, mean, var, inverse, relu, side),
            running=(*running, layer.momentum),
        )
    s.free(side)
    if relu:
        s.hold(y)

    def backward(dy: Array) -> Any:
        dx = s.like(x)
        dside = None if join is None else s.like(x)
        dgamma = s.grad(layer, "gamma") if layer.scale and not fixed else None
        dbeta = s.grad(layer, "beta") if layer.center and not fixed else None
        norm.batchnorm_backward(
            s, dy, x, y if relu else None, gamma, mean, inverse, dx, dgamma, dbeta, dside, fixed
        )
        if join is not None:
            join.dsides.append(dside)
        s.free(x, dy, y if relu else None)
        return dx

    return y, backward
