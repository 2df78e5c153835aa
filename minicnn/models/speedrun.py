"""speedrun94, the network of the fastest known ways to 94 % on CIFAR-10, and its first layer."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ..backend import Array, to_numpy
from ..functional.windows import im2col, pair, parts
from ..layers import (
    GELU,
    BatchNorm,
    Conv2D,
    Dense,
    Flatten,
    Layer,
    MaxPool2D,
    Normalize,
    Scale,
    Sequential,
)
from ..layers.norm import CIFAR10_MEAN, CIFAR10_STD
from ..options import number, whole

LEAST = 100
"""Fewer pictures say too little about patches."""


def speedrun94(classes: int = 10, widths: Sequence[int] = (64, 256, 256)) -> Sequential:
    """Return airbench94's network: 1,971,640 parameters, 118,147,360 multiply-adds.

        pictures (32, 32, 3) -> conv 2x2, 24: whitening, see `whiten` -> GELU        (31, 31, 24)
          -> group 64 -> group 256 -> group 256                        (15, 15) -> (7, 7) -> (3, 3)
          -> max-pool 3 -> dense without bias -> times 1/9 -> logits
        group: conv 3x3 -> max-pool 2 -> norm -> GELU -> conv 3x3 -> norm -> GELU

    Convolutions have no bias and begin as identities ("dirac"); BatchNorm has no gamma and follows
    its batches fast.  The dense layer begins uniform of variance 1 / in; there, in PyTorch, it is a
    third of that.  widths: of the three groups; narrower ones train on a CPU.

    K. Jordan, "94% on CIFAR-10 in 3.29 seconds on a single GPU", 2024 (airbench94), after T. Page's
    hlb-CIFAR10.  There 94.01 % (mean of 1,000 runs, with six views of each picture at test time)
    after 9.9 epochs: recipe ``speedrun94``, Nesterov SGD in batches of 1,024, the learning rate
    from 0.2 up to 1 and down to 0.07, BatchNorm's betas at 64 times that, label smoothing 0.2,
    alternating flip and shifts by up to 2 pixels, look-ahead.
    """
    given = widths if isinstance(widths, tuple | list | str) else [widths]
    widths = [whole(width, "speedrun94: widths") for width in given]
    if len(widths) != 3:
        raise ValueError(f"speedrun94: widths {widths}: expected three, one for each group")
    return Sequential(
        Normalize(CIFAR10_MEAN, CIFAR10_STD),
        Conv2D(24, 2, name="whiten", trainable=("b",)),
        GELU(),
        *group(widths[0]),
        *group(widths[1]),
        *group(widths[2]),
        MaxPool2D(3),
        Flatten(),
        Dense(classes, use_bias=False, kernel_initializer="lecun_uniform"),
        Scale(1 / 9),
    )


def group(filters: int) -> list[Layer]:
    """Return two convolutions, with a pooling behind the first."""

    def convolution() -> Conv2D:
        return Conv2D(filters, 3, padding="same", use_bias=False, kernel_initializer="dirac")

    def norm() -> BatchNorm:
        return BatchNorm(momentum=0.6, eps=1e-12, scale=False)

    first = [convolution(), MaxPool2D(2), norm(), GELU()]
    return [*first, convolution(), norm(), GELU()]


def whiten(model: Sequential, x: Array, pictures: int = 5000, eps: float = 5e-4) -> None:
    """Set the convolution called "whiten" to filters whose outputs are uncorrelated.

        S = mean of p p^T over all patches p of the pictures     S v = lambda v
        w = v / sqrt(lambda + eps), for every eigenvector v, the largest lambda first, and then -w

    On such patches each filter gives a variance near 1 (about zero, as `Normalize` left them), so
    that training begins with a well-conditioned problem (Jordan 2024, section 3.2; Page 2018).

    model: built, with the layer among its own; it has a filter and its negative for each number of
    a patch.  x: training pictures as the model takes them, of which the first ``pictures`` are
    looked at.  Raises ValueError for a model without such a layer and for fewer than 100 pictures.
    """
    model.check_built()
    pictures, eps = whole(pictures, "pictures", least=LEAST), number(eps, "eps", above=0)
    named = dict(model.children())
    layer = named.get("whiten")
    if not isinstance(layer, Conv2D):
        raise ValueError(
            'whiten: expected a model with a Conv2D(..., name="whiten"), such as speedrun94(); '
            f"this one has {', '.join(named)}"
        )
    KH, KW, C, O = layer.w.shape
    K = KH * KW * C
    if O != 2 * K or pair(layer.strides) != (1, 1) or layer.groups != 1:
        raise ValueError(
            f"whiten: {layer} gets patches of {K} numbers: expected {2 * K} filters, by steps of 1"
        )
    if len(x) < LEAST:
        raise ValueError(f"whiten: {len(x)} pictures: expected at least {LEAST}, better 5,000")
    total, count = np.zeros((K, K)), 0
    OH, OW, _ = layer.output_shape
    for part in parts(min(len(x), pictures), 8 * OH * OW * K):
        batch = model.check_input(model.device.asarray(x[part]))
        for before in model.layers[: model.layers.index(layer)]:
            batch = before.infer(batch)
        patches = im2col(to_numpy(batch).astype("float64"), (KH, KW)).reshape(-1, K)
        total += patches.T @ patches
        count += len(patches)
    sizes, vectors = np.linalg.eigh(total / count)  # ascending; a vector is a column
    w = (vectors / np.sqrt(np.maximum(sizes, 0) + eps))[:, ::-1].reshape(KH, KW, C, K)
    layer.w[...] = model.device.asarray(np.concatenate([w, -w], axis=-1), model.dtype)
