"""One trial: a training by a recipe, judged after each epoch on pictures that were held out."""

from __future__ import annotations

from collections.abc import Callable, Generator
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..backend import Device
from ..data.batches import Batches, stratified_split
from ..fitting import check_sizes
from ..layers import Sequential
from ..recipes import Recipe
from ..run import Epoch, Run
from ..streams import Stream
from ..train import check_pictures, evaluate, train_step


class Unfit(ValueError):
    """A setting that can't be trained with these pictures; the text says why."""


@dataclass(frozen=True)
class Pictures:
    """The pictures to train with, and which of them are held out, the same for all trials.

    x: (N, H, W, C).  y: (N,) class ids.  classes: how many there are.  rows, held: their indices.
    """

    x: np.ndarray
    y: np.ndarray
    classes: int
    rows: np.ndarray
    held: np.ndarray

    @classmethod
    def divided(cls, x: np.ndarray, y: np.ndarray, validation: float, seed: int) -> Pictures:
        """Hold out a share of the pictures, each class in the same proportion, as `fit` does."""
        if getattr(x, "ndim", 0) != 4 or len(x) != len(y):
            raise ValueError("x and y: expected pictures (N, H, W, C), and as many labels")
        rows, held = stratified_split(y, validation, Stream(seed, "validation"))
        return cls(x, y, int(y.max()) + 1, rows, held)

    def fingerprint(self) -> str:
        """Return the SHA-256 of all pictures, and of which are trained with."""
        return Batches(self.x, self.y, 1, indices=self.rows).fingerprint()


def epochs_of(
    recipe: Recipe,
    pictures: Pictures,
    device: Device,
    seed: int,
    progress: str | bool = False,
    between: Callable[[], None] = lambda: None,
) -> Generator[Epoch, None, None]:
    """Train by a recipe and yield each epoch's record, with its validation figures.

    They are of the weights that the recipe wants tested: averaged ones, where it keeps an average.
    between: called after each batch; it may raise.  Raises `Unfit`, `NotFinite` and MemoryError.
    """
    try:
        model, batches = prepared(recipe, pictures, device, seed)
        optimizer, loss = recipe.optimizer(len(batches)), recipe.loss()
    except ValueError as error:
        raise Unfit(str(error)) from error
    with Run(model, optimizer, batches, progress=progress) as run:
        while run.epoch < recipe.epochs:
            recipe.freeze(model, run.epoch)
            for x, labels in run.rest_of_epoch():
                parts = recipe.accumulate
                train_step(model, optimizer, x, labels, loss, run.meter, accumulate=parts)
                between()
            with recipe.weights_to_test(model, optimizer):
                scores: Any = evaluate(model, pictures.x, pictures.y, indices=pictures.held)
            yield run.end_epoch(scores)


def prepared(
    recipe: Recipe, pictures: Pictures, device: Device, seed: int
) -> tuple[Sequential, Batches]:
    """Return the network, ready for its first step, and the batches to train it with."""
    x, y, rows = pictures.x, pictures.y, pictures.rows
    model = recipe.build_model(x.shape[1:], pictures.classes, seed=seed, device=device)
    check_pictures(model, x, y)
    if recipe.whiten:  # else the pictures needn't be copied
        recipe.prepare(model, x[rows])
    batches = Batches(
        device.asarray(x),
        device.asarray(y),
        recipe.batch_size,
        indices=rows,
        stream=Stream(seed, "shuffle"),
        augment=recipe.augment(),
        augment_stream=Stream(seed, "augmentation"),
        drop_last=recipe.drop_last,
    )
    check_sizes(model, batches, recipe.accumulate)
    return model, batches
