"""The same network in PyTorch, made from ``model.config()``.

It is what one would write by hand: modules in `nn.Sequential`, ReLU in place where that is allowed,
as in torchvision.  `Normalize` is left out: the peers get their pictures prepared.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
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
        module = Concat([branch_of(branch, x) for branch in layer["branches"]])
    elif kind in SIMPLE:
        module = SIMPLE[kind](layer, x)
    else:
        raise ValueError(f"no twin of {kind} yet: add it to {__name__}")
    with torch.no_grad():
        return module, module.eval()(x)


def branch_of(layer: Config | None, x: Tensor) -> nn.Module:
    """Make a branch of a Concat; None is x itself."""
    return nn.Identity() if layer is None else make(layer, x)[0]


def margin(layer: Config, size: int) -> int:
    """Return a layer's padding; "same" is a margin of half the window, for strides of 1."""
    padding = layer["padding"]
    if padding == "same" and layer.get("strides") != 1:
        raise ValueError("padding='same' with strides isn't PyTorch's: give it as a number")
    return {"valid": 0, "same": (size - 1) // 2}[padding] if isinstance(padding, str) else padding


def conv(layer: Config, x: Tensor) -> nn.Module:
    """Make a convolution."""
    size = layer["kernel_size"]
    return nn.Conv2d(
        x.shape[1],
        layer["filters"],
        size,
        layer["strides"],
        margin(layer, size),
        layer["dilation_rate"],
        layer["groups"],
        bias=layer["use_bias"],
    )


def norm(layer: Config, x: Tensor) -> nn.Module:
    """Make a BatchNorm; PyTorch's momentum is 1 minus ours.

    It has gamma and beta always; without ``scale`` or ``center``, that one isn't trained.
    """
    kind = nn.BatchNorm2d if x.dim() == 4 else nn.BatchNorm1d
    module = kind(x.shape[1], eps=layer["eps"], momentum=1 - layer["momentum"])
    module.weight.requires_grad_(layer["scale"])
    module.bias.requires_grad_(layer["center"])
    return module


def dense(layer: Config, x: Tensor) -> nn.Module:
    """Make a dense layer."""
    return nn.Linear(x.shape[1], layer["units"], bias=layer["use_bias"])


def pool(kind: Callable[..., nn.Module], layer: Config, x: Tensor, **options: Any) -> nn.Module:
    """Make a pooling; in means, margins aren't counted."""
    size = layer["pool_size"]
    return kind(size, layer.get("strides"), margin(layer, size), **options)


class Scale(nn.Module):
    """Multiplies by a number."""

    def __init__(self, factor: float) -> None:
        super().__init__()
        self.factor = factor

    def forward(self, x: Tensor) -> Tensor:
        return x * self.factor


def pad_channels(layer: Config, x: Tensor) -> nn.Module:
    """Make what adds channels of zeros on both sides."""
    before = (layer["channels"] - x.shape[1]) // 2
    behind = layer["channels"] - x.shape[1] - before
    return nn.ConstantPad3d((0, 0, 0, 0, before, behind), 0.0)


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
    "GELU": lambda layer, x: nn.GELU(),
    "Scale": lambda layer, x: Scale(layer["factor"]),
    "PadChannels": pad_channels,
    "MaxPool2D": partial(pool, nn.MaxPool2d),
    "AveragePool2D": partial(pool, nn.AvgPool2d, count_include_pad=False),
    "GlobalAveragePool2D": lambda layer, x: nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten()),
    "Flatten": lambda layer, x: Flatten(x),
    "Dropout": lambda layer, x: nn.Dropout(layer["rate"]),
}


Way = Callable[[Tensor], Tensor]


def trained(module: nn.Module) -> Iterator[tuple[nn.Parameter, Way, Way]]:
    """Yield what is trained in our order of declaration, each with the way to our layout, and back.

    HWIO is OIHW there, and the rows of a dense layer behind Flatten come as (C, H, W).
    """
    flattened: tuple[int, ...] | None = None
    for part in module.modules():
        if isinstance(part, Flatten):
            flattened = part.shape
        elif isinstance(part, nn.Conv2d):
            yield part.weight, lambda w: w.permute(2, 3, 1, 0), lambda w: w.permute(3, 2, 0, 1)
        elif isinstance(part, nn.Linear):
            shape = flattened or (part.in_features, 1, 1)
            flattened = None
            yield part.weight, partial(to_rows, shape), partial(from_rows, shape)
        elif isinstance(part, nn.BatchNorm1d | nn.BatchNorm2d) and part.weight.requires_grad:
            yield part.weight, torch.clone, torch.clone
        bias = getattr(part, "bias", None)
        if isinstance(bias, nn.Parameter) and bias.requires_grad:
            yield bias, torch.clone, torch.clone


def to_rows(shape: tuple[int, ...], w: Tensor) -> Tensor:
    """Turn a dense layer's weights (O, C*H*W) into (H*W*C, O)."""
    return w.reshape(-1, *shape).permute(2, 3, 1, 0).reshape(w.shape[::-1])


def from_rows(shape: tuple[int, ...], w: Tensor) -> Tensor:
    """Turn our weights (H*W*C, O) into (O, C*H*W)."""
    C, H, W = shape
    return w.reshape(H, W, C, -1).permute(3, 2, 0, 1).reshape(w.shape[::-1])


def copy_weights(module: nn.Module, arrays: list[np.ndarray]) -> None:
    """Give the twin our weights: the arrays of ``model.params``, in order of declaration."""
    given: Iterator[np.ndarray] = iter(arrays)
    with torch.no_grad():
        for parameter, _, back in trained(module):
            parameter.copy_(back(torch.tensor(next(given))))
    if (left := sum(1 for _ in given)) > 0:
        raise ValueError(f"{left} arrays of weights are left over: not the same network")


def gradients(module: nn.Module) -> list[np.ndarray]:
    """Return the twin's gradients as the arrays of ``model.grads`` are, in the same order."""
    return [turned(parameter.grad).numpy() for parameter, turned, _ in trained(module)]
