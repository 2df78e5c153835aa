"""Step: a whole step of training on a GPU, and its graph."""

from __future__ import annotations

import weakref
from typing import TYPE_CHECKING, Any

from ...backend import Array
from ...kernels.cuda.graph import capture, graphs_allowed
from ...kernels.script import Call
from ...metrics import Meter
from ...optim import Optimizer
from ...params import Parameters
from .clocks import Rates
from .launches import Launches
from .loss import KNOWN as LOSSES
from .loss import Counted, write_loss, write_penalty_gradients
from .update import KNOWN as OPTIMIZERS
from .update import write_update

if TYPE_CHECKING:
    from .plan import DevicePlan

OFTEN = 2  # times that a step has run launch by launch when its graph is made


class Step:
    """Forward, loss, backward, update and counters, for one plan, loss and optimizer.

    Nothing in it depends on the host: x and labels are copied to where it reads them, the learning
    rate and all counters are on the device.  After some steps, which find out that all runs, it is
    captured as one CUDA graph.  A graph does what the launches did, in their order: the numbers
    are the same, bit for bit.
    """

    def __init__(self, plan: DevicePlan, optimizer: Optimizer, loss: Any, labels: Array) -> None:
        self.settings = settings_of(optimizer, loss, labels, plan.params)
        script = plan.script
        # Memory of its own: the plan's is given out again from call to call.
        s = Launches(plan.N, script.kind, plan.params, training=True, room=script.memory.room)
        self.labels = s.lasting(labels.shape, s.acc_dtype if labels.dtype.kind == "f" else "int64")
        self.counted = Counted(s)
        self.meter: weakref.ref[Meter] = weakref.ref(Meter())
        self.rates = Rates(s)
        self.scaling = scaling = plan.scaling
        upstream = None if scaling is None else scaling.scale
        before = self.rates.tick(s)
        write_loss(s, plan, self.labels, loss, self.counted, upstream)
        between = s.take()
        write_penalty_gradients(s, plan.params, upstream)
        write_update(s, optimizer, plan.params, self.rates, scaling)
        after = s.take()
        forward, backward = plan.forward_calls, plan.backward_calls
        self.calls: list[Call] = [*before, *forward, *between, *backward, *after]
        self.script, self.times = s, 0
        self.graph: Any = None

    def fits(self, optimizer: Optimizer, loss: Any, labels: Array, params: Parameters) -> bool:
        """Whether it was written for these."""
        return self.settings == settings_of(optimizer, loss, labels, params)

    def run(
        self,
        plan: DevicePlan,
        optimizer: Optimizer,
        x: Array,
        labels: Array,
        meter: Meter | None,
    ) -> Array:
        """Learn from a batch; return its loss, shape ()."""
        plan.x[...] = x
        self.labels[...] = labels
        self.attach(meter)
        if self.graph is None and self.times >= OFTEN and plan.script.whole and graphs_allowed():
            self.graph = capture(self.calls)
        try:
            plan.clocks.set()
            self.rates.set(optimizer)
            if self.graph is not None and graphs_allowed():
                self.graph.launch()
            else:
                plan.play(self.calls)
        except BaseException:  # nobody knows how far it came
            plan.clocks.known, self.rates.steps = [], None
            raise
        self.times += 1
        optimizer.steps += 1
        plan.count()
        optimizer.look_ahead(plan.params)  # beside the graph, now and then
        if meter is not None:
            meter.examples += plan.N
        return self.counted.value.copy()

    def attach(self, meter: Meter | None) -> None:
        """Let a meter's counters be those that the script moves on."""
        before, (loss_sum, correct) = self.meter(), self.counted.sums
        if meter is before and (meter is None or meter.loss_sum is loss_sum):
            return
        if before is not None and before.loss_sum is loss_sum:
            before.loss_sum, before.correct = loss_sum.copy(), correct.copy()
        if meter is not None:
            loss_sum[...], correct[...] = meter.loss_sum, meter.correct
            meter.loss_sum, meter.correct = loss_sum, correct
            self.meter = weakref.ref(meter)


def settings_of(
    optimizer: Optimizer, loss: Any, labels: Array, params: Parameters
) -> tuple[Any, ...]:
    """Return all that a step was written for, but for what it asks for in each step."""
    changing = {"lr", "steps", "memory", "owner", "lr_scale", "grouped", "lookahead"}
    options = tuple((k, v) for k, v in vars(optimizer).items() if k not in changing)
    memory = tuple(id(array) for array in optimizer.memory.values())
    groups = optimizer.groups(params)
    return (type(optimizer), options, memory, groups, loss, labels.shape, labels.dtype.kind)


def may_be_one(optimizer: Optimizer, loss: Any) -> bool:
    """Whether update and loss are such as can be written down."""
    return type(optimizer) in OPTIMIZERS and type(loss) in LOSSES
