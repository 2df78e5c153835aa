"""One step of training, and what a trained model is for."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from .backend import Array, to_numpy
from .data.batches import Batches
from .diagnosis import check_loss
from .functional.activation import softmax_forward
from .functional.loss import penalty_backward, penalty_forward
from .functional.windows import is_whole
from .layers import Normalize, Sequential, Softmax
from .losses import CrossEntropy, Loss, check_labels
from .metrics import Meter
from .optim import Optimizer

CROSS_ENTROPY = CrossEntropy()


def backpropagate(
    model: Sequential,
    x: Array,
    labels: Array,
    loss: Loss = CROSS_ENTROPY,
    check: Callable[[Array], None] | None = None,
) -> tuple[Array, Array]:
    """Run a batch forward and back: afterwards ``model.grads`` are the gradients of the loss.

    x: (N,) + model.input_shape.  labels: (N,) class ids, or (N, K) target distributions.
    check: called with the loss before going back; it may raise.
    Returns the loss, shape (), penalties included, and the logits, (N, K).
    """
    logits = model.forward(x, training=True)
    value, dlogits = loss(logits, labels)
    if check is not None:
        check(value)
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
    check_finite: bool = True,
) -> Array:
    """Learn from one batch; return its loss, an array of shape () on the model's device.

    x: (N,) + model.input_shape.  labels: (N,) class ids, or (N, K) target distributions.
    meter: takes note of loss and accuracy.  check_finite: raise `NotFinite`, and leave the weights
    as they are, when the loss isn't a finite number; on a GPU that is left to `Run`, which asks
    now and then.  Nothing here waits for a GPU: reading the loss does.
    """
    model.check_built()
    check_prepared(model, x)
    x, labels = model.device.asarray(x), model.device.asarray(labels)

    def check(value: Array) -> None:
        check_loss(model, x, value, optimizer.current_lr, optimizer.steps)

    value, logits = backpropagate(model, x, labels, loss, check if check_finite else None)
    optimizer.step(model.params)
    if meter is not None:
        meter.add(value, logits, labels)
    return value


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
    if not is_whole(batch_size) or batch_size < 1:
        raise ValueError(f"batch_size {batch_size!r}: expected an integer >= 1")
    parts = []
    for start in range(0, len(x), batch_size):
        y = model.infer(model.device.asarray(x[start : start + batch_size]))
        parts.append(
            to_numpy(y if isinstance(model.last_leaf(), Softmax) else softmax_forward(y)[0])
        )
    return np.concatenate(parts)


def check_pictures(model: Sequential, x: Any, y: Any = None) -> None:
    """Raise an error that says what is wrong with pictures x or labels y for this model."""
    model.check_built()
    model.check_shape(x)
    check_prepared(model, x)
    if y is None:
        return
    if len(model.output_shape) != 1 or isinstance(model.last_leaf(), Softmax):
        raise ValueError(
            f"the model ends in {model.last_leaf()} with outputs of shape {model.output_shape}, but the "
            "loss wants logits, (N, classes): end it with Dense(classes), and leave Softmax out"
        )
    check_labels(to_numpy(y), len(x), *model.output_shape)


def check_prepared(model: Sequential, x: Any) -> None:
    """Raise TypeError if a model that prepares uint8 pictures itself is given others."""
    if isinstance(model.first_leaf(), Normalize) and getattr(x, "dtype", None) != np.uint8:
        raise TypeError(
            "the model prepares its pictures itself and expects uint8, 0 to 255; got "
            f"{getattr(x, 'dtype', type(x).__name__)}. Floats from 0 to 1 become such by "
            "(x * 255).round().astype('uint8')"
        )
