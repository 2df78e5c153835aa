"""One step of training, and what a trained model is for."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import numpy as np

from . import plan as planned
from .backend import Array, to_numpy
from .data.batches import Batches
from .diagnosis import check_loss
from .evaluation import Evaluation
from .functional.activation import softmax_forward
from .functional.loss import penalty_backward, penalty_forward
from .layers import Normalize, Sequential, Softmax
from .losses import CrossEntropy, Loss, MeanSquaredError, check_labels
from .metrics import Meter
from .optim import Optimizer
from .options import whole
from .views import check_views, infer_views

CROSS_ENTROPY = CrossEntropy()
KNOWN = CrossEntropy, MeanSquaredError


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
    with planned.step(model, x) as (logits, backward):
        value, dlogits = loss(logits, labels)
        charged = [
            (name, *penalty_forward(model.params[name], penalty.l1, penalty.l2))
            for name, penalty in model.params.penalized
        ]
        for _, extra, _ in charged:
            value = value + extra
        if check is not None:
            check(value)
        backward(dlogits)
    for name, extra, cache in charged:
        if name in model.params.frozen:
            continue
        model.grads[name][...] += penalty_backward(model.device.xp.ones_like(extra), cache)
    return value, logits


def backpropagate_in_parts(
    model: Sequential,
    x: Array,
    labels: Array,
    loss: Loss,
    parts: int,
    check: Callable[[Array, Array], None] | None = None,
) -> tuple[Array, Array]:
    """Do `backpropagate` part by part, with the memory that one part takes.

        loss = sum_p N_p/N loss_p      and its gradient likewise

    which is the loss of the whole batch where that is a mean over the pictures, as minicnn's are.
    The parts are as equal as can be.  check: called with each part and its loss.
    """
    N, grad = len(x), model.params.grad
    total: Any = 0.0
    value: Any = 0.0
    logits = []
    for k in range(parts):
        part = slice(N * k // parts, N * (k + 1) // parts)
        look = None if check is None else partial(check, x[part])
        mean, y = backpropagate(model, x[part], labels[part], loss, look)
        total = total + grad * (len(y) / N)
        value = value + mean * (len(y) / N)
        logits.append(y)
    grad[...] = total
    return value, model.device.xp.concatenate(logits)


def train_step(
    model: Sequential,
    optimizer: Optimizer,
    x: Array,
    labels: Array,
    loss: Loss = CROSS_ENTROPY,
    meter: Meter | None = None,
    check_finite: bool = True,
    accumulate: int = 1,
) -> Array:
    """Learn from one batch; return its loss, an array of shape () on the model's device.

    x: (N,) + model.input_shape.  labels: (N,) class ids, or (N, K) target distributions.
    meter: takes note of loss and accuracy.  check_finite: raise `NotFinite`, and leave the weights
    as they are, when the loss isn't a finite number; on a GPU that is left to `Run`, which asks
    now and then.  Nothing here waits for a GPU: reading the loss does.

    accumulate: compute the batch in so many parts, one after the other, in the memory of one; then
    the optimizer takes one step by the gradient of the mean loss over all of them.  That is what
    the whole batch would give, but that BatchNorm takes the statistics of each part, and Dropout
    draws for each.  On a GPU such a step isn't one graph, and in float16 its loss isn't scaled.
    """
    check_use(model, loss, optimizer if optimizer is not None else "none")
    whole(accumulate, "accumulate")
    check_prepared(model, x)
    if model.device.kind == "gpu" and isinstance(labels, np.ndarray) and type(loss) in KNOWN:
        check_labels(labels, len(x), model.output_shape[-1])  # later it would take a wait
    try:
        x, labels = model.device.asarray(x), model.device.asarray(labels)
    except (ValueError, TypeError) as error:
        raise type(error)(f"x or labels can't be made an array: {error}") from error
    if accumulate > 1:
        check_parts(model, x, labels, accumulate)
    with planned.alone(model):  # another thread's step would change the gradients meanwhile
        if accumulate == 1:
            found = planned.whole_step(model, optimizer, x, labels, loss, meter)
            if found is not None:
                return found
        lr, steps = optimizer.current_lr, optimizer.steps
        check = partial(check_loss, model, lr=lr, steps=steps) if check_finite else None
        with whole_or_not_at_all(model):
            if accumulate == 1:
                look = None if check is None else partial(check, x)
                value, logits = backpropagate(model, x, labels, loss, look)
            else:
                value, logits = backpropagate_in_parts(model, x, labels, loss, accumulate, check)
        optimizer.step(model.params)
    if meter is not None:
        meter.add(value, logits, labels)
    return value


def check_parts(model: Sequential, x: Array, labels: Array, parts: int) -> None:
    """Raise ValueError unless a batch can be cut into so many parts."""
    model.check_shape(x)
    if labels.shape[:1] != x.shape[:1]:
        raise ValueError(f"{len(x)} pictures but labels of shape {labels.shape}")
    if len(x) < parts:
        raise ValueError(
            f"accumulate {parts}: a batch of {len(x)} can't be cut into so many parts; take fewer, "
            "or leave such a batch out (drop_last=True)"
        )


@contextmanager
def whole_or_not_at_all(model: Sequential) -> Iterator[None]:
    """Put back what a forward has moved if the block ends with an error: it wasn't a step.

    That is BatchNorm's running statistics, and Dropout's places in its streams; on the CPU only.
    """
    layers = planned.layers_of(model) if model.device.kind == "cpu" else []
    state = [(array, array.copy()) for layer in layers for array in layer.buffers.values()]
    places = [(layer.stream, layer.stream.position) for layer in layers if layer.stream is not None]
    try:
        yield
    except BaseException:
        for array, before in state:
            array[...] = before
        for stream, position in places:
            stream.position = position
        raise


def evaluate(
    model: Sequential,
    x: np.ndarray,
    y: np.ndarray,
    batch_size: int = 256,
    loss: Loss = CROSS_ENTROPY,
    indices: np.ndarray | None = None,
    tta: str | None = None,
) -> Evaluation:
    """Return how good the model is on pictures x, (N,) + input_shape, whose labels y are known.

        scores = evaluate(model, x, y)
        scores["loss"], scores["accuracy"], scores["top5"]
        print(scores)  # and precision, recall, confusion, calibration: see `Evaluation`

    y: (N,) class ids, or (N, K) target distributions; of these the likeliest class counts as the
    true one.  indices: the rows to take, all if None.  tta: see `predict`; the loss is that of the
    mean logits.  The loss includes the model's penalties, as in training.  Nothing is kept for a
    backward pass.  The logits, (N, K), are kept where the model is, for what may be asked of them.
    """
    check_use(model, loss)
    check_pictures(model, x, y)
    check_views(model, tta)
    meter, answers = Meter(), []
    batches = Batches(x, y, batch_size, indices=indices)
    try:
        for x_part, y_part in batches:
            labels = model.device.asarray(y_part)
            logits = infer_views(model, model.device.asarray(x_part), tta)
            meter.add(loss(logits, labels)[0], logits, labels)
            answers.append(logits)
    finally:
        planned.tidy(model)
    penalties = sum(
        float(penalty_forward(model.params[name], penalty.l1, penalty.l2)[0])
        for name, penalty in model.params.penalized
    )
    true = to_numpy(y)[... if batches.indices is None else batches.indices]
    true = true.argmax(axis=1) if true.ndim == 2 else true.astype("int64")  # a copy, either way
    return Evaluation(meter.loss + penalties, meter.accuracy, true, answers, model.classes)


def predict(
    model: Sequential, x: np.ndarray, batch_size: int = 256, tta: str | None = None
) -> np.ndarray:
    """Return the probabilities of the classes: (N, K), a NumPy array in the model's dtype.

    x: (N,) + model.input_shape.  It is taken in batches, whatever its length.
    tta: test-time augmentation, which averages the logits of several views of a picture.  "flip":
    it and its mirror image, twice the time.  "flip+shift": both of these, and both shifted by a
    pixel up and left, and down and right, which together weigh as much (Jordan, "94% on CIFAR-10 in
    3.29 seconds on a single GPU", 2024, section 3.5); six times the time.
    """
    check_pictures(model, x)
    whole(batch_size, "batch_size")
    check_views(model, tta)
    softmax = tta is not None or not isinstance(model.last_leaf(), Softmax)
    parts = []
    try:
        for start in range(0, len(x), batch_size):
            y = infer_views(model, model.device.asarray(x[start : start + batch_size]), tta)
            parts.append(to_numpy(softmax_forward(y)[0] if softmax else y))
    finally:
        planned.tidy(model)
    return np.concatenate(parts)


def check_pictures(model: Sequential, x: Any, y: Any = None) -> None:
    """Raise an error that says what is wrong with pictures x or labels y for this model."""
    check_use(model)
    model.check_shape(x)
    check_prepared(model, x)
    if y is None:
        return
    if len(model.output_shape) != 1 or isinstance(model.last_leaf(), Softmax):
        raise ValueError(
            f"the model ends in {model.last_leaf()}, with outputs of shape {model.output_shape}; "
            "the loss wants logits, (N, classes): end it with Dense(classes), and leave Softmax out"
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


def check_use(model: Any, loss: Any = CROSS_ENTROPY, optimizer: Any = None) -> None:
    """Raise TypeError unless these are a built model, a loss, and an optimizer if there is one."""
    if not isinstance(model, Sequential):
        raise TypeError(f"model {model!r}: expected a built Sequential")
    model.check_built()
    if not callable(loss) or isinstance(loss, type):
        raise TypeError(f"loss {loss!r}: expected one such as CrossEntropy()")
    if optimizer is not None and not isinstance(optimizer, Optimizer):
        raise TypeError(f"optimizer {optimizer!r}: expected one such as Adam(1e-3)")
