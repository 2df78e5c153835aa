"""Training: one step, a run of epochs, and what a trained model is for."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from math import prod
from typing import Any

import numpy as np

from .backend import Array, to_numpy
from .data.batches import Augment, Batches, stratified_split
from .functional.activation import softmax_forward
from .functional.loss import penalty_backward, penalty_forward
from .functional.windows import is_whole
from .layers import BatchNorm, Normalize, Sequential, Softmax
from .losses import CrossEntropy, Loss, check_labels
from .metrics import Meter
from .optim import Optimizer
from .progress import check_show, progress_bar
from .schedule import ReduceOnPlateau
from .streams import Stream

CROSS_ENTROPY = CrossEntropy()


def backpropagate(
    model: Sequential, x: Array, labels: Array, loss: Loss = CROSS_ENTROPY
) -> tuple[Array, Array]:
    """Run a batch forward and back: afterwards ``model.grads`` are the gradients of the loss.

    x: (N,) + model.input_shape.  labels: (N,) class ids, or (N, K) target distributions.
    Returns the loss, shape (), penalties included, and the logits, (N, K).
    """
    logits = model.forward(x, training=True)
    value, dlogits = loss(logits, labels)
    model.backward_params(dlogits)
    for name, penalty in model.params.penalized:
        extra, cache = penalty_forward(model.params[name], penalty.l1, penalty.l2)
        value = value + extra
        model.grads[name][...] += penalty_backward(model.device.xp.ones_like(extra), cache)
    return value, logits


def train_step(
    model: Sequential,
    optimizer: Optimizer,
    x: Array,
    labels: Array,
    loss: Loss = CROSS_ENTROPY,
    meter: Meter | None = None,
) -> Array:
    """Learn from one batch; return its loss, an array of shape () on the model's device.

    x: (N,) + model.input_shape.  labels: (N,) class ids, or (N, K) target distributions.
    meter: takes note of loss and accuracy.  Nothing here waits for a GPU: reading the loss does.
    """
    model.check_built()
    x, labels = model.device.asarray(x), model.device.asarray(labels)
    value, logits = backpropagate(model, x, labels, loss)
    optimizer.step(model.params)
    if meter is not None:
        meter.add(value, logits, labels)
    return value


@dataclass(frozen=True)
class Epoch:
    """What `fit` yields: one epoch's record.  Validation figures are None without validation.

    epoch: 1 for the first.  loss, accuracy: means over the epoch, while the weights changed.
    lr: of the last step.  seconds: of the training part; images_per_second likewise.
    """

    epoch: int
    loss: float
    accuracy: float
    val_loss: float | None
    val_accuracy: float | None
    lr: float
    seconds: float
    images_per_second: float

    def __str__(self) -> str:
        val = ""
        if self.val_loss is not None and self.val_accuracy is not None:
            val = f"  val_loss {self.val_loss:.4f}  val_accuracy {self.val_accuracy:.4f}"
        return (
            f"epoch {self.epoch:3d}  loss {self.loss:.4f}  accuracy {self.accuracy:.4f}{val}"
            f"  lr {self.lr:.3g}  {self.seconds:.1f} s  {self.images_per_second:,.0f} images/s"
        )

    def as_dict(self) -> dict[str, Any]:
        """Return the record as a dictionary, for JSON."""
        return asdict(self)


def train_epoch(
    model: Sequential,
    optimizer: Optimizer,
    batches: Batches,
    loss: Loss = CROSS_ENTROPY,
    *,
    epoch: int = 1,
    progress: str | bool = "auto",
) -> Epoch:
    """Train once over ``batches`` and return the record, its validation figures still None."""
    meter, start, lr = Meter(), time.perf_counter(), optimizer.current_lr
    with progress_bar(batches.examples, f"epoch {epoch}", progress) as bar:
        for x, labels in batches:
            lr = optimizer.current_lr
            train_step(model, optimizer, x, labels, loss, meter)
            bar.advance(len(x), meter)
    model.device.synchronize()
    seconds = time.perf_counter() - start
    rate = meter.examples / seconds
    return Epoch(epoch, meter.loss, meter.accuracy, None, None, lr, seconds, rate)


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

    Raises ValueError for labels, shapes and sizes that don't fit, before anything is trained.
    """
    check_pictures(model, x, y)
    if not is_whole(epochs) or epochs < 1:
        raise ValueError(f"epochs {epochs!r}: expected an integer >= 1")
    check_show(progress)
    streams = {use: Stream(seed, use) for use in ("validation", "shuffle", "augmentation")}
    rows: np.ndarray | None = None
    held: tuple[Any, Any, np.ndarray | None] | None = None
    if isinstance(validation, tuple):
        check_pictures(model, *validation)
        held = (*validation, None)
    elif validation:
        rows, held_rows = stratified_split(y, validation, streams["validation"])
        held = (x, y, held_rows)
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
    if 1 in (batch_size, batches.examples % batch_size) and needs_two(model):
        raise ValueError(
            f"{batches.examples} pictures in batches of {batch_size} leave a batch of one, whose "
            "variance BatchNorm can't take: set drop_last=True, or a larger batch_size"
        )

    def run() -> Iterator[Epoch]:
        for number in range(1, epochs + 1):
            record = train_epoch(model, optimizer, batches, loss, epoch=number, progress=progress)
            if held is not None:
                x_held, y_held, held_rows = held
                scores = evaluate(model, x_held, y_held, loss=loss, indices=held_rows)
                record = replace(record, val_loss=scores["loss"], val_accuracy=scores["accuracy"])
            if isinstance(optimizer.lr, ReduceOnPlateau):
                optimizer.lr.observe(record.loss if record.val_loss is None else record.val_loss)
            yield record

    return run()


def evaluate(
    model: Sequential,
    x: np.ndarray,
    y: np.ndarray,
    batch_size: int = 256,
    loss: Loss = CROSS_ENTROPY,
    indices: np.ndarray | None = None,
) -> dict[str, float]:
    """Return {"loss", "accuracy"} of the model on pictures x, (N,) + input_shape, labels y, (N,).

    indices: the rows to take, all if None.  The loss includes the model's penalties, as in
    training.  Nothing is kept for a backward pass.
    """
    check_pictures(model, x, y)
    meter = Meter()
    for x_part, y_part in Batches(x, y, batch_size, indices=indices):
        labels = model.device.asarray(y_part)
        logits = model.infer(model.device.asarray(x_part))
        meter.add(loss(logits, labels)[0], logits, labels)
    penalties = sum(
        float(penalty_forward(model.params[name], penalty.l1, penalty.l2)[0])
        for name, penalty in model.params.penalized
    )
    return {"loss": meter.loss + penalties, "accuracy": meter.accuracy}


def predict(model: Sequential, x: np.ndarray, batch_size: int = 256) -> np.ndarray:
    """Return the probabilities of the classes: (N, K), a NumPy array in the model's dtype.

    x: (N,) + model.input_shape.  It is taken in batches, whatever its length.
    """
    check_pictures(model, x)
    parts = []
    for start in range(0, len(x), batch_size):
        y = model.infer(model.device.asarray(x[start : start + batch_size]))
        parts.append(to_numpy(y if isinstance(model[-1], Softmax) else softmax_forward(y)[0]))
    return np.concatenate(parts)


def check_pictures(model: Sequential, x: Any, y: Any = None) -> None:
    """Raise an error that says what is wrong with pictures x or labels y for this model."""
    model.check_built()
    model.check_shape(x)
    if isinstance(model[0], Normalize) and x.dtype != np.uint8:
        raise TypeError(
            f"the model prepares its pictures itself and expects uint8, 0 to 255; got {x.dtype}. "
            "Floats from 0 to 1 become such by (x * 255).round().astype('uint8')"
        )
    if y is None:
        return
    if len(model.output_shape) != 1 or isinstance(model[-1], Softmax):
        raise ValueError(
            f"the model ends in {model[-1]} with outputs of shape {model.output_shape}, but the "
            "loss wants logits, (N, classes): end it with Dense(classes), and leave Softmax out"
        )
    check_labels(to_numpy(y), len(x), *model.output_shape)


def needs_two(model: Sequential) -> bool:
    """Whether some BatchNorm gets one value a picture and channel: one picture is too few."""
    layers = [layer for layer in model.walk() if isinstance(layer, BatchNorm)]
    return any(prod(layer.input_shape[:-1]) == 1 for layer in layers)
