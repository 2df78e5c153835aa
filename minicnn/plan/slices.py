"""Slice: what a planner writes in; and the two kinds of planners.

A planner turns a run of layers into calls, forward and backward side by side, as in the book:

    @slicewise(Flatten)
    def plan_flatten(run, x, s, need_dx):
        y = x.reshape(len(x), -1)

        def backward(dy):
            return dy.reshape(x.shape)

        return y, backward

It is called once for each slice of the batch.  x: the slice's input, (n,) + input_shape, an array
that will hold it.  s: the `Slice`, to write calls and to take memory from.  need_dx: whether
somebody asks for the gradient of x.  ``backward`` is called, if this is for training, after all
layers above were planned: it gets the array that will hold dy and returns that of dx, or None.

Who gets an array owns it, and frees it when the last call that reads it was written: x is freed by
the layer that it goes into (in ``backward``, if it is needed there), y by the one that comes next,
dy by the layer that it goes back through.  A layer whose ``backward`` reads y holds it meanwhile.
To hand on x or dy itself, perhaps in another shape, is to hand on the ownership.

A planner may answer None: this isn't for me.  Then a shorter run is tried.

Who made x may `expect` its gradient: have something done with each chunk of dx while it is in the
cache.  A planner that writes dx in chunks asks for that by `expected`, and does it (`Arrival`).
And who made x may `offer` to make its chunks again where they are read.  A planner that reads x in
chunks asks for that by `offered`: then it reads those, and x isn't kept (`Again`).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, ClassVar, TypeAlias

import numpy as np

from ..backend import Array
from ..kernels.cpu.team import Jobs, Team
from ..kernels.memory import Room
from ..kernels.script import Script
from ..layers import Layer
from ..params import Views
from .again import Again

Backward: TypeAlias = Callable[[Array], Any]
Planned: TypeAlias = tuple[Array, Backward] | None
Backwards: TypeAlias = Callable[[list[Array]], list[Any]]
Run: TypeAlias = Sequence[Any]
Arrival: TypeAlias = Callable[[slice, Array], None]
"""Writes what is to be done with a part of dx, which has just been written."""


class Slice(Script):
    """The script of one slice of the batch, for planners.

    training: whether there will be a backward.  part: which pictures of the batch it has.
    planners: who may write in it, by run of layer classes, the first first; under () are those for
    any layer.  unwanted: the names of parameters whose gradients are written, but which are frozen.

    A run below which nothing is trained, and in which nothing is, may be planned with ``training``
    False, as in prediction: its ``backward`` will not be called.
    """

    planners: ClassVar[Planners] = {}
    training: bool
    part: slice
    team: Team
    grads: Views

    def __init__(self, dtype: Any, room: Room | None = None) -> None:
        super().__init__(dtype, room)
        self.arrival: tuple[Array, Arrival] | None = None
        self.again: Again | None = None
        self.unwanted: set[str] = set()

    def expect(self, x: Array, arrival: Arrival) -> None:
        """Ask the next run for a call with each chunk of the gradient of x, all of them or none."""
        self.arrival = x, arrival

    def expected(self, x: Array) -> Arrival | None:
        """Return what was asked for of x, once: who gets it has to do it."""
        if self.arrival is None or self.arrival[0] is not x:
            return None
        arrival, self.arrival = self.arrival[1], None
        return arrival

    def offer(self, again: Again) -> None:
        """Offer the next run an array's chunks in place of the array, which it gets, too."""
        self.again = again

    def offered(self, x: Array) -> Again | None:
        """Take what was offered for x, if nobody else needs x: who gets it doesn't own x."""
        again, self.again = self.again, None
        usable = again is not None and again.stored is x and again.untouched
        return again.take() if usable and again is not None else None

    def grad(self, layer: Layer, name: str) -> np.ndarray:
        """Return where this slice's gradient of a parameter goes: the slices' are added up."""
        return self.grads[f"{layer.path}/{name}"]

    def prepare(
        self,
        layer: Layer,
        use: str,
        shape: tuple[int, ...],
        write: Callable[[Jobs, np.ndarray], None],
    ) -> np.ndarray:
        """Return an array made of a layer's weights, once for all slices; see `Team.prepare`."""
        return self.team.prepare((layer.path, use), shape, write)


Planner: TypeAlias = Callable[[Run, Array, Any, bool], Planned]
TeamPlanner: TypeAlias = Callable[
    [Run, list[Array], Team, bool], tuple[list[Array], Backwards] | None
]

Planners: TypeAlias = dict[tuple[type, ...], list[TeamPlanner]]


def teamwise(
    *kinds: type, scripts: Sequence[Any] = (Slice,)
) -> Callable[[TeamPlanner], TeamPlanner]:
    """Register a planner for a run of layers that gets all slices at once, xs and team.

    scripts: the classes that it knows to write in.
    """

    def register(planner: TeamPlanner) -> TeamPlanner:
        for script in scripts:
            script.planners.setdefault(kinds, []).append(planner)
        return planner

    return register


def slicewise(*kinds: type, scripts: Sequence[Any] = (Slice,)) -> Callable[[Planner], Planner]:
    """Register a planner for a run of layers that looks at one slice of the batch at a time."""

    def register(planner: Planner) -> Planner:
        teamwise(*kinds, scripts=scripts)(each_slice(planner))
        return planner

    return register


def each_slice(planner: Planner) -> TeamPlanner:
    """Return a planner that lets another plan each slice."""

    def plan(
        run: Run, xs: list[Array], team: Team, need_dx: bool
    ) -> tuple[list[Array], Backwards] | None:
        planned = []
        for x, s in zip(xs, team.scripts, strict=True):
            pair = planner(run, x, s, need_dx)
            if pair is None:
                return None
            planned.append(pair)

        def backward(dys: list[Array]) -> list[Any]:
            return [back(dy) for (_, back), dy in zip(planned, dys, strict=True)]

        return [y for y, _ in planned], backward

    return plan
