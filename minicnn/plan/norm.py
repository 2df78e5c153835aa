"""Planner for BatchNorm: the layer at which the slices of a batch meet.

Forward, each slice adds up its values and their squares, chunk by chunk; the slices meet and know
mean and variance; then each scales its own.  Backward it is the same with two other sums.

A variance is a difference of two sums, which cancel where the mean is far from zero.  So each slice
subtracts its first pixel before squaring: that is about as far from the mean as the data are.
What the slices found is put together in float64 (Chan, Golub and LeVeque 1983, section 2).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from ..backend import Array
from ..kernels.cpu.geometry import chunks
from ..kernels.cpu.rows import in_rows, zero_row
from ..kernels.cpu.script import maximum
from ..kernels.cpu.team import Team
from ..layers import BatchNorm, ReLU
from .slices import Backwards, Run, Slice, slicewise, teamwise

CHUNK_BYTES = 1 << 18  # of one operand: several lie in the cache together


def cut_up(x: Array) -> list[slice]:
    """Cut a slice into chunks."""
    return list(chunks(len(x), x[0].nbytes, CHUNK_BYTES))


@dataclass
class Sums:
    """Two sums over all pixels, channel by channel: by chunk, to be added up in float64."""

    first: np.ndarray  # (chunks, C)
    second: np.ndarray
    M: int  # pixels of the slice

    @classmethod
    def of(cls, x: Array, dtype: Any) -> Sums:
        """Return room for the sums over a slice."""
        shape = (len(cut_up(x)), x.shape[-1])
        return cls(np.empty(shape, dtype), np.empty(shape, dtype), x.size // shape[1])

    def totals(self) -> tuple[np.ndarray, np.ndarray]:
        """Return both sums, (C,) float64."""
        return self.first.sum(0, dtype="float64"), self.second.sum(0, dtype="float64")


class Rows:
    """Numbers of each channel that the meeting finds, laid out to be used on rows of pixels."""

    def __init__(self, count: int, x: Array) -> None:
        self.wide = np.empty((count, in_rows(x).shape[1]), x.dtype)

    def __getitem__(self, k: int) -> np.ndarray:
        return self.wide[k]

    def set(self, *numbers: np.ndarray) -> None:
        """Put numbers, (C,) each, into the rows."""
        for row, values in zip(self.wide, numbers, strict=True):
            row.reshape(-1, values.size)[...] = values


@teamwise(BatchNorm, ReLU)
@teamwise(BatchNorm)
def plan_batchnorm(
    run: Run, xs: list[Array], team: Team, need_dx: bool
) -> tuple[list[Array], Backwards] | None:
    """y = gamma (x - mean) / sqrt(var + eps) + beta, cut off at zero if a ReLU follows."""
    slices: list[Slice] = team.scripts  # type: ignore[assignment]
    if not slices[0].training:
        return None
    layer, relu = run[0], len(run) > 1
    M = team.N * xs[0][0].size // xs[0].shape[-1]
    if M < 2:
        return None  # the book says what is wrong
    sums = [Sums.of(x, s.dtype) for x, s in zip(xs, slices, strict=True)]
    pivots = [np.empty(x.shape[-1:], x.dtype) for x in xs]
    scaling, statistics = Rows(2, xs[0]), np.zeros((3, xs[0].shape[-1]))

    for x, s, found, pivot in zip(xs, slices, sums, pivots, strict=True):
        s(np.copyto, pivot, x.reshape(-1, x.shape[-1])[0])
        add_up_squares(s, x, found, pivot)

    def meet_forward() -> None:
        mean, var = combine(sums, pivots)
        gamma = layer.gamma if layer.scale else np.ones_like(mean)
        beta = layer.beta if layer.center else np.zeros_like(mean)
        inverse = 1 / np.sqrt(var + float(layer.eps))
        statistics[:] = mean, inverse, gamma
        scaling.set(gamma * inverse, beta - mean * gamma * inverse)
        layer.follow((mean, var), M)

    team.meet((meet_forward, ()))
    ys = []
    for x, s in zip(xs, slices, strict=True):
        y = s.new(x.shape)
        for part in cut_up(x):
            rows, out = in_rows(x[part]), in_rows(y[part])
            s(np.multiply, rows, scaling[0], out)
            s(np.add, out, scaling[1], out)
            if relu:
                s(maximum, out, zero_row(s, y), out)
        ys.append(s.hold(y) if relu else y)

    def backward(dys: list[Array]) -> list[Any]:
        ds = []
        for x, y, dy, s, found in zip(xs, ys, dys, slices, sums, strict=True):
            ds.append(add_up_gradients(s, x, y if relu else None, dy, found))
            s.free(y if relu else None)
        factors = Rows(3, xs[0])

        def meet_backward() -> None:
            parts = [found.totals() for found in sums]
            dbeta, product = (sum(part[k] for part in parts) for k in (0, 1))
            mean, inverse, gamma = statistics
            dgamma = (product - mean * dbeta) * inverse
            if layer.scale:
                slices[0].grad(layer, "gamma")[...] = dgamma
            if layer.center:
                slices[0].grad(layer, "beta")[...] = dbeta
            factor = gamma * inverse
            slope = -factor * inverse * dgamma / M
            factors.set(factor, slope, -factor * dbeta / M - slope * mean)

        team.meet((meet_backward, ()))
        dxs: list[Any] = []
        for x, d, s in zip(xs, ds, slices, strict=True):
            dx = None
            if need_dx:
                dx = s.reuse(d)
                room = s.new(x[cut_up(x)[0]].shape)
                for part in cut_up(x):
                    rows, out = in_rows(x[part]), in_rows(dx[part])
                    line = in_rows(room[: part.stop - part.start])
                    s(np.multiply, rows, factors[1], line)
                    s(np.add, line, factors[2], line)
                    s(np.multiply, in_rows(d[part]), factors[0], out)
                    s(np.add, out, line, out)
                s.free(room)
            else:
                s.free(d)
            s.free(x)
            dxs.append(dx)
        return dxs

    return ys, backward


def add_up_squares(s: Slice, x: Array, found: Sums, pivot: np.ndarray) -> None:
    """Write the sums of x - pivot and of its squares."""
    C = x.shape[-1]
    wide = np.empty(in_rows(x).shape[1], x.dtype)
    s(np.copyto, wide.reshape(-1, C), pivot)
    room = s.new(x[cut_up(x)[0]].shape)
    for k, part in enumerate(cut_up(x)):
        d = room[: part.stop - part.start]
        ones = s.ones(d.size // C)
        s(np.subtract, in_rows(x[part]), wide, in_rows(d))
        s(np.matmul, ones, d.reshape(-1, C), found.first[k])
        s(np.multiply, d, d, d)
        s(np.matmul, ones, d.reshape(-1, C), found.second[k])
    s.free(room)


def combine(sums: list[Sums], pivots: list[np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    """Return mean and variance of all slices, (C,) float64."""
    M = sum(found.M for found in sums)
    means, spreads = [], []
    for found, pivot in zip(sums, pivots, strict=True):
        first, second = found.totals()
        means.append(pivot + first / found.M)
        spreads.append(second - first * first / found.M)
    mean = sum(found.M * each for found, each in zip(sums, means, strict=True)) / M
    between = sum(
        found.M * (each - mean) ** 2 for found, each in zip(sums, means, strict=True)
    )
    return mean, np.maximum(sum(spreads) + between, 0) / M


def add_up_gradients(s: Slice, x: Array, y: Array | None, dy: Array, found: Sums) -> Array:
    """Write the sums of d and of d * x, d being dy where y wasn't cut off; return d."""
    C = x.shape[-1]
    d = dy if y is None else s.reuse(dy)
    size = x[cut_up(x)[0]].shape
    room, mask = s.new(size), s.new(size, bool)
    for k, part in enumerate(cut_up(x)):
        m = part.stop - part.start
        if y is not None:
            s(np.greater, in_rows(y[part]), zero_row(s, y), in_rows(mask[:m]))
            s(np.multiply, dy[part], mask[:m], d[part])
        ones = s.ones(x[part].size // C)
        s(np.matmul, ones, d[part].reshape(-1, C), found.first[k])
        s(np.multiply, d[part], x[part], room[:m])
        s(np.matmul, ones, room[:m].reshape(-1, C), found.second[k])
    s.free(room, mask)
    return d


@slicewise(BatchNorm, ReLU)
@slicewise(BatchNorm)
def plan_batchnorm_inference(run: Run, x: Array, s: Slice, need_dx: bool) -> Any:
    """Scale with the running statistics: a row of factors and a row of offsets."""
    if s.training:
        return None
    layer, C = run[0], x.shape[-1]

    def write(job: Any, rows: np.ndarray) -> None:
        def set_rows() -> None:
            mean, var = (layer.buffers[name] for name in ("running_mean", "running_var"))
            factor = 1 / np.sqrt(var + float(layer.eps))
            if layer.scale:
                factor = factor * layer.gamma
            factors, offsets = rows.reshape(2, -1, C)
            factors[...] = factor
            offsets[...] = (layer.beta if layer.center else 0) - mean * factor

        job(set_rows)

    y = s.reuse(x)
    factors, offsets = s.prepare(layer, "rows", (2, in_rows(x).shape[1]), write)
    for part in cut_up(x):
        rows, out = in_rows(x[part]), in_rows(y[part])
        s(np.multiply, rows, factors, out)
        s(np.add, out, offsets, out)
        if len(run) > 1:
            s(maximum, out, zero_row(s, y), out)
    return y, lambda dy: dy
