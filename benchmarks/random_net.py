"""Networks that nobody tuned for: random, but such as a person might compose them.

Widths from 8 to 128, windows of 1, 3 and 5, "same", "valid" and strided; convolution, activation
and pooling in the usual orders, with and without BatchNorm; Dropout between; a Residual or a
Concat here and there.  Fast code for the networks in the papers alone shows here.
"""

from __future__ import annotations

from random import Random

import minicnn as mc
from minicnn.layers.norm import CIFAR10_MEAN, CIFAR10_STD

WIDTHS = (8, 16, 24, 32, 48, 64, 96, 128)
SIZE = 32
LIGHTEST, HEAVIEST = 2_000_000, 80_000_000  # multiply-adds for a picture: seconds, not minutes


def random_network(seed: int) -> mc.Sequential:
    """Return the network of a seed, for pictures (32, 32, 3) of ten classes: the same each time."""
    rng = Random(seed)
    while True:
        network = Composer(rng).compose()
        work = network.build((SIZE, SIZE, 3)).summary().multiply_adds
        if LIGHTEST <= work <= HEAVIEST:
            return network


class Composer:
    """Adds layer after layer, and knows the size and the channels that it has come to."""

    def __init__(self, rng: Random) -> None:
        self.rng = rng
        self.layers: list[mc.Layer] = [mc.Normalize(CIFAR10_MEAN, CIFAR10_STD)]
        self.size, self.channels = SIZE, 3
        self.norm = rng.random() < 0.5
        self.leaky = rng.random() < 0.2

    def maybe(self, probability: float) -> bool:
        """Toss a coin."""
        return self.rng.random() < probability

    def compose(self) -> mc.Sequential:
        """Return a whole network: stages that shrink the picture, then a head."""
        first = self.rng.randrange(4)
        for stage in range(self.rng.randint(2, 4)):
            width = WIDTHS[min(first + self.rng.randint(1, 2) * stage, len(WIDTHS) - 1)]
            for _ in range(self.rng.randint(1, 2)):
                self.block(width)
            if self.size >= 6:
                self.shrink(width)
            if self.maybe(0.3):
                self.layers.append(mc.Dropout(0.25))
        self.head()
        return mc.Sequential(*self.layers)

    def activation(self) -> mc.Layer:
        """Return the network's activation."""
        return mc.LeakyReLU(0.1) if self.leaky else mc.ReLU()

    def conv(self, width: int, size: int, strides: int = 1, valid: bool = False) -> list[mc.Layer]:
        """Return a convolution, with BatchNorm in the networks that have it."""
        padding = "valid" if valid else "same" if strides == 1 else size // 2
        layers: list[mc.Layer] = [mc.Conv2D(width, size, strides, padding, use_bias=not self.norm)]
        return [*layers, mc.BatchNorm()] if self.norm else layers

    def window(self) -> int:
        """Return the size of a window: mostly 3."""
        return self.rng.choices((1, 3, 5), (1, 5, 1))[0]

    def block(self, width: int) -> None:
        """Add a convolution with activation, or now and then a Residual or a Concat."""
        if self.channels == width and self.maybe(0.4):
            body = [*self.conv(width, 3), self.activation(), *self.conv(width, 3)]
            self.layers += [mc.Residual(body), self.activation()]
        elif self.channels > 3 and self.maybe(0.15):
            branches = [[*self.conv(width // 2, size), self.activation()] for size in (1, 3)]
            self.layers.append(mc.Concat(branches))
            self.channels = width // 2 * 2
        else:
            size = self.window()
            valid = self.size > 2 * size and self.maybe(0.4)
            self.layers += [*self.conv(width, size, valid=valid), self.activation()]
            self.size -= size - 1 if valid else 0
            self.channels = width

    def shrink(self, width: int) -> None:
        """Halve the picture: by pooling after or before the activation, or by strides."""
        kind = self.rng.choices(("max", "early max", "overlap", "mean", "strides"), (4, 2, 1, 1, 2))
        match kind[0]:
            case "max":
                self.layers.append(mc.MaxPool2D(2))
            case "early max":
                last = self.layers[-1]
                movable = isinstance(last, mc.ReLU | mc.LeakyReLU)
                after = [self.layers.pop()] if movable else []
                self.layers += [mc.MaxPool2D(2), *after]
            case "overlap":
                self.layers.append(mc.MaxPool2D(3, 2))
                self.size -= 1
            case "mean":
                self.layers.append(mc.AveragePool2D(2))
            case "strides":
                self.layers += [*self.conv(width, 3, strides=2), self.activation()]
                self.channels = width
                self.size += 1
        self.size //= 2

    def head(self) -> None:
        """Add what turns a picture into ten numbers."""
        if self.maybe(0.4):
            self.layers.append(mc.GlobalAveragePool2D())
        else:
            width = self.rng.choice((64, 128, 256))
            self.layers += [mc.Flatten(), mc.Dense(width), self.activation()]
            if self.maybe(0.5):
                self.layers.append(mc.Dropout(0.5))
        self.layers.append(mc.Dense(10))
