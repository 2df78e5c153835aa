"""Layers side by side: Residual, which adds them up, and Concat, which joins their channels.

With Sequential they compose ResNet, Inception and DenseNet without a graph.  One layer object is
used once in a forward: `Sequential.build` refuses the second place.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from ..backend import Array, Shape, array_module
from .base import Layer, join, naming
from .sequential import Sequential


@dataclass(eq=False, repr=False)
class Residual(Layer):
    """Add a way round: y = body(x) + shortcut(x), shortcut(x) = x if None (He et al. 2016).

    A sum copies its gradient: dx = body.backward(dy) + shortcut.backward(dy).
    body, shortcut: a layer or a list of layers, with equal output shapes.
    """

    body: Layer | list[Layer]
    shortcut: Layer | list[Layer] | None = None

    def __post_init__(self) -> None:
        self.main = as_layer(self.body)
        self.side = None if self.shortcut is None else as_layer(self.shortcut)
        if self.trainable is not True:
            self.trainable = self.trainable  # of the layers inside

    def children(self) -> list[tuple[str, Layer]]:
        pairs = [("body", self.main), ("shortcut", self.side)]
        return [(name, layer) for name, layer in pairs if layer is not None]

    def resolve(self, input_shape: Shape) -> Shape:
        shapes = [a.connect(input_shape, join(self.path, name)) for name, a in self.children()]
        if self.side is None:
            shapes.append(input_shape)
        if shapes[0] != shapes[1]:
            raise self.refuse(
                input_shape,
                f"body and shortcut of one shape, they make {shapes[0]} and {shapes[1]}: give a "
                "shortcut that changes shape likewise, such as Conv2D(filters, 1, strides)",
            )
        return shapes[0]

    def forward(self, x: Array, training: bool = False) -> Array:
        around = x if self.side is None else through(self.side, "forward", x, training)
        return through(self.main, "forward", x, training) + around

    def infer(self, x: Array) -> Array:
        return through(self.main, "infer", x) + (
            x if self.side is None else through(self.side, "infer", x)
        )

    def backward(self, dy: Array) -> Array:
        around = dy if self.side is None else through(self.side, "backward", dy)
        return through(self.main, "backward", dy) + around

    def config(self) -> dict[str, Any]:
        return super().config() | {name: layer.config() for name, layer in self.children()}


@dataclass(eq=False, repr=False)
class Concat(Layer):
    """Lay branches side by side: y = the channels of every branch(x), in order.

    The gradient is cut where the outputs were joined, and x collects from every branch.
    branches: layers or lists of layers, with outputs of equal height and width; None is x itself,
    as in DenseNet (Huang et al. 2017).
    """

    branches: list[Layer | list[Layer] | None]

    def __post_init__(self) -> None:
        if not isinstance(self.branches, tuple | list) or not any(
            branch is not None for branch in self.branches
        ):
            raise ValueError(
                "Concat: expected a list of branches, each a layer or a list of them; None is x "
                "itself, beside others"
            )
        self.parts = [None if each is None else as_layer(each) for each in self.branches]
        if self.trainable is not True:
            self.trainable = self.trainable  # of the layers inside

    def children(self) -> list[tuple[str, Layer]]:
        pairs = [(f"branch_{i}", part) for i, part in enumerate(self.parts, start=1)]
        return [(name, part) for name, part in pairs if part is not None]

    def resolve(self, input_shape: Shape) -> Shape:
        for name, part in self.children():
            part.connect(input_shape, join(self.path, name))
        shapes = [self.shape_of(part) for part in self.parts]
        if len({shape[:-1] for shape in shapes}) > 1:
            raise self.refuse(
                input_shape, f"branches of one height and width, they make {shapes}: pad them"
            )
        return (*shapes[0][:-1], sum(shape[-1] for shape in shapes))

    def forward(self, x: Array, training: bool = False) -> Array:
        ys = [x if part is None else through(part, "forward", x, training) for part in self.parts]
        return array_module(x).concatenate(ys, axis=-1)

    def infer(self, x: Array) -> Array:
        ys = [x if part is None else through(part, "infer", x) for part in self.parts]
        return array_module(x).concatenate(ys, axis=-1)

    def backward(self, dy: Array) -> Array:
        dx, end = 0, 0
        for part in self.parts:
            start, end = end, end + self.shape_of(part)[-1]
            piece = dy[..., start:end]
            dx = dx + (piece if part is None else through(part, "backward", piece))
        return dx

    def shape_of(self, part: Layer | None) -> Shape:
        """Return the shape of what a branch makes."""
        return self.input_shape if part is None else part.output_shape

    def config(self) -> dict[str, Any]:
        branches = [None if part is None else part.config() for part in self.parts]
        return super().config() | {"branches": branches}


def through(layer: Layer, way: str, x: Array, *options: Any) -> Array:
    """Go through a layer "forward", "infer" or "backward"; out of memory, its name is told."""
    with naming(layer, x):
        return getattr(layer, way)(x, *options)


def as_layer(layers: Layer | Sequence[Layer]) -> Layer:
    """Return a layer as it is, and a list of layers as a `Sequential`."""
    return layers if isinstance(layers, Layer) else Sequential(*layers)
