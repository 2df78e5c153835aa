"""DevicePlan: the script of a network for batches of one size on a GPU, and all its memory."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, cast

from ...backend import Array
from ...kernels.cpu.team import Team
from ...kernels.cuda import elementwise
from ...kernels.cuda.writer import device_bytes
from ...kernels.memory import Memory, address
from ...kernels.script import Call, play
from ...layers import Sequential
from ...layers.base import naming
from ...losses import check_labels
from ...metrics import Meter
from ...optim import Optimizer
from ...params import Parameters
from ..fingerprint import Fingerprint
from ..plan import name_culprit
from ..walk import walk
from .launches import Launches, Solo
from .step import Step, may_be_one
from .update import Scaling


class DevicePlan:
    """The launches of one network for batches of N pictures.

    training: with a backward, which writes ``model.grads``; otherwise nothing is kept for one.
    lenders: plans that are never at work when this one is, whose memory it may use.

    y, dy: where the output is after the forward calls, and where its gradient is expected before
    the backward ones; in the storage type.
    """

    def __init__(
        self,
        model: Sequential,
        N: int,
        dtype: Any,
        training: bool,
        lenders: Sequence[DevicePlan] = (),
    ) -> None:
        self.params: Parameters = model.params
        self.layers = [layer for layer in model.walk() if layer is not model]
        self.fingerprint = Fingerprint(model, Launches.planners)
        self.training, self.N = training, N
        self.last: Step | None = None
        self.script = s = Launches(N, model.compute, model.params, training, device_bytes)
        self.clocks = s.clocks
        handed = [lender.scaling for lender in lenders if lender.scaling is not None]
        self.scaling: Scaling | None = None
        if s.kind == "float16":
            self.scaling = handed[0] if handed else Scaling(s)
        for lender in lenders:
            s.memory.borrow(lender.script.memory)
        xp = model.device.xp
        self.pictures = pictures = xp.broadcast_to(xp.zeros((), dtype), (N, *model.input_shape))
        with naming(model.first_leaf(), pictures):
            self.x = s.lasting(pictures.shape, dtype)
            self.write(model)
        s.memory.give_back()
        lent = {place for lender in lenders for place in lender.buffers}
        self.own = sum(size for place, size in self.buffers.items() if place not in lent)

    def write(self, model: Sequential) -> None:
        """Let the planners write everything."""
        s = self.script
        if s.dtype != s.acc_dtype:  # products read copies of the weights
            copies = s.lasting(self.params.data.shape)
            s.cast(self.params.data, copies)
            s.weights = self.params.views(copies)
        x = s.hold(self.x)
        if x.dtype != s.dtype and x.dtype.kind == "f":
            x = s.new(x.shape)
            s.cast(self.x, x)
        (self.y,), back = walk(model.layers, [x], cast(Team, Solo(s)), need_dx=False)
        calls = s.take()
        self.forward_calls = [*self.clocks.tick(s), *calls]
        self.backward_calls = list[Call]()
        if self.training:
            self.dy = s.new(self.y.shape)  # y stays: a loss is to be written between
            back([self.dy])
            for name in sorted(s.unwanted):
                elementwise.fill(s, self.params.grads[name], 0.0)
            self.backward_calls = s.take()
        self.wide = s.lasting(self.y.shape, s.acc_dtype)
        s.cast(self.y, self.wide)
        self.widen = s.take()
        if self.training:
            s.cast(self.wide, self.dy)
            self.narrow = s.take()

    def forward(self, x: Array) -> Array:
        """Return the output for a batch x; the next call will overwrite it."""
        self.x[...] = x
        self.clocks.set()
        self.play([*self.forward_calls, *self.widen])
        self.count()
        return self.wide

    def backward(self, dy: Array) -> None:
        """Write all gradients of the last forward into ``model.grads``."""
        self.wide[...] = dy
        self.play([*self.narrow, *self.backward_calls])

    def play(self, calls: Sequence[Call]) -> None:
        """Do some calls; want of memory in a layer's own methods gets that layer's name."""
        try:
            play(calls)
        except MemoryError as error:
            name_culprit(self.layers[0], self.pictures, error)
            raise

    def step(
        self, optimizer: Optimizer, loss: Any, x: Array, labels: Array, meter: Meter | None
    ) -> Array | None:
        """Do a whole step of training; return its loss, shape ().

        None, and nothing was done, if loss and optimizer aren't such as can be written down.
        """
        if not may_be_one(optimizer, loss):
            return None
        check_labels(labels, *self.y.shape)
        optimizer.prepare(self.params)
        if self.last is None or not self.last.fits(optimizer, loss, labels, self.params):
            self.last = None  # its memory first
            self.last = Step(self, optimizer, loss, labels)
        return self.last.run(self, optimizer, x, labels, meter)

    def count(self) -> None:
        """Note that numbers were drawn."""
        for _, stream in self.script.streams:
            stream.position += 1

    def fits(self, model: Sequential) -> bool:
        """Whether the model is still what this was made for."""
        return self.fingerprint.fits(model) and all(
            layer.stream is stream for layer, stream in self.script.streams
        )

    @property
    def memories(self) -> list[Memory]:
        """Where the buffers are from."""
        return [self.script.memory]

    @property
    def buffers(self) -> dict[int, int]:
        """The bytes of all its memory, by where it lies; some may be other plans' as well."""
        found = {place: block.nbytes for place, block in self.script.memory.blocks.items()}
        for array in self.script.lasts:
            found[address(array)] = array.nbytes
        return found

    @property
    def nbytes(self) -> int:
        """The memory of all buffers."""
        return sum(self.buffers.values())
