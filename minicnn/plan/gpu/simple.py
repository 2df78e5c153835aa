"""Planners for the simple layers.  Read `plan_dense`, and you can write another."""

from __future__ import annotations

from functools import partial
from typing import Any

from ...backend import Array
from ...kernels.cuda import activation, dropout, elementwise, norm, pool
from ...layers import (
    GELU,
    Concat,
    Dense,
    Dropout,
    Flatten,
    LeakyReLU,
    Normalize,
    PadChannels,
    ReLU,
    Residual,
    Scale,
    Sigmoid,
    SiLU,
    Softmax,
    Tanh,
)
from ..join import Join
from ..simple import plan_pad_channels
from ..slices import Planned, Run, slicewise, teamwise
from ..walk import plan_concat, plan_residual
from .launches import Launches

planner = partial(slicewise, scripts=(Launches,))
for run in ((Residual, ReLU), (Residual,)):
    teamwise(*run, scripts=(Launches,))(plan_residual)
teamwise(Concat, scripts=(Launches,))(plan_concat)
planner(PadChannels)(plan_pad_channels)


@planner(Dense, ReLU)
@planner(Dense)
def plan_dense(run: Run, x: Array, s: Launches, need_dx: bool) -> Planned:
    """Y = x w + b, cut off at zero if a ReLU follows (`functional.dense`)."""
    layer, relu = run[0], len(run) > 1
    w = s.weight(layer, "w")
    y = s.new((len(x), layer.units))  # (N, O) = (N, I) @ (I, O)
    s.product(x, w, y)
    if layer.use_bias or relu:
        pool.bias_relu(s, y, layer.b if layer.use_bias else None, y, relu)
    if not s.training:
        s.free(x)
    elif relu:
        s.hold(y)

    def backward(dy: Array) -> Any:
        d = dy
        if relu:
            d = s.reuse(dy)
            pool.relu_mask(s, dy, y, d)
            s.free(y)
        s.product(x, d, s.grad(layer, "w"), transpose_a=True)  # (I, O) = (I, N) @ (N, O)
        if layer.use_bias:
            norm.channel_sum(s, d, s.grad(layer, "b"))
        dx = None
        if need_dx:
            dx = s.like(x)  # (N, I) = (N, O) @ (O, I)
            s.product(d, w, dx, transpose_b=True)
        s.free(x, d)
        return dx

    return y, backward


@planner(Flatten)
def plan_flatten(run: Run, x: Array, s: Launches, need_dx: bool) -> Planned:
    """Look at pictures as rows."""
    return x.reshape(len(x), -1), lambda dy: dy.reshape(x.shape)


@planner(Normalize)
def plan_normalize(run: Run, x: Array, s: Launches, need_dx: bool) -> Planned:
    """Y = (x scale - mean) / std, for each channel, from bytes or floats."""
    (layer,) = run
    mean, std = layer.buffers["mean"], layer.buffers["std"]
    y = s.new(x.shape)
    norm.normalize_forward(s, x, mean, std, layer.scale, y)
    s.free(x)

    def backward(dy: Array) -> Any:
        dx = s.reuse(dy)
        norm.normalize_backward(s, dy, std, layer.scale, dx)
        return dx

    return y, backward


@planner(Scale)
def plan_scale(run: Run, x: Array, s: Launches, need_dx: bool) -> Planned:
    """Y = factor x, in place where nobody else needs x."""
    (layer,) = run
    y = s.reuse(x)
    elementwise.scale(s, x, layer.factor, y)

    def backward(dy: Array) -> Any:
        dx = s.reuse(dy)
        elementwise.scale(s, dy, layer.factor, dx)
        return dx

    return y, backward


@planner(ReLU)
def plan_relu(run: Run, x: Array, s: Launches, need_dx: bool) -> Planned:
    """Y = max(x, 0); y knows the sign of x."""
    y = s.reuse(x)
    pool.bias_relu(s, x, None, y, relu=True)
    if s.training:
        s.hold(y)

    def backward(dy: Array) -> Any:
        dx = s.reuse(dy)
        pool.relu_mask(s, dy, y, dx)
        s.free(y)
        return dx

    return y, backward


@planner(Sigmoid)
@planner(Tanh)
@planner(Softmax)
def plan_from_y(run: Run, x: Array, s: Launches, need_dx: bool) -> Planned:
    """Plan an activation whose slope is told by y."""
    (layer,) = run
    forward, back = FROM_Y[type(layer)]
    y = s.reuse(x)
    forward(s, x, y)
    if s.training:
        s.hold(y)

    def backward(dy: Array) -> Any:
        dx = s.reuse(dy)
        back(s, dy, y, dx)
        s.free(y)
        return dx

    return y, backward


FROM_Y: dict[type, tuple[Any, Any]] = {
    Sigmoid: (activation.sigmoid_forward, activation.sigmoid_backward),
    Tanh: (activation.tanh_forward, activation.tanh_backward),
    Softmax: (activation.softmax_forward, activation.softmax_backward),
}


@planner(LeakyReLU)
@planner(SiLU)
@planner(GELU)
def plan_from_x(run: Run, x: Array, s: Launches, need_dx: bool) -> Planned:
    """Plan an activation whose slope is told by x."""
    (layer,) = run
    forward, back = FROM_X[type(layer)]
    options = (float(layer.negative_slope),) if isinstance(layer, LeakyReLU) else ()
    y = s.like(x) if s.training else s.reuse(x)
    forward(s, x, y, *options)

    def backward(dy: Array) -> Any:
        dx = s.reuse(dy)
        back(s, dy, x, dx, *options)
        s.free(x)
        return dx

    return y, backward


FROM_X: dict[type, tuple[Any, Any]] = {
    LeakyReLU: (activation.leaky_relu_forward, activation.leaky_relu_backward),
    SiLU: (activation.silu_forward, activation.silu_backward),
    GELU: (activation.gelu_forward, activation.gelu_backward),
}


@planner(Dropout)
def plan_dropout(run: Run, x: Array, s: Launches, need_dx: bool) -> Planned:
    """Switch values off by numbers that both ways make from the layer's counter alone."""
    (layer,) = run
    if not s.training or layer.stream is None:
        return x, lambda dy: dy
    clock, key = s.draws(layer)
    y = s.reuse(x)
    dropout.dropout_forward(s, x, layer.rate, *key, clock, y)

    def backward(dy: Array) -> Any:
        dx = s.reuse(dy)
        dropout.dropout_backward(s, dy, layer.rate, *key, clock, dx)
        return dx

    return y, backward


@planner(Join, ReLU)
@planner(Join)
def plan_join(run: Run, x: Array, s: Launches, need_dx: bool) -> Planned:
    """Add the other side of a Residual, and cut off at zero if a ReLU follows."""
    join, relu = run[0], len(run) > 1
    side = join.side(s)
    y = x if s.memory.alone(x) else side if s.memory.alone(side) else s.like(x)
    elementwise.add(s, x, side, y)
    if relu:
        pool.bias_relu(s, y, None, y, relu)
    s.free(*(array for array in (x, side) if array is not y))
    if relu and s.training:
        s.hold(y)

    def backward(dy: Array) -> Any:
        d = dy
        if relu:
            d = s.reuse(dy)
            pool.relu_mask(s, dy, y, d)
            s.free(y)
        join.dsides.append(s.hold(d))
        return d

    return y, backward
