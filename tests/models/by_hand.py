"""The papers' networks once more, as formulas in PyTorch: nothing here looks at minicnn's layers.

Weights are taken one after the other, in the order in which the layers stand in the papers.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import avg_pool2d, batch_norm, conv2d, gelu, max_pool2d, pad, relu


class Weights:
    """Weights in order, and what is done with them."""

    def __init__(self, arrays: Iterable[np.ndarray]) -> None:
        self.left: Iterator[Tensor] = iter([torch.tensor(array) for array in arrays])

    def conv(self, x: Tensor, stride: int = 1, padding: int = 1, bias: bool = False) -> Tensor:
        w = next(self.left).permute(3, 2, 0, 1)
        return conv2d(x, w, next(self.left) if bias else None, stride, padding)

    def pixels(self, x: Tensor, stride: int = 1) -> Tensor:
        """Do a 1x1 convolution."""
        return self.conv(x, stride, padding=0)

    def norm(self, x: Tensor, gamma: bool = True, eps: float = 1e-5) -> Tensor:
        w = next(self.left) if gamma else None
        return batch_norm(x, None, None, w, next(self.left), training=True, eps=eps)

    def dense(self, x: Tensor, bias: bool = True) -> Tensor:
        y = x @ next(self.left)
        return y + next(self.left) if bias else y

    def cnr(self, x: Tensor, stride: int = 1) -> Tensor:
        """Convolve, normalize, cut off."""
        return relu(self.norm(self.conv(x, stride)))

    def cnr1(self, x: Tensor) -> Tensor:
        return relu(self.norm(self.pixels(x)))


def resnet(p: Weights, x: Tensor, blocks: list[int], option: str) -> Tensor:
    x = p.cnr(x)
    for stage, count in enumerate(blocks):
        for block in range(count):
            halves = stage > 0 and block == 0
            y = p.cnr(x, 2 if halves else 1)
            y = p.norm(p.conv(y))
            if halves and option == "A":
                new = y.shape[1] - x.shape[1]
                x = pad(x[:, :, ::2, ::2], (0, 0, 0, 0, new // 2, new - new // 2))
            elif halves:
                x = p.norm(p.pixels(x, 2))
            x = relu(y + x)
    return p.dense(x.mean((2, 3)))


def vgg(p: Weights, x: Tensor, stages: list[int]) -> Tensor:
    for count in stages:
        for _ in range(count):
            x = p.cnr(x)
        x = max_pool2d(x, 2)
    return p.dense(x[:, :, 0, 0])


def wide_resnet(p: Weights, x: Tensor, n: int) -> Tensor:
    """A block that changes the channels activates before it branches."""
    x = p.conv(x)
    for stage in range(3):
        for block in range(n):
            stride = 2 if stage > 0 and block == 0 else 1
            a = relu(p.norm(x))
            y = relu(p.norm(p.conv(a, stride)))
            y = p.conv(y)
            x = y + (x if x.shape == y.shape else p.pixels(a, stride))
    return p.dense(relu(p.norm(x)).mean((2, 3)))


def densenet(p: Weights, x: Tensor, n: int) -> Tensor:
    x = p.conv(x)
    for block in range(3):
        if block > 0:
            x = avg_pool2d(p.pixels(relu(p.norm(x))), 2)
        for _ in range(n):
            x = torch.cat([x, p.conv(relu(p.norm(x)))], 1)
    return p.dense(relu(p.norm(x)).mean((2, 3)))


def inception(p: Weights, x: Tensor) -> Tensor:
    x = p.cnr(x)
    for stage in range(3):
        x = max_pool2d(x, 2) if stage > 0 else x
        for _ in range(2):
            branches = [p.cnr1(x), p.cnr(p.cnr1(x)), p.cnr(p.cnr(p.cnr1(x)))]
            branches.append(p.cnr1(max_pool2d(x, 3, 1, 1)))
            x = torch.cat(branches, 1)
    return p.dense(x.mean((2, 3)))


def airbench94(p: Weights, x: Tensor) -> Tensor:
    x = gelu(p.conv(x, padding=0, bias=True))
    for _ in range(3):
        x = gelu(p.norm(max_pool2d(p.conv(x), 2), gamma=False, eps=1e-12))
        x = gelu(p.norm(p.conv(x), gamma=False, eps=1e-12))
    return p.dense(max_pool2d(x, 3)[:, :, 0, 0], bias=False) / 9


def flat(x: Tensor) -> Tensor:
    return x.permute(0, 2, 3, 1).flatten(1)  # rows of (H, W, C), as our weights have them


def tutorial(p: Weights, x: Tensor) -> Tensor:
    for _ in range(2):
        x = max_pool2d(relu(p.conv(x, padding=0, bias=True)), 2)
    x = relu(p.conv(x, padding=0, bias=True))
    return p.dense(relu(p.dense(flat(x))))


def keras_example(p: Weights, x: Tensor) -> Tensor:
    for _ in range(2):
        x = relu(p.conv(x, padding=1, bias=True))
        x = max_pool2d(relu(p.conv(x, padding=0, bias=True)), 2)
    return p.dense(relu(p.dense(flat(x))))


BY_HAND = {
    "tutorial_cnn": tutorial,
    "cifar_cnn": keras_example,
    "vgg11": lambda p, x: vgg(p, x, [1, 1, 2, 2, 2]),
    "vgg13": lambda p, x: vgg(p, x, [2, 2, 2, 2, 2]),
    "vgg16": lambda p, x: vgg(p, x, [2, 2, 3, 3, 3]),
    "vgg19": lambda p, x: vgg(p, x, [2, 2, 4, 4, 4]),
    "resnet20": lambda p, x: resnet(p, x, [3] * 3, "A"),
    "resnet20, option B": lambda p, x: resnet(p, x, [3] * 3, "B"),
    "resnet32": lambda p, x: resnet(p, x, [5] * 3, "A"),
    "resnet44": lambda p, x: resnet(p, x, [7] * 3, "A"),
    "resnet56": lambda p, x: resnet(p, x, [9] * 3, "A"),
    "resnet110": lambda p, x: resnet(p, x, [18] * 3, "A"),
    "resnet18": lambda p, x: resnet(p, x, [2, 2, 2, 2], "B"),
    "resnet18, option A": lambda p, x: resnet(p, x, [2, 2, 2, 2], "A"),
    "resnet34": lambda p, x: resnet(p, x, [3, 4, 6, 3], "B"),
    "wide_resnet": lambda p, x: wide_resnet(p, x, 1),
    "wide_resnet, dropout": lambda p, x: wide_resnet(p, x, 2),
    "inception_small": inception,
    "densenet_small": lambda p, x: densenet(p, x, 2),
    "speedrun94": airbench94,
}
