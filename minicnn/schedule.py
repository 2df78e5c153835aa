"""Learning-rate schedules: plain functions of the step, made by the functions here.

    lr = cosine(0.1, steps=3900, warmup=390)
    lr(0), lr(390), lr(3899)        ->  0.00026, 0.1, 0.00000002

The first step is number 0.  An optimizer takes one in the place of its learning rate.
`ReduceOnPlateau` is the exception: it also has to be told how training goes.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from math import cos, inf, pi
from typing import TypeAlias

from .options import number, whole

Schedule: TypeAlias = Callable[[int], float]


def constant(lr: float) -> Schedule:
    """Keep ``lr``."""
    lr = number(lr, "lr", least=0)
    return lambda step: lr


def step_decay(lr: float, every: int, factor: float = 0.1) -> Schedule:
    """Multiply by ``factor`` after ``every`` steps, and again."""
    lr, factor = number(lr, "lr", least=0), number(factor, "factor", above=0)
    every = whole(every, "every")
    return lambda step: lr * factor ** (step // every)


def exponential(lr: float, every: int, factor: float) -> Schedule:
    """Fall smoothly, by ``factor`` in ``every`` steps."""
    lr, factor = number(lr, "lr", least=0), number(factor, "factor", above=0)
    every = whole(every, "every")
    return lambda step: lr * factor ** (step / every)


def milestones(lr: float, at: Sequence[int], factor: float = 0.1) -> Schedule:
    """Multiply by ``factor`` at each of the steps ``at``, which rise."""
    lr, factor = number(lr, "lr", least=0), number(factor, "factor", above=0)
    places = [whole(step, "at") for step in at]
    if not places or any(a >= b for a, b in pairwise(places)):
        raise ValueError(f"at {list(at)!r}: expected rising numbers of steps")
    return lambda step: lr * factor ** bisect_right(places, step)


def cosine(lr: float, steps: int, warmup: int = 0, final: float = 0.0) -> Schedule:
    """Rise in a line for ``warmup`` steps, then fall to ``final`` along half a cosine.

    steps: of the whole run; afterwards it stays at ``final``.  (Loshchilov and Hutter 2017, eq.
    5, without restarts; warm-up: Goyal et al. 2017, section 2.2.)
    """
    lr, final = number(lr, "lr", least=0), number(final, "final", least=0)
    steps, warmup = whole(steps, "steps"), whole(warmup, "warmup", least=0)
    if warmup >= steps:
        raise ValueError(f"warmup {warmup}: expected 0 <= warmup < steps ({steps})")

    def schedule(step: int) -> float:
        if step < warmup:
            return lr * (step + 1) / warmup
        return descend(lr, final, (step - warmup) / (steps - warmup))

    return schedule


def triangle(
    peak: float, steps: int, rise: float = 0.23, start: float = 0.2, final: float = 0.07
) -> Schedule:
    """Rise in a line from start * peak to ``peak``, and fall in a line to final * peak.

    The top is at a share ``rise`` of the steps, the end at ``steps``; afterwards it stays there.
    (The defaults are those of K. Jordan's airbench94, 2024: "94 % on CIFAR-10 in 3.29 seconds".)
    """
    steps, peak = whole(steps, "steps"), number(peak, "peak", least=0)
    start, final = number(start, "start", least=0), number(final, "final", least=0)
    top = int(number(rise, "rise", above=0, below=1) * steps)

    def schedule(step: int) -> float:
        if step < top:
            return peak * (start + (1 - start) * step / top)
        return peak * (1 + (final - 1) * min((step - top) / (steps - top), 1.0))

    return schedule


def one_cycle(
    peak: float, steps: int, rise: float = 0.3, start: float = 25.0, final: float = 1e4
) -> Schedule:
    """Rise to ``peak`` and fall far below the start, both along half a cosine.

    From peak / start, over a share ``rise`` of the steps up to the peak, then down to
    peak / start / final at the last one (Smith and Topin 2018, in the form and with the defaults
    that PyTorch's OneCycleLR gave it).
    """
    steps, peak = whole(steps, "steps"), number(peak, "peak", least=0)
    start, final = number(start, "start", above=0), number(final, "final", above=0)
    rise = number(rise, "rise", above=0, below=1)
    top, last = rise * steps - 1, steps - 1

    def schedule(step: int) -> float:
        if step <= top:
            return descend(peak / start, peak, step / top if top > 0 else 1.0)
        return descend(peak, peak / start / final, (step - top) / (last - top))

    return schedule


def rise(value: float, steps: int, power: float = 3.0) -> Schedule:
    """Rise from 0 to ``value`` in ``steps`` steps like a power of their share, and stay there.

    For `Lookahead`'s decay rather than for a learning rate.
    """
    value, power = number(value, "value", least=0), number(power, "power", above=0)
    steps = whole(steps, "steps")
    return lambda step: value * min(step / steps, 1.0) ** power


def descend(begin: float, end: float, share: float) -> float:
    """Go from ``begin`` to ``end`` along half a cosine; ``share`` of the way, 1 at most."""
    return end + (begin - end) * (1 + cos(pi * min(share, 1.0))) / 2


@dataclass
class ReduceOnPlateau:
    """Multiply by ``factor`` when a loss hasn't improved for more than ``patience`` reports.

    Call ``observe(loss)`` once an epoch; `fit` does it with the validation loss, or with the
    training loss where nothing is held out.  An improvement is a fall by a share ``threshold``.
    """

    lr: float
    factor: float = 0.1
    patience: int = 10
    threshold: float = 1e-4
    minimum: float = 0.0
    best: float = field(default=inf, init=False)
    waited: int = field(default=0, init=False)

    def __post_init__(self) -> None:
        self.lr = number(self.lr, "lr", above=0)
        number(self.factor, "factor", above=0, below=1)
        whole(self.patience, "patience", least=0)
        number(self.threshold, "threshold", least=0)
        number(self.minimum, "minimum", least=0)

    def __call__(self, step: int) -> float:
        return self.lr

    def observe(self, loss: float) -> None:
        """Take note of a loss, and lower ``lr`` if it has stood still for too long."""
        if loss < self.best * (1 - self.threshold) or self.best == inf:
            self.best, self.waited = loss, 0
            return
        self.waited += 1
        if self.waited > self.patience:
            self.lr, self.waited = max(self.lr * self.factor, self.minimum), 0
