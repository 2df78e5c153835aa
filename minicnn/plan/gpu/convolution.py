"""Planners for convolution and pooling."""

from __future__ import annotations

from typing import Any

from ...backend import Array
from ...functional.pool import pool_margins
from ...functional.windows import pair
from ...kernels.cuda import conv, pool
from ...kernels.geometry import Geometry
from ...layers import AveragePool2D, Conv2D, GlobalAveragePool2D, MaxPool2D, ReLU
from ..slices import Planned, Run
from .launches import Launches
from .simple import planner


def geometry(layer: Conv2D) -> Geometry:
    """Return the sizes of a layer's convolution."""
    return Geometry.of(
        layer.input_shape,
        layer.w.shape,
        layer.strides,
        layer.padding,
        layer.dilation_rate,
        layer.groups,
    )


@planner(Conv2D, ReLU, MaxPool2D)
@planner(Conv2D, MaxPool2D)
@planner(Conv2D, ReLU)
@planner(Conv2D)
def plan_convolution(run: Run, x: Array, s: Launches, need_dx: bool) -> Planned:
    """Y = conv(x, w) + b, cut off at zero, then pooled: all in two passes over the output.

    Pooled first, then shifted and cut off: the maximum of x + b is the maximum of x, plus b, and
    a quarter of the work.
    """
    layer, relu = run[0], any(type(other) is ReLU for other in run)
    pooling = run[-1] if type(run[-1]) is MaxPool2D else None
    g, w, b = geometry(layer), s.weight(layer, "w"), layer.b if layer.use_bias else None
    full = s.new((len(x), g.OH, g.OW, g.O))
    y, winner = full, None
    if pooling is None:
        conv.conv_forward(s, x, w, b, full, g, relu)
    else:
        conv.conv_forward(s, x, w, None, full, g)
        y = s.new((len(x), *pooling.output_shape))
        winner = s.new(y.shape, "uint8")
        pool.maxpool_forward(s, full, b, y, winner, window(pooling), relu)
        s.free(full)
    if not s.training:
        s.free(x, winner)
    elif relu:
        s.hold(y)

    def backward(dy: Array) -> Any:
        d = dy
        if pooling is not None:
            d = s.new(full.shape)
            pool.maxpool_backward(s, dy, winner, y if relu else None, d, window(pooling))
            s.free(dy, winner)
        elif relu:
            d = s.reuse(dy)
            pool.relu_mask(s, dy, y, d)
        s.free(y if relu else None)
        db = s.grad(layer, "b") if layer.use_bias else None
        conv.conv_backward_w(s, x, d, s.grad(layer, "w"), g, db)
        dx = None
        if need_dx:
            dx = s.like(x)
            conv.conv_backward_x(s, d, w, dx, g)
        s.free(x, d)
        return dx

    return y, backward


def window(layer: MaxPool2D | AveragePool2D) -> Geometry:
    """Return the sizes of a pooling: a convolution's, channel by channel."""
    C = layer.input_shape[-1]
    stride = layer.pool_size if layer.strides is None else layer.strides
    margins = pool_margins((1, *layer.input_shape), layer.pool_size, stride, layer.padding)
    KH, KW = pair(layer.pool_size)
    return Geometry.of(layer.input_shape, (KH, KW, C, C), stride, margins)


@planner(MaxPool2D)
def plan_maxpool(run: Run, x: Array, s: Launches, need_dx: bool) -> Planned:
    """Y = the largest input under each window."""
    (layer,) = run
    y = s.new((len(x), *layer.output_shape))
    winner = s.new(y.shape, "uint8")
    pool.maxpool_forward(s, x, None, y, winner, window(layer), False)
    s.free(x, None if s.training else winner)

    def backward(dy: Array) -> Any:
        dx = s.new(x.shape)
        pool.maxpool_backward(s, dy, winner, None, dx, window(layer))
        s.free(dy, winner)
        return dx

    return y, backward


@planner(AveragePool2D)
def plan_averagepool(run: Run, x: Array, s: Launches, need_dx: bool) -> Planned:
    """Y = the mean of each window."""
    (layer,) = run
    y = s.new((len(x), *layer.output_shape))
    pool.averagepool_forward(s, x, y, window(layer))
    s.free(x)

    def backward(dy: Array) -> Any:
        dx = s.new(x.shape)
        pool.averagepool_backward(s, dy, dx, window(layer))
        s.free(dy)
        return dx

    return y, backward


@planner(GlobalAveragePool2D)
def plan_globalaveragepool(run: Run, x: Array, s: Launches, need_dx: bool) -> Planned:
    """Y = the mean of each channel."""
    (layer,) = run
    y = s.new((len(x), *layer.output_shape))
    pool.globalaveragepool_forward(s, x, y)
    s.free(x)

    def backward(dy: Array) -> Any:
        dx = s.new(x.shape)
        pool.globalaveragepool_backward(s, dy, dx)
        s.free(dy)
        return dx

    return y, backward
