"""Optimizers: what is done with the gradient, once for all parameters.

The rules themselves are in ``functional/update.py``; here is what surrounds them: the learning
rate of the step, clipping, weight decay, the rule's memory, and an average of the weights.
"""

from __future__ import annotations

import weakref
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, ClassVar

from .backend import Array, array_module, beside
from .functional import update
from .groups import Group, Part, check_factors, make_groups
from .lookahead import Lookahead
from .options import number
from .params import Parameters
from .schedule import Schedule

prepared: weakref.WeakSet[Optimizer] = weakref.WeakSet()


def flat_arrays(params: Parameters) -> list[Array]:
    """Return all arrays in the shape of the parameters: theirs, and what optimizers remember."""
    memories = [o.memory for o in list(prepared) if o.owner is not None and o.owner() is params]
    return [params.data, params.grad, *(array for m in memories for array in m.values())]


class Owned:
    """What belongs to somebody: ``owner`` are the parameters that a memory is of.

    grouped: the groups of those parameters, after what they were made from.
    """

    owner: weakref.ref[Parameters] | None = None
    grouped: tuple[Any, tuple[Group, ...]] = None, ()


@dataclass(eq=False)
class Optimizer(Owned):
    """The base of all optimizers.

    lr: a number, or a schedule (`schedule`).  weight_decay: adds weight_decay * w to the gradient,
    the gradient of weight_decay / 2 * w^2; biases and norms are spared unless ``decay_all``.
    global_clipnorm: the longest gradient; a longer one is shortened (Pascanu et al. 2013,
    algorithm 1).  ema_decay: also keep an exponential average of the weights, for
    `averaged_weights` (BatchNorm's running statistics are the same with both).

    lr_scale: factors of the learning rate, by pattern (``fnmatch``) on the names of parameters:
    {"dense_2/*": 10, "*/beta": 64}; the first pattern that fits holds, and others' factor is 1.
    Parameters that are frozen (`Layer.trainable`) stay as they are, and so does their part of the
    memory, but for the average, which goes on following: they don't decay, and don't count in the
    length of the gradient.

    lookahead: a `Lookahead`, which keeps slow weights.

    One optimizer goes with one model: its memory has the shape of that model's buffers.
    """

    lr: float | Schedule = 1e-3
    weight_decay: float = field(default=0.0, kw_only=True)
    decay_all: bool = field(default=False, kw_only=True)
    global_clipnorm: float | None = field(default=None, kw_only=True)
    ema_decay: float | None = field(default=None, kw_only=True)
    lr_scale: Mapping[str, float] | None = field(default=None, kw_only=True)
    lookahead: Lookahead | None = field(default=None, kw_only=True)

    steps: int = field(default=0, init=False)
    """Steps taken so far."""
    memory: dict[str, Array] = field(default_factory=dict, init=False, repr=False)
    """Flat arrays in the shape of the parameters, by name: the rule's, "average", "slow"."""

    arrays: ClassVar[tuple[str, ...]] = ()
    """The names of what the rule remembers."""

    def __post_init__(self) -> None:
        if not callable(self.lr):
            number(self.lr, "lr", least=0)
        number(self.weight_decay, "weight_decay", least=0)
        if self.global_clipnorm is not None:
            number(self.global_clipnorm, "global_clipnorm", above=0)
        if self.ema_decay is not None:
            number(self.ema_decay, "ema_decay", least=0, below=1)
        if self.lr_scale is not None:
            check_factors(self.lr_scale)
            self.lr_scale = {pattern: float(f) for pattern, f in self.lr_scale.items()}
        if not isinstance(self.lookahead, Lookahead | None):
            raise TypeError(f"lookahead {self.lookahead!r}: expected a Lookahead(every, decay)")

    def __getstate__(self) -> dict[str, Any]:
        """Leave out of copies and pickles whose memory it is: a copy is for a copy of the model."""
        return self.__dict__ | {"owner": None, "grouped": (None, ())}

    @property
    def current_lr(self) -> float:
        """The learning rate of the next step."""
        return float(self.lr(self.steps) if callable(self.lr) else self.lr)

    def step(self, params: Parameters) -> None:
        """Change the parameters by their gradients."""
        self.prepare(params)
        lr, groups = self.current_lr, self.groups(params)
        self.steps += 1
        dw = self.gradient(params)
        for group in groups:
            part = Part.of(group, params.data, self.memory)
            self.update(part, dw[group.where], lr * group.factor)
        if self.ema_decay is not None:
            update.average_update(self.memory["average"], params.data, self.ema_decay)
        self.look_ahead(params)

    def look_ahead(self, params: Parameters) -> None:
        """After a step: if it is time, let the slow weights follow and go back to them."""
        if self.lookahead is None or self.steps % self.lookahead.every:
            return
        decay, slow = self.lookahead.decay_at(self.steps), self.memory["slow"]
        with beside(params.data):
            for group in self.groups(params):
                where = group.where
                update.lookahead_update(slow[where], params.data[where], decay)

    def update(self, part: Part, dw: Array, lr: float) -> None:
        """Apply the rule to a part of the flat buffers, ``part.data`` and ``part.memory``."""
        raise NotImplementedError

    def groups(self, params: Parameters) -> tuple[Group, ...]:
        """Return the parts of the buffers that are changed, each with its learning rate's factor.

        Raises ValueError for a pattern of ``lr_scale`` that fits no parameter, and for a factor
        that is no number >= 0.
        """
        factors = {} if self.lr_scale is None else self.lr_scale
        check_factors(factors)
        size, decayed = params.data.size, self.decayed(params)
        asked = params.slots, params.frozen, decayed, tuple(factors.items())
        if self.grouped[0] != asked:
            count = len(range(*decayed.indices(size)))
            self.grouped = asked, make_groups(params.slots, size, count, params.frozen, factors)
        return self.grouped[1]

    def prepare(self, params: Parameters) -> None:
        """Make the rule's memory at the first step; later, check that it is of these parameters."""
        if self.owner is not None and self.owner() is not params:
            raise ValueError(
                f"{type(self).__name__}: its memory is of other parameters, of another model or of "
                "this one before it was built anew. One optimizer goes with one model: make another"
            )
        self.owner = weakref.ref(params)
        prepared.add(self)
        if not self.memory:
            zeros = array_module(params.data).zeros_like
            self.memory = {name: zeros(params.data) for name in self.arrays}
        for name in self.averages:
            if name not in self.memory:
                self.memory[name] = params.data.copy()
        for name, array in self.memory.items():
            if array.shape != params.data.shape or array.dtype != params.data.dtype:
                raise ValueError(
                    f"{type(self).__name__}: its {name} has shape {array.shape} {array.dtype}, the "
                    f"parameters have {params.data.shape} {params.data.dtype}. One optimizer goes "
                    "with one model: make a new one"
                )

    def gradient(self, params: Parameters) -> Array:
        """Return the gradient to use, clipped and with weight decay; ``params.grad`` stays."""
        dw = params.grad
        groups = () if self.global_clipnorm is None else self.groups(params)
        if self.global_clipnorm is not None and groups:
            xp = array_module(dw)
            first, *others = ((part * part).sum() for part in (dw[g.where] for g in groups))
            norm = xp.sqrt(sum(others, first))
            dw = dw * (self.global_clipnorm / xp.maximum(norm, self.global_clipnorm))
        if self.weight_decay and not self.decoupled:
            where = self.decayed(params)
            dw = dw.copy() if dw is params.grad else dw
            dw[where] += params.data[where] * self.weight_decay
        return dw

    @property
    def averages(self) -> tuple[str, ...]:
        """The names of the other weights that it remembers beside the model's own."""
        asked = {"average": self.ema_decay is not None, "slow": self.lookahead is not None}
        return tuple(name for name, wanted in asked.items() if wanted)

    decoupled: ClassVar[bool] = False

    def decayed(self, params: Parameters) -> slice:
        """Return the part of the buffers that weight decay applies to."""
        return slice(None) if self.decay_all else params.decayed

    @contextmanager
    def averaged_weights(self, params: Parameters, kind: str | None = None) -> Iterator[None]:
        """Put the averaged weights into the model while the block runs, then the own ones again."""
        with beside(params.data):
            own = params.data.copy()
        self.use_averaged(params, kind)
        try:
            yield
        finally:
            with beside(params.data):
                params.data[...] = own

    def use_averaged(self, params: Parameters, kind: str | None = None) -> None:
        """Put the averaged weights into the model for good; frozen ones stay.

        kind: "average" (``ema_decay``) or "slow" (``lookahead``); the first that there is if None.
        BatchNorm's running statistics stay those of the weights of training: after an average over
        many steps, let ``model.forward(x, training=True)`` see some batches, and they follow.
        """
        there = [name for name in ("average", "slow") if name in self.memory]
        if kind not in (None, *there) or not there:
            which = "averaged" if kind is None else kind
            raise ValueError(
                f"no {which} weights: give ema_decay, and take a step (or lookahead, for slow ones)"
            )
        with beside(params.data):
            for group in self.groups(params):
                params.data[group.where] = self.memory[kind or there[0]][group.where]


@dataclass(eq=False)
class SGD(Optimizer):
    """Stochastic gradient descent, with momentum if asked (`update.momentum_update`)."""

    lr: float | Schedule = 1e-2
    momentum: float = 0.0
    nesterov: bool = False

    def __post_init__(self) -> None:
        super().__post_init__()
        number(self.momentum, "momentum", least=0, below=1)
        self.arrays = ("v",) if self.momentum else ()  # type: ignore[misc]
        if self.nesterov and not self.momentum:
            raise ValueError("SGD: nesterov looks ahead along the momentum, which is 0")

    def update(self, part: Part, dw: Array, lr: float) -> None:
        if self.momentum:
            v = part.memory["v"]
            update.momentum_update(part.data, dw, v, lr, self.momentum, self.nesterov)
        else:
            update.sgd_update(part.data, dw, lr)


@dataclass(eq=False)
class RMSprop(Optimizer):
    """Gradients divided by their usual size (`update.rmsprop_update`)."""

    rho: float = 0.9
    eps: float = 1e-8

    arrays = ("v",)

    def __post_init__(self) -> None:
        super().__post_init__()
        number(self.rho, "rho", least=0, below=1)
        number(self.eps, "eps", above=0)

    def update(self, part: Part, dw: Array, lr: float) -> None:
        update.rmsprop_update(part.data, dw, part.memory["v"], lr, self.rho, self.eps)


@dataclass(eq=False)
class Adam(Optimizer):
    """Mean gradients divided by their usual size (`update.adam_update`).

    ``weight_decay`` enters the gradient, and is divided with it; see `AdamW`.
    """

    beta1: float = 0.9
    beta2: float = 0.999
    eps: float = 1e-8

    arrays = ("m", "v")

    def __post_init__(self) -> None:
        super().__post_init__()
        number(self.beta1, "beta1", least=0, below=1)
        number(self.beta2, "beta2", least=0, below=1)
        number(self.eps, "eps", above=0)

    def update(self, part: Part, dw: Array, lr: float) -> None:
        m, v = part.memory["m"], part.memory["v"]
        betas = self.beta1, self.beta2
        update.adam_update(part.data, dw, m, v, self.steps, lr, *betas, self.eps)


@dataclass(eq=False)
class AdamW(Adam):
    """Adam whose weight decay stays out of the division: w <- (1 - lr weight_decay) w first."""

    weight_decay: float = field(default=1e-2, kw_only=True)

    decoupled = True

    def update(self, part: Part, dw: Array, lr: float) -> None:
        update.decay_update(part.data[part.decayed], lr * self.weight_decay)
        super().update(part, dw, lr)
