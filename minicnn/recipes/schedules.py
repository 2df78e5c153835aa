"""The schedules of a recipe: times in shares of the run, or in epochs.

A share (``warmup = 0.1``) is stretched with the run when it gets another number of epochs; what
ends in ``_epochs`` (``warmup_epochs = 5``) isn't, and in a shorter run may never come.  Everything
else is as in ``schedule.py``.
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise

from .. import schedule
from ..options import number
from ..schedule import Schedule


def constant(steps: int, epochs: int, lr: float) -> Schedule:
    """Keep ``lr``."""
    return schedule.constant(lr)


def step_decay(
    steps: int,
    epochs: int,
    lr: float,
    every: float = 0.0,
    every_epochs: float = 0.0,
    factor: float = 0.1,
) -> Schedule:
    """Multiply by ``factor`` after every such time."""
    share = one_of("every", every, every_epochs, epochs)
    if not share or every > 1:
        raise ValueError(f"every {every:g}: expected a share of the run, 0 to 1, or every_epochs")
    return schedule.step_decay(lr, max(round(share * steps), 1), factor)


def milestones(
    steps: int,
    epochs: int,
    lr: float,
    at: tuple[float, ...] = (),
    at_epochs: tuple[float, ...] = (),
    factor: float = 0.1,
) -> Schedule:
    """Multiply by ``factor`` at each of these times."""
    if bool(at) == bool(at_epochs):
        raise ValueError("expected either at, shares of the run such as [0.5, 0.75], or at_epochs")
    shares = [number(share, "at", above=0, below=1) for share in at]
    shares += [number(time, "at_epochs", above=0) / epochs for time in at_epochs]
    if any(a >= b for a, b in pairwise(shares)):
        raise ValueError(f"at {[*at, *at_epochs]}: expected rising times")
    places = [0]
    for share in shares:  # in a short run two may be at one step: one after the other, then
        places.append(max(round(share * steps), places[-1] + 1))
    return schedule.milestones(lr, places[1:], factor)


def cosine(
    steps: int,
    epochs: int,
    lr: float,
    warmup: float = 0.0,
    warmup_epochs: float = 0.0,
    final: float = 0.0,
) -> Schedule:
    """Rise in a line, then fall to ``final`` along half a cosine."""
    share = one_of("warmup", warmup, warmup_epochs, epochs)
    if share >= 1:
        raise ValueError(f"a warm-up of {share:g} of the run: expected less than all of it")
    return schedule.cosine(lr, steps, min(round(share * steps), steps - 1), final)


def one_cycle(
    steps: int,
    epochs: int,
    lr: float,
    rise: float = 0.3,
    start: float = 25.0,
    final: float = 1e4,
) -> Schedule:
    """Rise from lr / start to ``lr``, fall to lr / start / final; ``rise`` is a share."""
    return schedule.one_cycle(lr, steps, rise, start, final)


def triangle(
    steps: int,
    epochs: int,
    lr: float,
    rise: float = 0.23,
    start: float = 0.2,
    final: float = 0.07,
) -> Schedule:
    """Rise from start * lr to ``lr``, fall to final * lr, in lines; ``rise`` is a share."""
    return schedule.triangle(lr, steps, rise, start, final)


def one_of(name: str, share: float, by_epochs: float, epochs: int) -> float:
    """Return a time as a share of the run; raise ValueError if it is given in both ways."""
    share, by_epochs = number(share, name, least=0), number(by_epochs, f"{name}_epochs", least=0)
    if share and by_epochs:
        raise ValueError(f"{name} and {name}_epochs: expected one of the two")
    return share or by_epochs / epochs


SCHEDULES: dict[str, Callable[..., Schedule]] = {
    f.__name__: f for f in (constant, step_decay, milestones, cosine, one_cycle, triangle)
}
