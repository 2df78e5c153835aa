"""The same operations in PyTorch, on the same numbers: pictures in channels_last, weights copied.

Each function gets a case's arguments and returns (forward, both): what to call for the forward
pass alone, and for forward and backward through autograd; either may be None.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeAlias

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from benchmarks.op_cases import Case

Call: TypeAlias = Callable[[], Any]
Calls: TypeAlias = tuple[Call | None, Call | None]


def tensor(x: np.ndarray) -> Tensor:
    """Return (N, H, W, C) as (N, C, H, W) in the same memory; other arrays as they are."""
    t = torch.from_numpy(x.copy())
    return t.permute(0, 3, 1, 2) if t.dim() == 4 else t


def calls(function: Callable[..., Tensor], inputs: list[Tensor], needs_dx: bool = True) -> Calls:
    """Return the two calls of a function of x and its parameters."""
    leaves = [t.requires_grad_() for t in (inputs if needs_dx else inputs[1:])]
    dy = torch.ones_like(function(*inputs))

    def forward() -> None:
        with torch.no_grad():
            function(*inputs)

    def both() -> None:
        torch.autograd.grad(function(*inputs), leaves, dy)

    return forward, both


def conv2d(case: Case) -> Calls:
    """Do a convolution with bias."""
    x, w, b, stride, padding = case.args
    margin = {"same": w.shape[0] // 2, "valid": 0}.get(padding, padding)
    filters = torch.from_numpy(w).permute(3, 2, 0, 1)
    filters = filters.contiguous(memory_format=torch.channels_last)
    inputs = [tensor(x), filters, tensor(b)]
    return calls(lambda x, w, b: F.conv2d(x, w, b, stride, margin), inputs, case.needs_dx)


def dense(case: Case) -> Calls:
    """Do a dense layer."""
    x, w, b = case.args
    return calls(F.linear, [tensor(x), torch.from_numpy(w.T.copy()), tensor(b)])


def batchnorm(case: Case) -> Calls:
    """Do a BatchNorm in training, without running statistics."""
    inputs = [tensor(a) for a in case.args]
    return calls(lambda x, g, b: F.batch_norm(x, None, None, g, b, training=True), inputs)


def loss(case: Case) -> Calls:
    """Do the cross-entropy."""
    logits, labels = case.args
    target = torch.from_numpy(labels)
    return calls(lambda x: F.cross_entropy(x, target), [tensor(logits)])


def simple(function: Callable[..., Tensor]) -> Callable[[Case], Calls]:
    """Do a function of x and the case's other arguments."""
    return lambda case: calls(lambda x: function(x, *case.args[1:]), [tensor(case.args[0])])


def optimizer(make: Callable[[list[Tensor]], torch.optim.Optimizer]) -> Callable[[Case], Calls]:
    """Do an optimizer's step."""

    def step(case: Case) -> Calls:
        w = torch.nn.Parameter(tensor(case.args[0]))
        w.grad = tensor(case.args[1])
        return make([w]).step, None

    return step


TWINS: dict[str, Callable[[Case], Calls]] = {
    "conv2d": conv2d,
    "dense": dense,
    "batchnorm": batchnorm,
    "softmax_cross_entropy": loss,
    "maxpool2d": simple(F.max_pool2d),
    "averagepool2d": simple(F.avg_pool2d),
    "globalaveragepool2d": simple(lambda x: F.adaptive_avg_pool2d(x, 1)),
    "relu": simple(F.relu),
    "leaky_relu": simple(F.leaky_relu),
    "sigmoid": simple(torch.sigmoid),
    "tanh": simple(torch.tanh),
    "silu": simple(F.silu),
    "gelu": simple(F.gelu),
    "softmax": simple(lambda x: F.softmax(x, dim=-1)),
    "sgd_update": optimizer(lambda w: torch.optim.SGD(w, 1e-6, fused=True)),
    "momentum_update": optimizer(lambda w: torch.optim.SGD(w, 1e-6, 0.9, fused=True)),
    "dropout": simple(lambda x, rate, rng: F.dropout(x, rate)),
    "rmsprop_update": optimizer(lambda w: torch.optim.RMSprop(w, 1e-6, 0.9, 1e-7)),
    "adam_update": optimizer(lambda w: torch.optim.Adam(w, 1e-6, fused=True)),
}
