"""Planners for the simple layers.  Read `plan_dense`, and you can write another."""

from __future__ import annotations

import copy
from math import prod
from typing import Any

import numpy as np

from ..backend import Array
from ..kernels.cpu.rows import cut, masked
from ..kernels.cpu.team import Team
from ..kernels.cpu.winograd import add_product
from ..kernels.geometry import chunks
from ..layers import (
    GELU,
    Conv2D,
    Dense,
    Dropout,
    Flatten,
    LeakyReLU,
    Normalize,
    PadChannels,
    ReLU,
    Scale,
    Softmax,
)
from ..streams import Stream
from .activation import PIECE_BYTES
from .slices import Backwards, Planned, Run, Slice, slicewise, teamwise


@slicewise(Dense, ReLU)
@slicewise(Dense)
def plan_dense(run: Run, x: Array, s: Slice, need_dx: bool) -> Planned:
    """Y = x w + b, cut off at zero if a ReLU follows (`functional.dense`)."""
    layer, relu = run[0], len(run) > 1
    y = s.new((len(x), layer.units))  # (n, O) = (n, I) @ (I, O)
    s(np.matmul, x, layer.w, y)
    if layer.use_bias:
        s(np.add, y, layer.b, y)
    if relu:
        cut(s, y)
    if not s.training:
        s.free(x)
    elif relu:
        s.hold(y)

    def backward(dy: Array) -> Any:
        d = dy
        if relu:
            d = s.reuse(dy)
            masked(s, dy, y, d)
            s.free(y)
        s(np.matmul, x.T, d, s.grad(layer, "w"))  # (I, O) = (I, n) @ (n, O)
        if layer.use_bias:
            add_product(s, s.ones(len(x)), d, s.grad(layer, "b"), first=True)
        dx = None
        if need_dx:
            dx = s.like(x)  # (n, I) = (n, O) @ (O, I)
            s(np.matmul, d, layer.w.T, dx)
        s.free(x, d)
        return dx

    return y, backward


@slicewise(Flatten)
def plan_flatten(run: Run, x: Array, s: Slice, need_dx: bool) -> Planned:
    """Look at pictures as rows."""
    return x.reshape(len(x), -1), lambda dy: dy.reshape(x.shape)


@slicewise(Normalize)
def plan_normalize(run: Run, x: Array, s: Slice, need_dx: bool) -> Planned:
    """Y = x factor - offset, for each channel, on whole pictures; factor = scale / std."""
    (layer,) = run
    mean, std = layer.buffers["mean"], layer.buffers["std"]

    def write(job: Any, both: Array) -> None:
        factors, offsets = both.reshape(2, -1, std.size)
        job(np.divide, layer.scale, std, factors)
        job(np.divide, mean, std, offsets)

    factor, offset = s.prepare(layer, "whole", (2, prod(layer.input_shape)), write)
    y = s.new(x.shape)
    for part in chunks(len(x), factor.nbytes, PIECE_BYTES):
        rows = y[part].reshape(-1, factor.size)
        s(np.multiply, x[part].reshape(rows.shape), factor, rows)
        s(np.subtract, rows, offset, rows)
    s.free(x)

    def backward(dy: Array) -> Any:
        dx = s.reuse(dy)
        for part in chunks(len(dy), factor.nbytes, PIECE_BYTES):
            rows = dx[part].reshape(-1, factor.size)
            s(np.multiply, dy[part].reshape(rows.shape), factor, rows)
        return dx

    return y, backward


@slicewise(Scale)
def plan_scale(run: Run, x: Array, s: Slice, need_dx: bool) -> Planned:
    """Y = factor x, in place where nobody else needs x."""
    factor = s.dtype.type(run[0].factor)
    y = s.reuse(x)
    s(np.multiply, x, factor, y)

    def backward(dy: Array) -> Any:
        dx = s.reuse(dy)
        s(np.multiply, dy, factor, dx)
        return dx

    return y, backward


@slicewise(PadChannels)
def plan_pad_channels(run: Run, x: Array, s: Slice, need_dx: bool) -> Planned:
    """Lay x into the middle of zeros; dx is the middle of dy."""
    (layer,) = run
    y = s.new((*x.shape[:-1], layer.channels))
    s.fill(y, 0.0)
    s.insert(x, y, layer.middle)
    s.free(x)

    def backward(dy: Array) -> Any:
        dx = s.new(x.shape) if need_dx else None
        if dx is not None:
            s.extract(dy, layer.middle, dx)
        s.free(dy)
        return dx

    return y, backward


@teamwise(Dropout)
def plan_dropout(
    run: Run, xs: list[Array], team: Team, need_dx: bool
) -> tuple[list[Array], Backwards]:
    """Switch values off, those that one generator for the whole batch would (`functional.dropout`).

    Each slice moves that generator on to where its own pictures begin.
    """
    (layer,) = run
    slices: list[Slice] = team.scripts  # type: ignore[assignment]
    if not slices[0].training or layer.stream is None:
        return xs, lambda dys: dys

    def take_stream() -> Stream:
        stream = copy.copy(layer.stream)
        layer.stream.position += 1
        return stream

    stream = team.before(take_stream)
    scale = team.dtype.type(1 / (1 - layer.rate))

    def draw(numbers: np.ndarray, skipped: int) -> None:
        generator = copy.copy(stream.value).next()
        generator.bit_generator.advance(skipped // 2)  # a step makes two numbers
        generator.random(skipped % 2, dtype="float32")
        generator.random(out=numbers, dtype="float32")

    ys, keeps = [], []
    for x, s in zip(xs, slices, strict=True):
        numbers, keep = s.new(x.shape, "float32"), s.new(x.shape, bool)
        s(draw, numbers, s.part.start * x[0].size)
        s(np.greater_equal, numbers, layer.rate, keep)
        s.free(numbers)
        y = s.reuse(x)
        s(np.multiply, x, keep, y)
        s(np.multiply, y, scale, y)
        ys.append(y)
        keeps.append(keep)

    def backward(dys: list[Array]) -> list[Any]:
        dxs = []
        for dy, keep, s in zip(dys, keeps, slices, strict=True):
            dxs.append(s.reuse(dy))
            s(np.multiply, dy, keep, dxs[-1])
            s(np.multiply, dxs[-1], scale, dxs[-1])
            s.free(keep)
        return dxs

    return ys, backward


@slicewise(LeakyReLU)
@slicewise(GELU)
@slicewise(Softmax)
@slicewise(Conv2D)
def plan_by_the_book(run: Run, x: Array, s: Slice, need_dx: bool) -> Planned:
    """Let a copy of the layer do what its functions say, slice by slice.

    For layers that treat every picture alike; one copy for each slice, as a layer has one cache.
    """
    (layer,), training = run, s.training
    twin = copy.copy(layer)
    for name in layer.declared:
        setattr(twin, f"d{name}", s.grad(layer, name) if training else None)
    y = s.new((len(x), *layer.output_shape))

    def forward() -> None:
        y[...] = twin.forward(x, True) if training else twin.infer(x)

    s(forward)
    if not training:
        s.free(x)

    def backward(dy: Array) -> Any:
        dx = s.like(x) if need_dx else None

        def go_back() -> None:
            if dx is None:
                twin.backward_params(dy)
            else:
                dx[...] = twin.backward(dy)

        s(go_back)
        s.free(x, dy)
        return dx

    return y, backward
