"""Plan: the scripts of a network for batches of one size, and all their memory."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import nullcontext
from functools import partial
from typing import Any

import numpy as np

from ..backend import Array
from ..kernels.cpu.team import Stage, Team
from ..kernels.memory import Memory, address, packed
from ..kernels.packing import Layout
from ..layers import Layer, Sequential
from ..layers.base import naming
from ..optim import flat_arrays
from ..params import Parameters
from ..workers import SharedMemory, processes_allowed
from .copies import Copies
from .fingerprint import Fingerprint, known
from .slices import Slice
from .walk import walk

HEAVY = 16 << 20  # bytes of parameters that are too many to have once more for each process

WASTE = 4 << 20  # bytes that are worth writing a plan once more


def make_plan(
    model: Sequential, N: int, dtype: Any, training: bool, lenders: Sequence[Plan] = ()
) -> Plan:
    """Return a plan.  If it wastes memory, write it again: now it's known when each array lives."""
    plan = Plan(model, N, dtype, training, lenders)
    if layouts := plan.layouts:
        del plan
        plan = Plan(model, N, dtype, training, lenders, layouts)
    return plan


class Plan:
    """The calls of one network for batches of N pictures.

    training: with a backward, which writes ``model.grads``; otherwise nothing is kept for one.
    lenders: plans that are never at work when this one is, whose memory it may use.  layouts: where
    the arrays are to lie, from ``layouts`` of a plan that was made of the same, see `make_plan`.
    """

    def __init__(
        self,
        model: Sequential,
        N: int,
        dtype: Any,
        training: bool,
        lenders: Sequence[Plan] = (),
        layouts: Sequence[Layout] = (),
    ) -> None:
        # The model itself isn't kept: it keeps its plans (weakly), and would never be let go.
        self.params: Parameters = model.params
        self.layers = [layer for layer in model.walk() if layer is not model]
        self.fingerprint = Fingerprint(model, Slice.planners)
        self.training = training
        self.pictures = np.broadcast_to(np.zeros((), dtype), (N, *model.input_shape))
        self.team = Team(
            N,
            model.dtype,
            Slice,
            processes=processes_allowed() and self.shareable(),
            explain=partial(name_culprit, self.layers[0], self.pictures),
        )
        for lender in lenders:
            for mine, theirs in zip(self.memories, lender.memories, strict=False):
                if type(mine.room) is type(theirs.room):
                    mine.borrow(theirs)
        with naming(model.first_leaf(), self.pictures):
            for memory, layout in zip(self.memories, layouts, strict=False):
                memory.follow(layout)
            lasting = partial(self.team.memory.lasting, dtype=model.dtype)
            self.y = lasting((N, *model.layers[-1].output_shape))
            self.dy = lasting(self.y.shape)
            self.copies = None
            if self.shared:  # a layer without planner runs here, with what it has
                self.copies = Copies(
                    self.params, known(self.layers, Slice.planners), self.team.memory.lasting
                )
                self.team.spare = partial(flat_arrays, self.params)
            self.grads = [self.params.grad]  # the first slice is always at work in this process
            for _ in self.slices[1:] if training else ():
                self.grads.append(lasting(self.params.grad.shape))
                self.grads[-1].fill(0)
            self.inputs: list[np.ndarray] = []
            for k, (s, part) in enumerate(zip(self.slices, self.team.parts, strict=True)):
                s.training, s.part, s.team = training, part, self.team
                s.grads = self.params.views(self.grads[k if training else 0])
                self.inputs.append(s.hold(s.new(self.pictures[part].shape, dtype)))
            try:
                with nullcontext() if self.copies is None else self.copies.instead():
                    self.write(model)
            finally:  # the team has them: a circle would outlive the plan
                for s in self.slices:
                    del s.team
        again = self.wasted > WASTE and not layouts
        self.layouts = packed(self.memories) if again else []
        for memory in self.memories:
            memory.give_back()
        lent = {place for lender in lenders for place in lender.buffers}
        self.own = sum(size for place, size in self.buffers.items() if place not in lent)

    @property
    def slices(self) -> list[Slice]:
        """The scripts, one for each thread."""
        return self.team.scripts  # type: ignore[return-value]

    def shareable(self) -> bool:
        """Whether processes can share the parameters: they are few, and all in their own place."""
        return self.params.data.nbytes <= HEAVY and all(
            getattr(layer, name) is self.params[f"{layer.path}/{name}"]
            for layer in known(self.layers, Slice.planners)
            for name in layer.declared
        )

    @property
    def shared(self) -> bool:
        """Whether its memory is such that the slices may run in processes."""
        return isinstance(self.team.room, SharedMemory)

    @property
    def memories(self) -> list[Memory]:
        """Where the buffers are from: the team's, and each slice's."""
        return [self.team.memory, *(s.memory for s in self.slices)]

    @property
    def wasted(self) -> int:
        """The bytes of its buffers that packing would save, about."""
        return sum(memory.wasted for memory in self.memories)

    def write(self, model: Sequential) -> None:
        """Let the planners write everything."""
        team = self.team
        ys, back = walk(model.layers, list(self.inputs), team, need_dx=False)
        for s, y, part in zip(self.slices, ys, team.parts, strict=True):
            s(np.copyto, self.y[part], y)
            s.free(y)
        team.meet()
        self.forward_stages, self.backward_stages = list(team.stages), list[Stage]()
        if not self.training:
            return
        dys = []
        for s, part in zip(self.slices, team.parts, strict=True):
            dys.append(s.new(self.y[part].shape))
            s(np.copyto, dys[-1], self.dy[part])
        back(dys)
        team.meet()
        self.unwanted = [self.params.grads[name] for name in sorted(self.slices[0].unwanted)]
        if len(self.grads) > 1:
            self.add_up()
        self.backward_stages = team.stages[len(self.forward_stages) :]

    def add_up(self) -> None:
        """Write the sum of the slices' gradients, each slice its part of them."""
        total, (first, *others) = self.params.grad, self.grads
        bounds = [total.size * k // len(self.slices) for k in range(len(self.slices) + 1)]
        for s, start, stop in zip(self.slices, bounds, bounds[1:], strict=False):
            part = slice(start, stop)
            for so_far, other in zip([first, *[total] * len(others)], others, strict=False):
                s(np.add, so_far[part], other[part], total[part])
        self.team.meet(here=True)

    def forward(self, x: Array) -> Array:
        """Return the output for a batch x; the next call will overwrite it."""
        if self.copies is not None:
            self.copies.take()
        for piece, part in zip(self.inputs, self.team.parts, strict=True):
            np.copyto(piece, x[part])
        self.team.run(self.forward_stages)
        return self.y

    def backward(self, dy: Array) -> None:
        """Write all gradients of the last forward into ``model.grads``."""
        np.copyto(self.dy, dy)
        self.team.run(self.backward_stages)
        for grad in self.unwanted:
            grad.fill(0)

    def fits(self, model: Sequential) -> bool:
        """Whether the model is still what this was made for."""
        return self.fingerprint.fits(model)

    @property
    def buffers(self) -> dict[int, int]:
        """The bytes of all its memory, by where it lies; some may be other plans' as well."""
        found = {k: block.nbytes for memory in self.memories for k, block in memory.blocks.items()}
        constants = [array for s in self.slices for array in s.constants.values()]
        mine = [array for array in self.grads if array is not self.params.grad]
        copies = [] if self.copies is None else [self.copies.params.data]
        for array in (self.y, self.dy, *mine, *copies, *constants):
            found[address(array)] = array.nbytes
        return found

    @property
    def nbytes(self) -> int:
        """The memory of all buffers."""
        return sum(self.buffers.values())


def name_culprit(first: Layer, pictures: Array, error: MemoryError) -> None:
    """Raise the error anew with the name of the layer that found no memory."""
    with naming(culprit(error) or first, pictures):
        raise error


def culprit(error: BaseException) -> Layer | None:
    """Return the layer whose method an error came from: the innermost one."""
    found, trace = None, error.__traceback__
    while trace is not None:
        owner = trace.tb_frame.f_locals.get("self")
        found = owner if isinstance(owner, Layer) else found
        trace = trace.tb_next
    return found
