"""Copies of a model's weights and buffers, for processes that share memory.

The model's own arrays stay as they are: who forks a process has a model of his own there.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np

from ..backend import Array, Shape
from ..layers import Layer
from ..params import Parameters


class Copies:
    """Arrays in other memory for the parameters and buffers of some layers; gradients stay.

    room: gives an array of a shape and dtype there.
    """

    def __init__(
        self, params: Parameters, layers: Sequence[Layer], room: Callable[[Shape, Any], Array]
    ) -> None:
        self.original, self.layers = params, layers
        self.params = params.over(room(params.data.shape, params.data.dtype), params.grad)
        self.buffers = [
            {name: room(a.shape, a.dtype) for name, a in layer.buffers.items()} for layer in layers
        ]
        self.take()

    def take(self) -> None:
        """Copy what the parameters and buffers are now."""
        np.copyto(self.params.data, self.original.data)
        for layer, buffers in zip(self.layers, self.buffers, strict=True):
            for name, copy in buffers.items():
                np.copyto(copy, layer.buffers[name])

    @contextmanager
    def instead(self) -> Iterator[None]:
        """Let the layers have the copies within the block."""
        before = [dict(vars(layer)) for layer in self.layers]
        try:
            for layer, buffers in zip(self.layers, self.buffers, strict=True):
                layer.attach(self.params)
                layer.buffers = buffers
            yield
        finally:
            for layer, attributes in zip(self.layers, before, strict=True):
                vars(layer).update(attributes)
