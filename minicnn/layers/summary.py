"""The table that `Sequential.summary` returns."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from math import prod
from typing import Any, TypeAlias

from ..backend import Array, Shape
from ..functional.windows import COLUMN_BYTES
from .base import Layer

Estimator: TypeAlias = Callable[[Any, int], tuple[int, int] | None]

ESTIMATORS: list[Estimator] = []
"""Who may know the bytes that a batch of N takes in a model, in training and in prediction, beside
the parameters.  ``plan``, which stands on a higher floor, knows how it is on the CPU."""


@dataclass(frozen=True)
class Row:
    """One layer of the table."""

    depth: int
    name: str
    kind: str
    output_shape: Shape
    parameters: int
    multiply_adds: int


@dataclass(frozen=True)
class Summary:
    """A network, layer by layer.  Printing it gives the table.

    parameters: the number of their values; frozen: of how many that aren't trained.
    multiply_adds: of one picture's forward pass.
    training_bytes, prediction_bytes: estimates for a batch, where a batch size was given.
    """

    rows: tuple[Row, ...]
    parameters: int
    multiply_adds: int
    batch_size: int | None = None
    training_bytes: int = 0
    prediction_bytes: int = 0
    frozen: int = 0

    @classmethod
    def of(cls, model: Layer, batch_size: int | None = None, itemsize: int = 4) -> Summary:
        """Measure a built model.

        In training each parameter has a gradient and up to two numbers of an optimizer.
        """
        rows = []

        def visit(layer: Layer, name: str, depth: int) -> None:
            size = sum(prod(wanted.shape) for wanted in layer.declared.values())
            kind = type(layer).__name__
            rows.append(Row(depth, name, kind, layer.output_shape, size, layer.multiply_adds))
            for child_name, child in layer.children():
                visit(child, child_name, depth + 1)

        for name, layer in model.children():
            visit(layer, name, 0)
        parameters = sum(row.parameters for row in rows)
        multiply_adds = sum(row.multiply_adds for row in rows)
        frozen = sum(
            prod(wanted.shape)
            for layer in model.walk()
            for name, wanted in layer.declared.items()
            if name not in layer.trained
        )
        if batch_size is None:
            return cls(tuple(rows), parameters, multiply_adds, frozen=frozen)
        asked = (estimate(model, batch_size) for estimate in [*ESTIMATORS, layer_by_layer])
        training, predicting = next(answer for answer in asked if answer is not None)
        training, predicting = (
            training + 4 * parameters * itemsize,
            predicting + parameters * itemsize,
        )
        return cls(tuple(rows), parameters, multiply_adds, batch_size, training, predicting, frozen)

    def __str__(self) -> str:
        lines = [("layer", "type", "output shape", "parameters", "multiply-adds")]
        for row in self.rows:
            shape = "(N, " + ", ".join(map(str, row.output_shape)) + ")"
            counts = [f"{n:,}" if n else "" for n in (row.parameters, row.multiply_adds)]
            lines.append(("  " * row.depth + row.name, row.kind, shape, counts[0], counts[1]))
        total = ("total", "", "", f"{self.parameters:,}", f"{self.multiply_adds:,}")
        widths = [max(len(cell) for cell in column) for column in zip(*lines, total, strict=True)]
        rule = "-" * (sum(widths) + 2 * (len(widths) - 1))

        def line(cells: tuple[str, ...]) -> str:
            left = [c.ljust(w) for c, w in zip(cells[:3], widths[:3], strict=True)]
            right = [c.rjust(w) for c, w in zip(cells[3:], widths[3:], strict=True)]
            return "  ".join(left + right).rstrip()

        table = [line(lines[0]), rule, *map(line, lines[1:]), rule, line(total)]
        if self.frozen:
            trained = self.parameters - self.frozen
            table.append(f"{trained:,} of the parameters are trained, {self.frozen:,} are frozen")
        if self.batch_size is not None:
            table.append(
                f"about {self.training_bytes / 1e6:,.0f} MB to train in batches of "
                f"{self.batch_size}, {self.prediction_bytes / 1e6:,.0f} MB to predict"
            )
        return "\n".join(table)

    __repr__ = __str__


def layer_by_layer(model: Any, N: int) -> tuple[int, int]:
    """Estimate what a batch of N takes where one layer runs after the other, on all of it.

    In training, what the layers keep for backward, and for a moment the largest output and its
    gradient; or then, in an optimizer on a GPU, four arrays in the size of the parameters.  In
    prediction, a layer's input, output and one between.
    """
    x = model.device.xp.zeros((1, *model.input_shape), dtype=model.dtype)
    model.forward(x)
    kept = cached_bytes(model, model.params.data)
    model.forget()
    largest = max(prod(layer.output_shape) for layer in model.walk() if not layer.children())
    largest *= x.itemsize
    update = 4 * model.params.data.nbytes if model.device.kind == "gpu" else 0
    training = max(N * (kept + 2 * largest) + 3 * COLUMN_BYTES, update)
    return training, 3 * N * largest + 3 * COLUMN_BYTES


def cached_bytes(layer: Layer, *known: Array) -> int:
    """Return the bytes in the caches of a layer and of those inside, but for arrays known."""
    arrays: dict[int, int] = {}

    def collect(value: Any) -> None:
        if isinstance(value, tuple | list):
            for item in value:
                collect(item)
        elif hasattr(value, "nbytes"):
            whole = value if value.base is None else value.base
            arrays[id(whole)] = int(value.nbytes)

    for part in layer.walk():
        collect(part.cache)
    return sum(size for key, size in arrays.items() if key not in set(map(id, known)))
