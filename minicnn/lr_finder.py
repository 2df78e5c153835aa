"""A range test: at which learning rates a network learns."""

from __future__ import annotations

import copy
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from math import isfinite
from pathlib import Path
from typing import Any

import numpy as np

from . import plan as planned
from .backend import Array, beside
from .data.batches import Augment, Batches
from .diagnosis import unchanged
from .fitting import check_augment
from .layers import Sequential
from .losses import Loss
from .optim import Optimizer
from .options import number, whole
from .streams import Stream
from .train import CROSS_ENTROPY, check_pictures, check_use, train_step

DIVERGED = 4  # times the lowest loss: the test is over
BELOW = 10  # times lower than where the loss was lowest: the suggestion


@dataclass(frozen=True, eq=False)
class RangeTest:
    """What `find_lr` found: rates, losses, smoothed, (M,) each, one for every step that was taken.

    suggestion: a tenth of the rate at which the smoothed loss was lowest, where it still falls
    fast; None if it was lowest at once: then nothing was learned at any rate.
    """

    rates: np.ndarray
    losses: np.ndarray
    smoothed: np.ndarray
    highest: float

    @property
    def suggestion(self) -> float | None:
        """A learning rate to train with, or for a schedule to rise to."""
        lowest = int(self.smoothed.argmin())
        return float(self.rates[lowest]) / BELOW if lowest > 0 else None

    def __str__(self) -> str:
        lowest = int(self.smoothed.argmin())
        if lowest == 0:
            return f"the loss never fell, from {self.rates[0]:.3g} to {self.rates[-1]:.3g}"
        text = (
            f"suggested lr {self.suggestion:.3g}: a tenth of {self.rates[lowest]:.3g}, where the "
            f"smoothed loss was lowest, {self.smoothed[lowest]:.4f}"
        )
        if lowest == len(self.rates) - 1:
            text += f"; it still fell at the end, so try more than highest={self.highest:g}"
        return text

    def plot(self, path: str | os.PathLike[str]) -> Path:
        """Draw the losses over the rates into a .png, .svg or .pdf file; return it."""
        from . import plots

        figure = plots.range_test(self.rates, self.losses, self.smoothed, self.suggestion)
        return plots.save(figure, path)


def find_lr(
    model: Sequential,
    x: np.ndarray,
    y: np.ndarray,
    *,
    optimizer: Optimizer,
    lowest: float = 1e-6,
    highest: float = 10.0,
    steps: int = 200,
    batch_size: int = 128,
    augment: Sequence[Augment] = (),
    loss: Loss = CROSS_ENTROPY,
    seed: int = 0,
    smoothing: float = 0.95,
) -> RangeTest:
    """Train with a learning rate that grows from step to step, and see when the loss falls.

        rate_k = lowest (highest / lowest)^(k / (steps - 1))
        smoothed_k = (1 - s) sum_i s^(k - i) loss_i / (1 - s^(k + 1))      s: smoothing

    It ends early when the smoothed loss is four times its lowest, or no number.  Then the model,
    its random streams and the optimizer are as they were before, bit for bit, however this ends:
    the optimizer is only asked for its rule, and its own lr doesn't matter.

    x: (N,) + model.input_shape.  y: (N,) class ids.  augment, loss: as in `fit`.  seed: of the
    order.  Raises ValueError for arguments that don't fit.

    Smith, "Cyclical learning rates for training neural networks", 2017, section 3.3; the growth by
    factors and the smoothing are those of Howard's fastai.
    """
    check_use(model, loss, optimizer if optimizer is not None else "none")
    check_pictures(model, x, y)
    check_augment(augment)
    lowest = number(lowest, "lowest", above=0)
    highest = number(highest, "highest", above=lowest)
    steps, smoothing = whole(steps, "steps", least=2), number(smoothing, "smoothing", 0, below=1)
    batches = Batches(
        model.device.asarray(x),
        model.device.asarray(y),
        min(whole(batch_size, "batch_size"), len(x)),
        stream=Stream(seed, "shuffle"),
        augment=augment,
        augment_stream=Stream(seed, "augmentation"),
        drop_last=True,
    )
    rates = np.geomspace(lowest, highest, steps)
    losses: list[float] = []
    means: list[float] = []
    average = 0.0
    with as_before(model):
        trial = trial_of(optimizer, rates)
        for x_batch, labels in endless(batches):
            value = float(train_step(model, trial, x_batch, labels, loss, check_finite=False))
            average = smoothing * average + (1 - smoothing) * value
            mean = average / (1 - smoothing ** (len(losses) + 1))
            if not isfinite(mean) or (means and mean > DIVERGED * min(means)):
                break
            losses.append(value)
            means.append(mean)
            if len(losses) == steps:
                break
    if not losses:
        raise ValueError(f"the loss is {value} at the very first step: look at the pictures")
    return RangeTest(rates[: len(losses)], np.array(losses), np.array(means), highest)


def trial_of(optimizer: Optimizer, rates: np.ndarray) -> Optimizer:
    """Return a copy of an optimizer, all that it remembers too, which takes these rates in turn."""
    first, trial = optimizer.steps, copy.copy(optimizer)
    trial.lr = lambda step: float(rates[min(step - first, len(rates) - 1)])
    return copy.deepcopy(trial)  # whose schedule isn't copied with it: it may be anything


def endless(batches: Batches) -> Iterator[tuple[Array, Array]]:
    """Yield batches, epoch after epoch."""
    while True:
        yield from batches


@contextmanager
def as_before(model: Sequential) -> Iterator[None]:
    """Keep other threads off a model, and give it back all its numbers afterwards."""
    params: Any = model.params
    with planned.alone(model), unchanged(model):
        with beside(params.data):
            own = params.data.copy(), params.grad.copy()
        try:
            yield
        finally:
            with beside(params.data):
                params.data[...], params.grad[...] = own
            planned.forget(model)  # on a GPU they remember how 16 bits were scaled
