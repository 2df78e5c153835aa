"""A recipe in PyTorch: the twin of a network, trained by PyTorch's optimizer with the same options.

It starts from our weights and is fed our batches, uint8 pictures and labels, which it normalizes
itself.  Schedule, freezing, rates of single parameters, averages and the views of a test are those
of the recipe; forward, backward and the optimizer's rule are PyTorch's.  Only Dropout draws its own
random numbers.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from fnmatch import fnmatchcase
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

import minicnn as mc
from benchmarks.peers.torch_twin import copy_weights, trained, twin
from minicnn.views import VIEWS, view

RULES = {
    "SGD": torch.optim.SGD,
    "Adam": torch.optim.Adam,
    "AdamW": torch.optim.AdamW,
    "RMSprop": torch.optim.RMSprop,
}
DTYPES = {"bfloat16": torch.bfloat16, "float16": torch.float16}
NORMS = (nn.BatchNorm1d, nn.BatchNorm2d)


class TorchRecipe:
    """Trains the twin of ``model`` by ``recipe``.

    model: ours, built and prepared, on the CPU; it isn't trained, but says which of its parameters
    are frozen when.  ``module`` is the twin, ``parameters`` are its parameters by our names.
    """

    def __init__(
        self, recipe: mc.Recipe, model: mc.Sequential, steps_per_epoch: int, device: str = "cpu"
    ) -> None:
        self.recipe, self.model, self.device = recipe, model, torch.device(device)
        self.lower = DTYPES.get(recipe.dtype)
        self.dtype = torch.float64 if recipe.dtype == "float64" else torch.float32
        self.normalize = Normalized(model, self.device, self.dtype)
        self.module = twin(model.config(), model.input_shape).to(self.dtype)
        copy_weights(self.module, [mc.to_numpy(array) for array in model.params.values()])
        if self.device.type == "cuda":
            self.module.to(self.device, memory_format=torch.channels_last)
        found = dict(zip(model.params, trained(self.module), strict=True))
        self.parameters = {name: parameter for name, (parameter, _, _) in found.items()}
        self.turned = {name: turned for name, (_, turned, _) in found.items()}
        ours = [layer for layer in model.walk() if isinstance(layer, mc.BatchNorm)]
        theirs = [part for part in self.module.modules() if isinstance(part, NORMS)]
        self.norms = list(zip(ours, theirs, strict=True))

        self.ours = recipe.optimizer(steps_per_epoch)  # for its options and schedule alone
        self.optimizer = optimizer(self.ours, self.groups())
        self.steps = 0
        self.average = [p.detach().clone() for p in self.parameters.values()]
        self.slow = [average.clone() for average in self.average]
        self.scaler = torch.amp.GradScaler(self.device.type, enabled=recipe.dtype == "float16")
        self.freeze(0)

    def groups(self) -> list[dict[str, Any]]:
        """Return the twin's parameters by factor of the learning rate and by weight decay."""
        found: dict[tuple[float, float], list[nn.Parameter]] = {}
        for name, parameter in self.parameters.items():
            spared = not (self.ours.decay_all or self.model.params.declarations[name].decay)
            decay = 0.0 if spared else self.ours.weight_decay
            found.setdefault((factor_of(self.ours, name), decay), []).append(parameter)
        return [
            {"params": parameters, "factor": factor, "weight_decay": decay}
            for (factor, decay), parameters in found.items()
        ]

    def freeze(self, epoch: int) -> None:
        """Freeze what the recipe freezes when ``epoch`` epochs are done; be in training."""
        self.recipe.freeze(self.model, epoch)
        self.module.train()
        for name, parameter in self.parameters.items():
            parameter.requires_grad_(name not in self.model.params.frozen)
        for layer, part in self.norms:
            part.train(layer.trainable is not False)

    def step(self, x: np.ndarray, labels: np.ndarray) -> tuple[Tensor, Tensor]:
        """Learn from one batch of ours; return its loss and how many answers were right."""
        lr = self.ours.lr(self.steps) if callable(self.ours.lr) else self.ours.lr
        for group in self.optimizer.param_groups:
            group["lr"] = lr * group["factor"]
        self.optimizer.zero_grad(set_to_none=True)
        N, parts = len(x), self.recipe.accumulate
        target = torch.from_numpy(np.ascontiguousarray(labels)).to(self.device)
        loss, right = torch.zeros((), device=self.device), 0
        for k in range(parts):
            part = slice(N * k // parts, N * (k + 1) // parts)
            value, logits = self.loss_of(self.normalize(x[part]), target[part])
            value = value * (len(logits) / N)
            self.scaler.scale(value).backward()
            loss = loss + value.detach()
            right = right + hits(logits, target[part])
        self.scaler.unscale_(self.optimizer)
        if self.ours.global_clipnorm is not None:
            nn.utils.clip_grad_norm_(self.module.parameters(), self.ours.global_clipnorm)
        self.scaler.step(self.optimizer)
        self.scaler.update()
        self.steps += 1
        self.follow()
        return loss, right

    def loss_of(self, x: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
        """Return the loss to train with, and the logits."""
        lower = nullcontext()
        if self.lower is not None:
            lower = torch.autocast(self.device.type, self.lower)
        with lower:
            logits = self.module(x)
        logits = logits if self.lower is None else logits.float()
        if target.is_floating_point():
            target = target.to(logits.dtype)
        smoothing = self.recipe.loss().label_smoothing
        return cross_entropy(logits, target, label_smoothing=smoothing), logits

    @torch.no_grad()
    def follow(self) -> None:
        """Do what comes after the rule: the average of the weights, and lookahead."""
        weights, ahead = list(self.parameters.values()), self.ours.lookahead
        if self.ours.ema_decay is not None:
            for average, w in zip(self.average, weights, strict=True):
                average.lerp_(w, 1 - self.ours.ema_decay)
        if ahead is not None and self.steps % ahead.every == 0:
            decay = ahead.decay_at(self.steps)
            for slow, w in zip(self.slow, weights, strict=True):
                if w.requires_grad:
                    w.copy_(slow.lerp_(w, 1 - decay))

    @contextmanager
    def weights_to_test(self) -> Iterator[None]:
        """Put into the twin, while the block runs, the weights that the recipe tests."""
        kept = [p.detach().clone() for p in self.parameters.values()]
        if self.ours.ema_decay is not None:
            self.put(self.average)
        elif self.ours.lookahead is not None:
            self.put(self.slow)
        try:
            yield
        finally:
            self.put(kept)

    def weights(self) -> dict[str, np.ndarray]:
        """Return the twin's parameters by our names and in our layout."""
        return {n: self.turned[n](p.detach()).numpy() for n, p in self.parameters.items()}

    @torch.no_grad()
    def put(self, values: list[Tensor]) -> None:
        """Write values into the parameters, but for those that are frozen."""
        for parameter, value in zip(self.parameters.values(), values, strict=True):
            if parameter.requires_grad:
                parameter.copy_(value)

    @torch.no_grad()
    def evaluate(self, x: np.ndarray, y: np.ndarray, batch: int = 256) -> dict[str, float]:
        """Return what `mc.evaluate` does, with the recipe's views."""
        views = [(1.0, 0, False)] if self.recipe.tta is None else VIEWS[self.recipe.tta]
        training = [part for part in self.module.modules() if part.training]
        self.module.eval()
        loss, right = 0.0, 0
        for start in range(0, len(x), batch):
            part = slice(start, start + batch)
            target = torch.from_numpy(np.ascontiguousarray(y[part])).to(self.device)
            logits = sum(
                weight * self.infer(view(x[part], shift, flipped))
                for weight, shift, flipped in views
            )
            loss += float(cross_entropy(logits, target, reduction="sum"))
            right += int(hits(logits, target))
        for module in training:
            module.training = True
        return {"loss": loss / len(x), "accuracy": right / len(x)}

    def infer(self, x: np.ndarray) -> Tensor:
        """Return the logits for pictures."""
        lower = nullcontext()
        if self.lower is not None:
            lower = torch.autocast(self.device.type, self.lower)
        with lower:
            return self.module(self.normalize(x)).to(self.dtype)


class Normalized:
    """Does what our model's `Normalize` does: uint8 (N, H, W, C) to floats (N, C, H, W)."""

    def __init__(self, model: mc.Sequential, device: torch.device, dtype: torch.dtype) -> None:
        layer = model.layers[0]
        if not isinstance(layer, mc.Normalize):
            raise ValueError(f"the network begins with {layer}: expected Normalize")
        self.scale, self.device, self.dtype = layer.scale, device, dtype
        given = (mc.to_numpy(layer.buffers[name]) for name in ("mean", "std"))
        self.mean, self.std = (torch.tensor(a, device=device, dtype=dtype) for a in given)

    def __call__(self, x: np.ndarray) -> Tensor:
        pictures = torch.from_numpy(np.ascontiguousarray(x)).to(self.device).to(self.dtype)
        pictures = ((pictures * self.scale - self.mean) / self.std).permute(0, 3, 1, 2)
        return pictures if self.device.type == "cuda" else pictures.contiguous()


def optimizer(ours: Any, groups: list[dict[str, Any]]) -> torch.optim.Optimizer:
    """Return PyTorch's optimizer of the same name, with the same options."""
    name = type(ours).__name__
    if name == "SGD":
        options: dict[str, Any] = {"momentum": ours.momentum, "nesterov": ours.nesterov}
    elif name == "RMSprop":
        options = {"alpha": ours.rho, "eps": ours.eps}
    else:
        options = {"betas": (ours.beta1, ours.beta2), "eps": ours.eps}
    return RULES[name](groups, lr=1.0, **options)  # the rate is set at each step


def factor_of(ours: Any, name: str) -> float:
    """Return the factor of a parameter's learning rate: that of the first pattern that fits."""
    factors = ours.lr_scale or {}
    return next((f for pattern, f in factors.items() if fnmatchcase(name, pattern)), 1.0)


def hits(logits: Tensor, target: Tensor) -> Tensor:
    """Count right answers; a distribution means its likeliest class."""
    meant = target.argmax(1) if target.is_floating_point() else target
    return (logits.argmax(1) == meant).sum()
