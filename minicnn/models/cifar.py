"""The deeper of the small networks of Keras' examples."""

from __future__ import annotations

from ..layers import Conv2D, Dense, Dropout, Flatten, Layer, MaxPool2D, ReLU, Sequential
from .blocks import prepare


def cifar_cnn(classes: int = 10) -> Sequential:
    """Return the deeper network of Keras' examples: 1,250,858 parameters, 20,741,120 multiply-adds.

        pictures (32, 32, 3) -> pair 32 -> pair 64 -> dense 512 -> ReLU -> dropout 0.5
          -> dense -> logits
        pair: conv 3x3 "same" -> ReLU -> conv 3x3 -> ReLU -> max-pool 2 -> dropout 0.25

    keras-team/keras, examples/cifar10_cnn.py (until 2020); weights and biases start as there.  Its
    docstring: 75 % after 25 epochs and 79 % after 50, of RMSprop(1e-4) in batches of 32, pictures
    shifted by up to a tenth and mirrored.  Recipe ``cifar_cnn``.
    """
    return Sequential(
        prepare(),
        *pair(32),
        *pair(64),
        Flatten(),
        Dense(512),
        ReLU(),
        Dropout(0.5),
        Dense(classes),
    )


def pair(filters: int) -> list[Layer]:
    """Return two convolutions, pooling and dropout."""
    first = [Conv2D(filters, 3, padding="same"), ReLU()]
    return [*first, Conv2D(filters, 3), ReLU(), MaxPool2D(2), Dropout(0.25)]
