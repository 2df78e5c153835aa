"""Lookahead: slow weights, which the fast ones come back to."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from .options import number, whole
from .schedule import Schedule


@dataclass(frozen=True)
class Lookahead:
    """Every so many steps, let slow weights follow the optimizer's, and go on from there.

        slow <- decay slow + (1 - decay) w,    w <- slow            (`update.lookahead_update`)

    (Zhang, Lucas, Hinton and Ba 2019, algorithm 1; their alpha is 1 - decay.)  every: steps.
    decay: a number from 0 to 1, or a function of the number of steps done.  One that rises, such as
    ``schedule.rise(0.95**5, steps)``, lets the weights run at first and calms them at the end
    (airbench94, Jordan 2024).  ``optimizer.use_averaged(model.params)`` afterwards takes the slow
    weights for good.
    """

    every: int = 5
    decay: float | Schedule = 0.95**5

    def __post_init__(self) -> None:
        whole(self.every, "Lookahead: every")
        if not callable(self.decay):
            self.decay_at(0)

    def decay_at(self, step: int) -> float:
        """Return the decay after so many steps."""
        decay = self.decay(step) if callable(self.decay) else self.decay
        if number(decay, "Lookahead: decay", least=0) > 1:
            raise ValueError(f"Lookahead: decay {decay!r}: expected a number from 0 to 1")
        return float(decay)

    def described(self) -> dict[str, Any]:
        """Return what JSON can hold of it; a function isn't."""
        return {
            "every": int(self.every),
            "decay": None if callable(self.decay) else float(self.decay),
        }
