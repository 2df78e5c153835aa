"""The network of the CIFAR-10 tutorials."""

from __future__ import annotations

from ..layers import Conv2D, Dense, Flatten, MaxPool2D, Normalize, ReLU, Sequential
from ..layers.norm import CIFAR10_MEAN, CIFAR10_STD


def tutorial_cnn(classes: int = 10) -> Sequential:
    """Return the tutorials' small network: 122,570 parameters, 4,548,608 multiply-adds.

        pictures (32, 32, 3) -> conv 32 -> pool -> conv 64 -> pool -> conv 64 -> dense 64 -> logits

    3x3 windows without padding, ReLU after each; weights and biases start as in Keras.  It is that
    of TensorFlow's tutorial "Convolutional neural network", which promises over 70 %; here about
    70 % after ten epochs of Adam(1e-3) in batches of 128 (README).  Recipe ``tutorial``.
    """
    return Sequential(
        Normalize(CIFAR10_MEAN, CIFAR10_STD),
        Conv2D(32, 3),
        ReLU(),
        MaxPool2D(2),
        Conv2D(64, 3),
        ReLU(),
        MaxPool2D(2),
        Conv2D(64, 3),
        ReLU(),
        Flatten(),
        Dense(64),
        ReLU(),
        Dense(classes),
    )
