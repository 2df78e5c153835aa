"""Training in one call: a generator of epochs."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from math import prod
from typing import Any

import numpy as np

from .data.batches import Augment, Batches, stratified_split
from .early_stopping import EarlyStopping
from .layers import BatchNorm, Sequential
from .losses import Loss
from .optim import Optimizer
from .options import whole
from .progress import check_show
from .run import Epoch, Run
from .streams import Stream
from .train import CROSS_ENTROPY, check_pictures, check_use, evaluate, train_step


def fit(
    model: Sequential,
    x: np.ndarray,
    y: np.ndarray,
    *,
    optimizer: Optimizer,
    epochs: int = 10,
    batch_size: int = 128,
    validation: float | tuple[np.ndarray, np.ndarray] | None = None,
    augment: Sequence[Augment] = (),
    loss: Loss = CROSS_ENTROPY,
    seed: int = 0,
    drop_last: bool = False,
    progress: str | bool = "auto",
    checkpoint: str | os.PathLike[str] | None = None,
    resume: bool | str = "auto",
    check_finite: bool = True,
    accumulate: int = 1,
    early_stopping: EarlyStopping | None = None,
) -> Iterator[Epoch]:
    """Train, and yield an `Epoch` after each: a generator.

        for epoch in mc.fit(model, x, y, optimizer=mc.Adam(1e-3), validation=0.1):
            print(epoch)

    The body of the loop is the callback; to stop early, ``break``.

    x: (N,) + model.input_shape, uint8 where the model begins with Normalize.  y: (N,) class ids.
    validation: a share of x to hold out, cut by class and by ``seed``, or a pair (x, y) of its
    own; it is never the test set.  augment: callables of `data.augment`, in order.  seed: of
    shuffling and augmentation; the same seed gives the same weights, bit for bit, on the same
    machine with the same number of threads.  progress: "auto" shows a bar on terminals only.

    checkpoint: a folder to keep the run in, see `Run`: it is saved after every epoch, and at Ctrl-C
    or SIGTERM, after the batch at work; then `Interrupted` ends the program unless it is caught.
    resume: go on with the run in that folder: "auto" if there is one, True there must be one, False
    there must be none.  Epochs that were done before aren't yielded again.  check_finite: stop
    with `NotFinite` when the loss isn't a number any more.

    accumulate: compute each batch in so many parts, which takes the memory of one; see
    `train_step`.

    early_stopping: end when the validation loss, or another figure, hasn't improved for some
    epochs (the last record says so: ``epoch.stopped``), and give the model its best weights at the
    end; see `EarlyStopping`.

    Raises ValueError for labels, shapes and sizes that don't fit, before anything is trained.
    """
    if y is None:
        raise TypeError("y None: expected labels, (N,) class ids")
    check_use(model, loss, optimizer if optimizer is not None else "none")
    check_pictures(model, x, y)
    whole(epochs, "epochs")
    whole(accumulate, "accumulate")
    check_show(progress)
    check_augment(augment)
    if not isinstance(checkpoint, str | os.PathLike | None):
        raise TypeError(f"checkpoint {checkpoint!r}: expected the path of a folder")
    streams = {use: Stream(seed, use) for use in ("validation", "shuffle", "augmentation")}
    rows: np.ndarray | None = None
    held: tuple[Any, Any, np.ndarray | None] | None = None
    if isinstance(validation, tuple | list):
        if len(validation) != 2 or any(getattr(v, "shape", None) is None for v in validation):
            raise ValueError("validation: expected a share, or a pair of arrays (x, y)")
        x_held, y_held = validation
        check_pictures(model, x_held, y_held)
        held = (x_held, y_held, None)
    elif validation is not None and validation != 0:
        rows, held_rows = stratified_split(y, validation, streams["validation"])
        held = (x, y, held_rows)
    check_early_stopping(early_stopping, held is not None)
    batches = Batches(
        model.device.asarray(x),
        model.device.asarray(y),
        batch_size,
        indices=rows,
        stream=streams["shuffle"],
        augment=augment,
        augment_stream=streams["augmentation"],
        drop_last=drop_last,
    )
    check_sizes(model, batches, accumulate)

    run = Run(
        model,
        optimizer,
        batches,
        folder=checkpoint,
        resume=resume,
        progress=progress,
        check_finite=check_finite,
        early_stopping=early_stopping,
    )

    def epochs_of() -> Iterator[Epoch]:
        with run:
            while run.epoch < epochs and not run.stopped:
                for x_batch, labels in run.rest_of_epoch():
                    train_step(
                        model, optimizer, x_batch, labels, loss, run.meter, check_finite, accumulate
                    )
                if held is None:
                    yield run.end_epoch()
                else:
                    x_held, y_held, held_rows = held
                    yield run.end_epoch(
                        evaluate(model, x_held, y_held, loss=loss, indices=held_rows)
                    )

            if early_stopping is not None and early_stopping.kept is not None:
                early_stopping.restore_best(model)

    return epochs_of()


def check_augment(augment: Any) -> None:
    """Raise TypeError unless this is a list of callables."""
    if not isinstance(augment, tuple | list) or not all(
        callable(vary) and not isinstance(vary, type) for vary in augment
    ):
        raise TypeError(f"augment {augment!r}: expected a list such as [RandomFlip()]")


def check_early_stopping(stopping: Any, validated: bool) -> None:
    """Raise an error unless this is None, or an `EarlyStopping` whose figure there will be."""
    if stopping is None:
        return
    if not isinstance(stopping, EarlyStopping):
        raise TypeError(f"early_stopping {stopping!r}: expected one such as EarlyStopping()")
    if stopping.monitor.startswith("val_") and not validated:
        raise ValueError(
            f"early_stopping watches {stopping.monitor}, but nothing is held out: give validation "
            "(0.1, for example), or monitor='loss'"
        )


def check_sizes(model: Sequential, batches: Batches, accumulate: int) -> None:
    """Raise ValueError if a batch, or a part of one, would be too small."""
    count, size = batches.examples, batches.batch_size
    smallest = count % size or size
    cut = f"{count} pictures in batches of {size} leave"
    if smallest < accumulate:
        raise ValueError(
            f"{cut} a batch of {smallest}, which can't be cut into {accumulate} parts: set "
            "drop_last=True, or a smaller accumulate"
        )
    if smallest // accumulate == 1 and needs_two(model):
        part = "a batch of one" if accumulate == 1 else f"a part of one ({accumulate} a batch)"
        raise ValueError(
            f"{cut} {part}, whose variance BatchNorm can't take: set drop_last=True, or a larger "
            "batch_size"
        )


def needs_two(model: Sequential) -> bool:
    """Whether some BatchNorm gets one value a picture and channel: one picture is too few."""
    layers = [layer for layer in model.walk() if isinstance(layer, BatchNorm) and layer.trainable]
    return any(prod(layer.input_shape[:-1]) == 1 for layer in layers)
