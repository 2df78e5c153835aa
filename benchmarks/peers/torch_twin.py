"""The same network in PyTorch, made from ``model.config()``.

It is what one would write by hand: modules in `nn.Sequential`, ReLU in place where that is allowed,
as in torchvision.  `Normalize` is left out: the peers get their pictures prepared.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

Config = dict[str, Any]


class Residual(nn.Module):
    """Adds what body and shortcut make of x."""

    def __init__(self, body: nn.Module, shortcut: nn.Module) -> None:
        super().__init__()
        self.body, self.shortcut = body, shortcut

    def forward(self, x: Tensor) -> Tensor:
        y = self.body(x)
        y += self.shortcut(x)
        return y


class Concat(nn.Module):
    """Joins the channels of all branches."""

    def __init__(self, branches: list[nn.Module]) -> None:
        super().__init__()
        self.branches = nn.ModuleList(branches)

    def forward(self, x: Tensor) -> Tensor:
        return torch.cat([branch(x) for branch in self.branches], dim=1)


def twin(config: Config, shape: tuple[int, int, int]) -> nn.Module:
    """Return the network of a configuration for pictures (H, W, C), with weights of its own."""
    H, W, C = shape
    layers = [layer for layer in config["layers"] if layer["type"] != "Normalize"]
    module, _ = sequential({"layers": layers}, torch.zeros(1, C, H, W))
    return module


def sequential(options: Config, x: Tensor) -> tuple[nn.Module, Tensor]:
    """Make all layers; x, a batch of zeros, goes through them and shows each its input's shape."""
    modules: list[nn.Module] = []
    for layer in options["layers"]:
        module, x = make(layer, x)
        if isinstance(module, nn.ReLU) and modules:
            module.inplace = True  # the first of a branch would change what others read
        modules.append(module)
    return nn.Sequential(*modules), x


def make(layer: Config, x: Tensor) -> tuple[nn.Module, Tensor]:
    """Make one layer; return it and what it makes of x."""
    kind = layer["type"]
    if kind == "Sequential":
        return sequential(layer, x)
    if kind == "Residual":
        body, _ = make(layer["body"], x)
        shortcut = make(layer["shortcut"], x)[0] if "shortcut" in layer else nn.Identity()
        module = Residual(body, shortcut)
    elif kind == "Concat":
        module = Concat([make(branch, x)[0] for branch in layer["branches"]])
    elif kind in SIMPLE:
        module = SIMPLE[kind](layer, x)
    else:
        raise ValueError(f"no twin of {kind} yet: add it to {__name__}")
    with torch.no_grad():
        return module, module.eval()(x)


def conv(layer: Config, x: Tensor) -> nn.Module:
    """Make a convolution; "same" is a margin of half the window, for strides of 1."""
    padding, size = layer["padding"], layer["kernel_size"]
    if padding == "same" and layer["strides"] != 1:
        raise ValueError("padding='same' with strides isn't PyTorch's: give it as a number")
    if isinstance(padding, str):
        padding = {"valid": 0, "same": (size - 1) // 2}[padding]
    return nn.Conv2d(
        x.shape[1],
        layer["filters"],
        size,
        layer["strides"],
        padding,
        layer["dilation_rate"],
        layer["groups"],
        bias=layer["use_bias"],
    )


def norm(layer: Config, x: Tensor) -> nn.Module:
    """Make a BatchNorm; PyTorch's momentum is 1 minus ours."""
    kind = nn.BatchNorm2d if x.dim() == 4 else nn.BatchNorm1d
    return kind(x.shape[1], eps=layer["eps"], momentum=1 - layer["momentum"])


def dense(layer: Config, x: Tensor) -> nn.Module:
    """Make a dense layer."""
    return nn.Linear(x.shape[1], layer["units"], bias=layer["use_bias"])


class Flatten(nn.Flatten):
    """Remembers the shape (C, H, W) that it flattens: our pictures are (H, W, C)."""

    def __init__(self, x: Tensor) -> None:
        super().__init__()
        self.shape = x.shape[1:]


SIMPLE: dict[str, Callable[[Config, Tensor], nn.Module]] = {
    "Conv2D": conv,
    "BatchNorm": norm,
    "Dense": dense,
    "ReLU": lambda layer, x: nn.ReLU(),
    "LeakyReLU": lambda layer, x: nn.LeakyReLU(layer["negative_slope"]),
    "MaxPool2D": lambda layer, x: nn.MaxPool2d(layer["pool_size"], layer.get("strides")),
    "AveragePool2D": lambda layer, x: nn.AvgPool2d(layer["pool_size"], layer.get("strides")),
    "GlobalAveragePool2D": lambda layer, x: nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten()),
    "Flatten": lambda layer, x: Flatten(x),
    "Dropout": lambda layer, x: nn.Dropout(layer["rate"]),
}


def copy_weights(module: nn.Module, arrays: list[np.ndarray]) -> None:
    """Give the twin our weights: the arrays of ``model.params``, in order of declaration."""
    given: Iterator[np.ndarray] = iter(arrays)
    flattened = None
    with torch.no_grad():
        for part in module.modules():
            if isinstance(part, Flatten):
                flattened = part.shape
            elif isinstance(part, nn.Conv2d):
                part.weight.copy_(torch.tensor(next(given)).permute(3, 2, 0, 1))  # HWIO -> OIHW
            elif isinstance(part, nn.Linear):
                w = torch.tensor(next(given))
                if flattened is not None:  # rows of (H, W, C) in the order of (C, H, W)
                    C, H, W = flattened
                    w = w.reshape(H, W, C, -1).permute(2, 0, 1, 3).reshape(C * H * W, -1)
                    flattened = None
                part.weight.copy_(w.T)
            elif isinstance(part, nn.BatchNorm1d | nn.BatchNorm2d):
                part.weight.copy_(torch.tensor(next(given)))
            else:
                continue
            if getattr(part, "bias", None) is not None:
                part.bias.copy_(torch.tensor(next(given)))
    if (left := sum(1 for _ in given)) > 0:
        raise ValueError(f"{left} arrays of weights are left over: not the same network")
