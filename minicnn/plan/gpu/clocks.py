"""What changes from step to step, kept on the device: a replayed graph has to find it there."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np

from ...backend import Array
from ...kernels.cuda import update
from ...kernels.script import Call
from ...optim import Optimizer

if TYPE_CHECKING:
    from .launches import Launches

MOST = 64  # counters of one script
AHEAD = 256  # steps whose learning rates are told at once


class Clocks:
    """Counters on the device, which the script moves on as it begins.

    The host counts along (a stream's ``position``), and tells the device only where the two differ:
    at the beginning, after a checkpoint was loaded, ...
    """

    def __init__(self, counters: Array) -> None:
        self.device = counters  # (MOST,) int64
        self.counts: list[Callable[[], int]] = []
        self.known: list[int] = []

    def of(self, count: Callable[[], int]) -> Array:
        """Return a counter, int64 (1,), that shows in a step what ``count`` says before it."""
        number = len(self.counts)
        if number == MOST:
            raise ValueError(f"expected at most {MOST} layers with random numbers in a model")
        self.counts.append(count)
        return self.device[number : number + 1]

    def set(self) -> None:
        """Before the script runs, let the device count from where the host does."""
        before = [count() - 1 for count in self.counts]
        if before != self.known:
            self.device[: len(before)].set(np.array(before, np.int64))
        self.known = [value + 1 for value in before]

    def tick(self, s: Launches) -> list[Call]:
        """Return what moves all on by one: the first calls of a script."""
        if self.counts:
            update.count(s, self.device[: len(self.counts)])
        return s.take()


class Rates:
    """The number of a step, ``clock``, and its learning rate, ``rate``, on the device.

    clock: (1,) int64, 1 in the first step.  rate: (1,), of the type of sums.  The rates of the
    coming steps are told ahead, as far as that is possible.
    """

    def __init__(self, s: Launches) -> None:
        self.clock, self.rate = s.lasting((1,), "int64"), s.lasting((1,), s.acc_dtype)
        self.table, self.first = s.lasting((AHEAD,), s.acc_dtype), s.lasting((1,), "int64")
        self.told: list[float] = []
        self.start = 0
        self.steps: int | None = None

    def tick(self, s: Launches) -> list[Call]:
        """Return the beginning of a step: the clock goes on, and the rate is looked up."""
        update.tick(s, self.table, self.first, self.clock, self.rate)
        return s.take()

    def set(self, optimizer: Optimizer) -> None:
        """Before the script runs: tell what the device doesn't know yet."""
        if self.steps != optimizer.steps:
            self.clock.set(np.array([optimizer.steps], np.int64))
        self.steps = optimizer.steps + 1
        place = optimizer.steps - self.start
        if 0 <= place < len(self.told) and self.told[place] == optimizer.current_lr:
            return
        self.start, self.told = optimizer.steps, coming(optimizer)
        rates = np.array(self.told + self.told[-1:] * AHEAD, self.table.dtype)
        self.table.set(rates[:AHEAD])
        self.first.set(np.array([self.start], np.int64))


def coming(optimizer: Optimizer) -> list[float]:
    """Return the rates of this step and of those after it, as far as they can be told."""
    if not callable(optimizer.lr):
        return [float(optimizer.lr)] * AHEAD
    rates = [optimizer.current_lr]
    try:
        for step in range(optimizer.steps + 1, optimizer.steps + AHEAD):
            rates.append(float(optimizer.lr(step)))
    except Exception:
        return rates
    return rates
