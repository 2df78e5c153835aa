"""Parameters: every weight of a network in one flat buffer, every gradient in another.

The layers see named views.  An optimizer's step, a norm of the gradient, an average of the
weights or a checkpoint is then one operation on one array.  Gradients are overwritten by each
backward pass, never accumulated: there is nothing to reset.
"""

from __future__ import annotations

import copy
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from math import prod
from typing import Any

import numpy as np

from . import initializers
from .backend import Array, Device, Shape, beside
from .options import number

ALIGNMENT = 128  # bytes; every view begins a multiple of them after the first


@dataclass(frozen=True)
class Penalty:
    """What a large weight costs: l1 * sum |w| + l2 * sum w^2, added to the loss."""

    l1: float = 0.0
    l2: float = 0.0

    def __post_init__(self) -> None:
        object.__setattr__(self, "l1", number(self.l1, "L1 strength", least=0))
        object.__setattr__(self, "l2", number(self.l2, "L2 strength", least=0))


def L1(strength: float) -> Penalty:
    """Charge ``strength`` times the sum of |w|: makes weights exactly zero."""
    return Penalty(l1=strength)


def L2(strength: float) -> Penalty:
    """Charge ``strength`` times the sum of w^2: keeps weights small."""
    return Penalty(l2=strength)


@dataclass(frozen=True)
class Declaration:
    """A parameter that a layer asks for.

    decay: whether weight decay shrinks it (weights, yes; biases and norms, not unless asked).
    """

    shape: Shape
    initializer: str = "zeros"
    decay: bool = True
    penalty: Penalty | None = None


class Views(Mapping[str, Array]):
    """Named views of one flat array, in the order of declaration."""

    def __init__(self, flat: Array, slots: Mapping[str, tuple[slice, Shape]]) -> None:
        self._views = {name: flat[where].reshape(shape) for name, (where, shape) in slots.items()}

    def __getitem__(self, name: str) -> Array:
        try:
            return self._views[name]
        except KeyError:
            raise KeyError(f"no parameter {name!r}; there are: {', '.join(self)}") from None

    def __iter__(self) -> Iterator[str]:
        return iter(self._views)

    def __len__(self) -> int:
        return len(self._views)

    def __repr__(self) -> str:
        return "\n".join(f"{name}: {view.shape} {view.dtype}" for name, view in self.items())


class Parameters(Views):
    """A mapping from name to array view, with two flat buffers beneath.

    data, grad: (P,), one dtype, on one device.  ``grads`` maps the same names to gradients.
    ``decayed`` is the slice of the buffers that weight decay applies to; such parameters lie
    first in memory.  ``frozen`` are the names of those that no optimizer changes; a model keeps it
    right (`Layer.trainable`).  Without ``rng`` all start at zero.  Between the views are up to 128
    bytes of zeros, which every update rule leaves zero.  Write with ``params[name][...] = value``:
    the views are the parameters.
    """

    frozen: frozenset[str] = frozenset()

    def __init__(
        self,
        declarations: Mapping[str, Declaration],
        rng: np.random.Generator | None,
        device: Device,
        dtype: str,
    ) -> None:
        self.declarations = dict(declarations)
        step = ALIGNMENT // np.dtype(dtype).itemsize
        slots: dict[str, tuple[slice, Shape]] = {}
        end = 0
        for decay in (True, False):
            for name, wanted in self.declarations.items():
                if wanted.decay == decay:
                    size = prod(wanted.shape)
                    slots[name] = (slice(end, end + size), wanted.shape)
                    end += -(-size // step) * step
            if decay:
                self.decayed = slice(0, end)
        slots = {name: slots[name] for name in self.declarations}

        start = np.zeros(end, dtype)  # born on the CPU: every device starts from equal weights
        if rng is not None:
            for name, view in Views(start, slots).items():
                wanted = self.declarations[name]
                view[...] = initializers.get(wanted.initializer)(rng, wanted.shape)
        self.data = device.asarray(start)
        self.grad = device.asarray(np.zeros(end, dtype))
        super().__init__(self.data, slots)
        self.grads = Views(self.grad, slots)
        self.slots = slots

    def __getstate__(self) -> dict[str, Any]:
        """Leave the views out of copies and pickles: they would be arrays of their own there."""
        kept = ("declarations", "decayed", "slots", "frozen", "data", "grad")
        return {name: getattr(self, name) for name in kept}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        super().__init__(self.data, self.slots)
        self.grads = Views(self.grad, self.slots)

    def views(self, flat: Array) -> Views:
        """Return named views of another flat array in the shape of ``data``."""
        return Views(flat, self.slots)

    def over(self, data: Array, grad: Array) -> Parameters:
        """Return parameters of the same names and places in other arrays."""
        other = copy.copy(self)
        other.__setstate__(self.__getstate__() | {"data": data, "grad": grad})
        return other

    def freeze(self, names: Iterable[str]) -> None:
        """Let no optimizer change the parameters of these names; their gradients become zero."""
        frozen = frozenset(names)
        if frozen != self.frozen:
            self.clear(frozen - self.frozen)
            self.frozen = frozen

    def clear(self, names: Iterable[str]) -> None:
        """Set the gradients of some parameters to zero."""
        with beside(self.grad):
            for name in names:
                self.grads[name][...] = 0

    @property
    def count(self) -> int:
        """The number of parameters, without what lies between them."""
        return sum(prod(wanted.shape) for wanted in self.declarations.values())

    @property
    def penalized(self) -> Sequence[tuple[str, Penalty]]:
        """The parameters that have a penalty, with it."""
        return [(n, d.penalty) for n, d in self.declarations.items() if d.penalty is not None]
