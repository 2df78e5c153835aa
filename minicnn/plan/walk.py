"""The walk through a network: which planner gets which layers, forward and then back.

It knows no layer but those that are made of others, and those that training makes different.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, cast

import numpy as np

from ..backend import Array, array_module
from ..kernels.cpu.team import Team
from ..layers import BatchNorm, Concat, Dropout, Layer, ReLU, Residual, Sequential
from ..layers.base import naming
from .join import Join
from .slices import Backwards, Planners, Run, Slice, TeamPlanner, teamwise

LONGEST = 5  # layers in a run


def walk(
    layers: Sequence[Layer], xs: list[Array], team: Team, need_dx: bool
) -> tuple[list[Array], Backwards]:
    """Plan layers one after the other; return their outputs and the way back."""
    rest, backs = flat(layers), []
    while rest:
        run, xs, back = plan_next(rest, xs, team, need_dx)
        backs.append((run, back, need_dx))
        need_dx = need_dx or is_trained(run)
        rest = rest[len(run) :]

    def backward(dys: list[Any]) -> list[Any]:
        for run, back, wanted in reversed(backs):
            if not wanted and not is_trained(run):
                break  # nobody asks for what comes before
            label(team, run, "backward")
            with naming(run[0], whole_batch(team, dys)):
                dys = back(dys)
            team.scripts[0].unwanted |= frozen(run)  # type: ignore[attr-defined]
        return dys

    return xs, backward


def plan_next(
    layers: Sequence[Layer], xs: list[Array], team: Team, need_dx: bool
) -> tuple[Run, list[Array], Backwards]:
    """Let the first planner that can plan the first layers; return which, and what it planned."""
    slices: list[Any] = team.scripts
    asked = [(s.arrival, s.again) for s in slices]
    for planner, run in candidates(layers, slices[0].planners):
        label(team, run, "forward")
        with naming(run[0], whole_batch(team, xs)), keeping(team, need_dx or not idle(run, slices)):
            planned = planner(run, xs, team, need_dx)
        if planned is not None:
            for s, (arrival, again) in zip(slices, asked, strict=True):
                if s.arrival is arrival:
                    s.arrival = None  # the run doesn't know of it, and has perhaps changed x
                if s.again is again:
                    s.again = None
            return run, *planned
    raise AssertionError("the planners for any layer plan everything")


def is_trained(run: Run) -> bool:
    """Whether layers, or layers inside them, have parameters that are trained."""
    return any(part.trained for layer in run for part in layer.walk())


def frozen(run: Run) -> set[str]:
    """Return the names of the parameters of layers, and of layers inside, that aren't trained."""
    parts = (part for layer in run for part in layer.walk())
    return {f"{p.path}/{name}" for p in parts for name in p.declared if name not in p.trained}


def idle(run: Run, slices: Sequence[Any]) -> bool:
    """Whether nothing is trained in a run, and it does in training what it does in prediction.

    That holds for all layers that planners know, but for Dropout, and BatchNorm unless its running
    statistics are frozen.
    """
    kinds = {Sequential, *(kind for kinds in slices[0].planners for kind in kinds)} - {Dropout}
    parts = [part for layer in run for part in layer.walk()]
    return not any(
        part.trained
        or type(part) not in kinds
        or (type(part) is BatchNorm and part.trainable is not False)
        or replaced(part)
        for part in parts
    )


@contextmanager
def keeping(team: Team, wanted: bool) -> Iterator[None]:
    """Let planners in the block keep nothing for a backward that isn't wanted."""
    scripts: list[Any] = team.scripts
    before = [s.training for s in scripts]
    for s in scripts:
        s.training = s.training and wanted
    try:
        yield
    finally:
        for s, training in zip(scripts, before, strict=True):
            s.training = training


def whole_batch(team: Team, xs: list[Array]) -> Array:
    """Return something in the shape of the whole batch, for errors that tell it."""
    return array_module(xs[0]).broadcast_to(xs[0][:1], (team.N, *xs[0].shape[1:]))


def flat(layers: Sequence[Layer]) -> list[Layer]:
    """Return the layers with those inside a Sequential in its place."""
    found: list[Layer] = []
    for layer in layers:
        if type(layer) is Sequential and not replaced(layer):
            found += flat(layer.layers)
        else:
            found.append(layer)
    return found


def replaced(layer: Layer) -> bool:
    """Whether somebody has replaced a method of this object."""
    return not {"forward", "backward", "backward_params", "infer"}.isdisjoint(vars(layer))


def candidates(layers: Sequence[Layer], planners: Planners) -> list[tuple[TeamPlanner, Run]]:
    """Return who may plan the first layers: those for the longest run first.

    A class has its own planner or none: what a subclass does differently isn't known here.  Nor is
    what an object does whose ``forward`` or ``backward`` somebody has replaced.
    """
    found: list[tuple[TeamPlanner, Run]] = []
    for length in range(min(LONGEST, len(layers)), 0, -1):
        run = layers[:length]
        if not any(map(replaced, run)):
            kinds = tuple(type(layer) for layer in run)
            found += [(planner, run) for planner in planners.get(kinds, [])]
    return [*found, *((planner, layers[:1]) for planner in planners[()])]


def label(team: Team, run: Run, way: str) -> None:
    """Note whose calls come next."""
    for script in team.scripts:
        script.label = f"{way} {' + '.join(layer.path for layer in run)}"


@teamwise(Residual, ReLU)
@teamwise(Residual)
def plan_residual(
    run: Run, xs: list[Array], team: Team, need_dx: bool
) -> tuple[list[Array], Backwards]:
    """Y = main(x) + side(x); the gradient goes both ways, and dx is the sum.

    The sum, and a ReLU behind it, go into the walk through main: they can end a run there.
    """
    layer, slices = run[0], cast(list[Slice], team.scripts)
    sums = [Sum(s.hold(x), s, k) for k, (x, s) in enumerate(zip(xs, slices, strict=True))]
    side = [] if layer.side is None else [layer.side]
    with expecting(sums if side else []):
        sides, side_back = walk(side, xs, team, need_dx)
    join = Join(layer.path, sides, team)
    asked = need_dx or is_trained(side)
    with expecting([] if side else sums):
        ys, main_back = walk([layer.main, join, *run[1:]], xs, team, asked)

    def backward(dys: list[Array]) -> list[Any]:
        # Who comes first leaves its gradients, and who comes last adds them to its own.
        first = [] if side else join.dsides
        for one in sums:
            one.others = first
        dmains = main_back(dys)
        if side:
            first += dmains
        dsides = side_back(join.dsides)
        label(team, run, "backward")
        if not need_dx:
            return dmains
        ends = zip(sums, dmains, dsides, strict=True)
        return [one.end(b, a) if side else one.end(a, b) for one, a, b in ends]

    return ys, backward


class Sum:
    """The gradient of a Residual's x in one slice: a sum, written as the last part of it arrives.

    others: the gradients that came first, by slice.
    """

    def __init__(self, x: Array, s: Slice, number: int) -> None:
        self.x, self.s, self.number = x, s, number
        self.others: list[Array] = []
        self.rest = s.expected(x)
        self.done = False

    def arrive(self, part: slice, dx: Array) -> None:
        """Add to a part of dx, and do what else is to be done with it."""
        self.s.add(dx, self.others[self.number][part], dx)
        if self.rest is not None:
            self.rest(part, dx)
        self.done = True

    def end(self, last: Array, first: Array) -> Array:
        """Return the sum."""
        if not self.done:
            return add(self.s, last, first)
        self.s.free(first)
        return last


@contextmanager
def expecting(sums: Sequence[Sum]) -> Iterator[None]:
    """Let what is planned in the block write the sums."""
    for one in sums:
        one.s.expect(one.x, one.arrive)
    yield
    for one in sums:
        one.s.expected(one.x)


def add(s: Any, a: Array, b: Array) -> Array:
    """Write a + b, in the place of one of them if nobody else needs it."""
    a, b = (a, b) if s.memory.alone(a) else (b, a)
    total = a if s.memory.alone(a) else s.like(a)
    s.add(a, b, total)
    s.free(b, None if total is a else a)
    return total


@teamwise(Concat)
def plan_concat(
    run: Run, xs: list[Array], team: Team, need_dx: bool
) -> tuple[list[Array], Backwards]:
    """Lay the branches' channels side by side; dx is the sum over the branches.

    A branch that is x itself has nothing to plan, and its piece of dy is its part of dx.
    """
    (layer,), slices = run, cast(list[Slice], team.scripts)
    shape = layer.output_shape
    ys = [s.new((len(x), *shape)) for x, s in zip(xs, slices, strict=True)]
    ends = np.cumsum([layer.shape_of(part)[-1] for part in layer.parts]).tolist()
    channels = [slice(a, b) for a, b in zip([0, *ends], ends, strict=False)]
    backs = []
    for x, s in zip(xs, slices, strict=True):
        s.expected(x)  # what one branch writes is only a part of dx
    for number, (part, where) in enumerate(zip(layer.parts, channels, strict=True)):
        for x, s in zip(xs, slices, strict=True):
            if number < len(layer.parts) - 1:
                s.hold(x)
        outs, back = walk([] if part is None else [part], xs, team, need_dx)
        backs.append(back)
        label(team, run, "forward")
        for out, y, s in zip(outs, ys, slices, strict=True):
            s.insert(out, y, where)
            s.free(out)

    def backward(dys: list[Array]) -> list[Any]:
        total: list[Any] = []
        for part, back, where in reversed(list(zip(layer.parts, backs, channels, strict=True))):
            if part is None and not need_dx:
                continue
            label(team, run, "backward")
            cuts = []
            for dy, s in zip(dys, slices, strict=True):
                cuts.append(s.new(dy[..., where].shape))
                s.extract(dy, where, cuts[-1])
            dxs = back(cuts)
            label(team, run, "backward")
            if need_dx:
                total = (
                    [add(s, a, b) for s, a, b in zip(slices, total, dxs, strict=True)]
                    if total
                    else dxs
                )
        for dy, s in zip(dys, slices, strict=True):
            s.free(dy)
        return total if need_dx else [None] * len(dys)

    return ys, backward
