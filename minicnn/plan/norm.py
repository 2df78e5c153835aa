"""Planner for BatchNorm, the layer at which the slices of a batch meet, with what is around it.

Forward, each slice adds up its values and their squares; the slices meet and know mean and
variance; then each scales its own.  Backward it is the same with two other sums.

    Conv2D | BatchNorm | Join (a residual sum) | ReLU | MaxPool2D          the whole run

All but BatchNorm may be missing.  A chunk of the convolution's output is added up while it is in
the cache.  After the meeting it is scaled, joined, cut off and pooled chunk by chunk.  Backward, a
chunk of the gradient is made when the convolution asks for it, and never stored.

A variance is a difference of two sums, which cancel where the mean is far from zero.  So a pixel of
the chunk is subtracted first: it is about as far from the mean as the others are.  What the chunks
and slices found is put together in float64 (Chan, Golub and LeVeque 1983, section 2).
"""

from __future__ import annotations

from math import prod
from typing import Any

import numpy as np

from ..backend import Array
from ..kernels.cpu.pooling import new_winners, pool_by_2, unpool_by_2
from ..kernels.cpu.rows import in_rows, masked
from ..kernels.cpu.team import Team
from ..layers import BatchNorm, Conv2D, MaxPool2D, Normalize, ReLU
from .again import Again
from .convolution import Parts as ConvParts
from .convolution import convolve, possible
from .join import Join
from .norm_frozen import plan_frozen
from .norm_inference import plan_inference
from .norm_parts import Parts, Rows, cut_up, finish, write_scaled
from .slices import Backwards, Run, Slice, teamwise


class Moments:
    """What is found of a slice, by chunk: a pivot, the sums of x - pivot and of its squares."""

    def __init__(self) -> None:
        self.sizes: list[int] = []
        self.chunks: list[np.ndarray] = []

    def add(self, s: Slice, x: Array) -> None:
        """Write the sums over a chunk (m, ..., C), each as a product with ones."""
        C = x.shape[-1]
        pixels, found = x.reshape(-1, C), s.memory.lasting((3, C), s.dtype)
        pivot = pixels[len(pixels) // 2]
        row, room, squares = s.new(in_rows(x).shape[1:]), s.like(x), s.like(x)
        s(np.copyto, found[0], pivot)
        s(np.copyto, row.reshape(-1, C), pivot)
        s(np.subtract, in_rows(x), row, in_rows(room))
        s(np.multiply, room, room, squares)
        add_up(s, room, found[1])
        add_up(s, squares, found[2])
        s.free(row, room, squares)
        self.sizes.append(len(pixels))
        self.chunks.append(found)


def add_up(s: Slice, x: Array, total: Array) -> None:
    """Write the sums over all pixels of a chunk (m, ..., C)."""
    rows = x.reshape(-1, total.size)
    s(np.matmul, s.ones(len(rows)), rows, total)


def combine(several: list[Moments]) -> tuple[np.ndarray, np.ndarray]:
    """Return mean and variance of all values, (C,) float64."""
    M = np.array([size for each in several for size in each.sizes], "float64")[:, None]
    found = np.array([chunk for each in several for chunk in each.chunks], "float64")
    pivots, sums, squares = found.transpose(1, 0, 2)  # each (chunks, C)
    means = pivots + sums / M
    mean = (M * means).sum(0) / M.sum()
    spread = squares - sums * sums / M + M * (means - mean) ** 2
    return mean, np.maximum(spread.sum(0), 0) / M.sum()


class Part:
    """One slice's side of it, in four stages with three meetings between them."""

    def __init__(self, p: Parts, s: Slice) -> None:
        self.p, self.s = p, s
        self.moments = Moments()
        self.products: list[np.ndarray] = []  # of each chunk, the sums of d and of d * x

    # Before the first meeting.

    def begin(self, x: Array, need_dx: bool) -> bool:
        """Write what makes the values to normalize, and their sums; say whether that can be."""
        s, p, self.need_dx = self.s, self.p, need_dx
        if not p.conv:
            self.x = x
            for part in cut_up(x):
                self.moments.add(s, x[part])
            return True
        conv = ConvParts.of(p.conv)
        if conv is None or not possible(conv, s, need_dx):
            return False
        conv.after = lambda chunk: self.moments.add(s, chunk)
        self.x, self.conv_back = convolve(conv, x, s, need_dx)
        del conv.after  # all is written: a circle would outlive the plan
        return True

    # Between the first and, in the backward pass, the second.

    def scale(self, scaling: Rows) -> Array:
        """Write the output."""
        s, p, x = self.s, self.p, self.x
        n, H, W, C = x.shape if x.ndim == 4 else (len(x), 1, 1, x.shape[1])
        y = s.new((n, H // 2, W // 2, C) if p.pool else x.shape)
        self.winners = new_winners(s, y) if p.pool else None

        def write(part: slice, out: Array) -> None:
            write_scaled(s, x[part], scaling, out)
            finish(s, p, out, None if p.join is None else p.join.side(s)[part])

        first = len(s.calls)
        for part in cut_up(x):
            out = s.new(x[part].shape) if p.pool else y[part]
            write(part, out)
            if p.pool:
                pool_by_2(s, out, y[part], winners_of(self.winners, part))
                s.free(out)
        self.label = s.label
        s.expect(y, self.multiply_part)
        if p.relu:
            self.seen = Again(s, y, write, first)
            if p.join is None and not p.pool:
                s.offer(self.seen)
        if p.join is not None:
            s.free(p.join.side(s))
        return y

    def multiply(self, dy: Array) -> None:
        """Write what is between, unless it was written when dy was."""
        s, p = self.s, self.p
        self.d = dy
        if not self.products:
            self.d = s.reuse(dy) if p.relu else dy
            for part in cut_up(self.x):
                self.multiply_part(part, dy[part], self.d[part])
        if p.relu:
            self.seen.free()
        if p.join is not None:
            p.join.dsides.append(s.hold(self.d))

    def multiply_part(self, part: slice, dy: Array, d: Array | None = None) -> None:
        """Write a chunk of d, that is dy where y wasn't cut off, and the sums of d and of d * x.

        It goes where dy was if there is no other place.
        """
        s, x, d = self.s, self.x[part], dy if d is None else d
        label, s.label = s.label, self.label.replace("forward", "backward")
        if self.p.relu:
            masked(s, dy, self.seen[part], d)
        d = self.whole(d, part)
        room, found = s.like(d), s.memory.lasting((2, x.shape[-1]), s.dtype)
        s(np.multiply, d, x, room)
        add_up(s, d, found[0])
        add_up(s, room, found[1])
        self.products.append(found)
        s.free(room, d)
        s.label = label

    def whole(self, d: Array, part: slice) -> Array:
        """Return a chunk of d in full size, to be freed."""
        s = self.s
        if not self.p.pool:
            return s.hold(d)
        full = s.new(self.x[part].shape)
        unpool_by_2(s, d, winners_of(self.winners, part), full)
        return full

    # After the last.

    def end(self, factors: Rows) -> Any:
        """Write dx = gamma / sqrt(var + eps) (d - sum d / M - n sum dn / M), and what is below."""
        s, p, dx = self.s, self.p, None
        if p.conv:
            dx = self.conv_back(self.d, lambda part: self.spread(part, factors))
        elif self.need_dx:
            dx = s.like(self.x) if p.pool else s.reuse(self.d)
            for part in cut_up(self.x):
                self.spread(part, factors, dx[part])
            s.free(self.d if p.pool else None)
        s.free(self.x, *(self.winners or ()))
        return dx

    def spread(self, part: slice, factors: Rows, out: Array | None = None) -> Array:
        """Write dx of a chunk."""
        s, x = self.s, self.x[part]
        d, line = self.whole(self.d[part], part), s.like(x)
        out = s.like(x) if out is None else out
        s(np.multiply, in_rows(x), factors[1], in_rows(line))
        s(np.add, in_rows(line), factors[2], in_rows(line))
        s(np.multiply, in_rows(d), factors[0], in_rows(out))
        s(np.add, out, line, out)
        s.free(line, d)
        return out


def winners_of(winners: Any, part: slice) -> Any:
    """Return the winners of a part of the pictures."""
    return tuple(array[part] for array in winners)


def plan_batchnorm(
    run: Run, xs: list[Array], team: Team, need_dx: bool
) -> tuple[list[Array], Backwards] | None:
    """Plan y = gamma (x - mean) / sqrt(var + eps) + beta, with its neighbours."""
    p = Parts.of(run)
    if p is None:
        return None
    norm, slices = p.norm, team.scripts
    if not slices[0].training:  # type: ignore[attr-defined]
        return plan_inference(p, xs, team)
    if norm.trainable is False:
        return plan_frozen(p, xs, team)
    M = team.N * prod(norm.input_shape[:-1])
    if M < 2:
        return None  # the book says what is wrong
    parts = [Part(p, s) for s in slices]  # type: ignore[arg-type]
    if not all(part.begin(x, need_dx) for part, x in zip(parts, xs, strict=True)):
        return None
    statistics = np.zeros((3, norm.input_shape[-1]))
    scaling, factors = (Rows(count, parts[0].x, team.memory) for count in (2, 3))

    def meet_forward() -> None:
        mean, var = combine([part.moments for part in parts])
        gamma = norm.gamma if norm.scale else np.ones_like(mean)
        beta = norm.beta if norm.center else np.zeros_like(mean)
        inverse = 1 / np.sqrt(var + float(norm.eps))
        statistics[:] = mean, inverse, gamma
        scaling.set(gamma * inverse, beta - mean * gamma * inverse)
        norm.follow((mean, var), M)

    team.meet((meet_forward, ()))
    ys = [part.scale(scaling) for part in parts]

    def backward(dys: list[Array]) -> list[Any]:
        for part, dy in zip(parts, dys, strict=True):
            part.multiply(dy)

        def meet_backward() -> None:
            mean, inverse, gamma = statistics
            found = [chunk for part in parts for chunk in part.products]
            dbeta, product = np.sum(found, axis=0, dtype="float64")
            dgamma = (product - mean * dbeta) * inverse
            for name, wanted, value in (
                ("gamma", norm.scale, dgamma),
                ("beta", norm.center, dbeta),
            ):
                if wanted:
                    slices[0].grad(norm, name)[...] = value  # type: ignore[attr-defined]
            factor = gamma * inverse
            slope = -factor * inverse * dgamma / M
            factors.set(factor, slope, -factor * dbeta / M - slope * mean)

        team.meet((meet_backward, ()))
        return [part.end(factors) for part in parts]

    return ys, backward


BEFORE: list[tuple[type, ...]] = [(), (Conv2D,), (Normalize, Conv2D)]
AFTER: list[tuple[type, ...]] = [(), (ReLU,), (ReLU, MaxPool2D), (Join,), (Join, ReLU)]
for before in BEFORE:
    for after in AFTER:
        teamwise(*before, BatchNorm, *after)(plan_batchnorm)
