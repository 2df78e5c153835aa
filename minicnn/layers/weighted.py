"""What Conv2D and Dense share: weights w, and perhaps a bias b."""

from __future__ import annotations

from typing import Any

from ..backend import Array
from ..initializers import get
from ..params import Penalty
from .base import Layer


class Weighted(Layer):
    """A layer with weights: a subclass has the options below, ``forward``, and ``gradients``."""

    use_bias: bool
    kernel_initializer: str
    bias_initializer: str
    kernel_regularizer: Penalty | None

    def check_options(self) -> None:
        """Raise ValueError for an option that can't be."""
        get(self.kernel_initializer), get(self.bias_initializer)
        if not isinstance(self.kernel_regularizer, Penalty | None):
            raise ValueError(
                f"kernel_regularizer {self.kernel_regularizer!r}: expected L1(...) or L2(...)"
            )

    def gradients(self, dy: Array, cache: Any, need_dx: bool) -> tuple[Any, Array, Any]:
        """Return dx, dw and db; dx is None where it isn't needed, db where there is no bias."""
        raise NotImplementedError

    def backward(self, dy: Array) -> Array:
        return self.go_back(dy, need_dx=True)

    def backward_params(self, dy: Array) -> None:
        self.go_back(dy, need_dx=False)

    def go_back(self, dy: Array, need_dx: bool) -> Array:
        """Write dw and db; return dx, or None where it isn't needed."""
        dx, self.dw[...], db = self.gradients(dy, self.take_cache(), need_dx)
        if self.use_bias:
            self.db[...] = db
        return dx
