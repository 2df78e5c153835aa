"""Early stopping: end when nothing gets better, and go back to the best weights."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from math import inf
from typing import Any

import numpy as np

from .backend import Array, beside
from .checkpoint.model import put
from .layers import Sequential
from .options import number, whole

MONITORED = ("val_loss", "val_accuracy", "loss", "accuracy")


@dataclass(eq=False)
class EarlyStopping:
    """Say when ``monitor`` hasn't improved for ``patience`` epochs, and keep the best weights.

        for epoch in mc.fit(model, x, y, ..., early_stopping=mc.EarlyStopping(patience=5)):
            print(epoch)  # the last one says so: epoch.stopped

    `fit` gives the model the best epoch's weights and running statistics when it ends, whether by
    this or because all epochs are done; not when its loop is left by ``break``.  In a loop of your
    own:

        stopping = mc.EarlyStopping()
        while run.epoch < 100:
            ...
            if stopping.observe(run.end_epoch(mc.evaluate(model, x_val, y_val)), model):
                break
        stopping.restore_best(model)

    With a folder, give it to `Run` instead, which does the observing (``record.stopped`` then ends
    the loop): so a run that was stopped in between goes on with the same patience and weights.

    monitor: "val_loss", "val_accuracy", "loss" or "accuracy" of an `Epoch`.  min_delta: a smaller
    improvement doesn't make it wait anew, though its weights are the best.  restore: whether to
    keep weights, a copy of the model's.  A figure that is NaN is no improvement.  One object goes
    with one run.  (Prechelt, "Early stopping - but when?", 1998.)

    best, best_epoch: the best figure and its epoch; None and 0 before there is one.
    waited: epochs since the last improvement.
    """

    patience: int = 5
    monitor: str = "val_loss"
    restore: bool = True
    min_delta: float = 0.0
    best: float | None = field(default=None, init=False)
    best_epoch: int = field(default=0, init=False)
    waited: int = field(default=0, init=False)
    level: float = field(default=inf, init=False, repr=False)
    kept: tuple[Array, dict[str, Array]] | None = field(default=None, init=False, repr=False)

    def __post_init__(self) -> None:
        self.patience = whole(self.patience, "patience")
        self.min_delta = number(self.min_delta, "min_delta", least=0)
        if self.monitor not in MONITORED:
            raise ValueError(f"monitor {self.monitor!r}: expected one of {', '.join(MONITORED)}")

    @property
    def stopped(self) -> str:
        """Why it is time to stop; "" if it isn't."""
        if self.waited < self.patience:
            return ""
        if self.best is None:
            return f"{self.monitor} was never a number"
        return f"no better {self.monitor} than the {self.best:.4f} of epoch {self.best_epoch}"

    def observe(self, record: Any, model: Sequential | None = None) -> bool:
        """Take note of an epoch's record; return whether it is time to stop.

        model: whose weights to keep if they are the best so far.  Raises ValueError if the record
        lacks the figure.
        """
        if self.restore and model is None:
            raise TypeError("observe: expected the model too, whose weights to keep (restore=True)")
        if self.judge(record) and self.restore and model is not None:
            self.kept = numbers(model)
        return bool(self.stopped)

    def judge(self, record: Any) -> bool:
        """Take note of an epoch's record; return whether it is the best so far."""
        figure = getattr(record, self.monitor)
        if figure is None:
            raise ValueError(
                f"EarlyStopping watches {self.monitor}, but epoch {record.epoch} has none: hold "
                "pictures out (validation=0.1), or take monitor='loss'"
            )
        sign = -1 if self.monitor.endswith("accuracy") else 1
        cost, least = sign * figure, inf if self.best is None else sign * self.best
        better = cost < least
        if better:
            self.best, self.best_epoch = figure, record.epoch
        self.waited += 1
        if cost < self.level - self.min_delta:
            self.level, self.waited = cost, 0
        return better

    def restore_best(self, model: Sequential) -> None:
        """Give the model the weights and running statistics that it had after the best epoch.

        Raises ValueError if there are none, or they are another model's.
        """
        if self.kept is None:
            raise ValueError(
                f"no weights were kept: {self.stopped or 'no epoch was observed'}"
                if self.restore
                else "no weights were kept: EarlyStopping has restore=False"
            )
        data, state = self.kept
        if data.shape != model.params.data.shape or list(state) != list(model.state):
            raise ValueError("the weights that were kept are of another model")
        give(model, data, state)

    def take_up(
        self,
        records: Iterable[Any],
        model: Sequential,
        find: Callable[[int], Mapping[str, np.ndarray]] | None = None,
    ) -> None:
        """Be as after these records: none at a run's beginning.

        find: returns the arrays of the model after an epoch; the best one is asked for.
        """
        self.best, self.best_epoch, self.waited = None, 0, 0
        self.level, self.kept = inf, None
        for record in records:
            self.judge(record)
        if self.restore and self.best_epoch and find is not None:
            own, found = numbers(model), find(self.best_epoch)
            put(model, found)
            self.kept = numbers(model)
            give(model, *own)


def numbers(model: Sequential) -> tuple[Array, dict[str, Array]]:
    """Return copies of a model's parameters, flat, and of its running statistics, by name."""
    with beside(model.params.data):
        return model.params.data.copy(), {k: array.copy() for k, array in model.state.items()}


def give(model: Sequential, data: Array, state: Mapping[str, Array]) -> None:
    """Give a model such numbers."""
    with beside(model.params.data):
        model.params.data[...] = data
        for name, array in model.state.items():
            array[...] = state[name]
