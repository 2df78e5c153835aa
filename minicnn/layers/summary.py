"""The table that `Sequential.summary` returns."""

from __future__ import annotations

from dataclasses import dataclass
from math import prod
from typing import Any

from ..backend import Shape
from ..functional.windows import COLUMN_BYTES
from .base import Layer


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

    parameters: the number of trained values.  multiply_adds: of one picture's forward pass.
    training_bytes, prediction_bytes: estimates for a batch, where a batch size was given.
    """

    rows: tuple[Row, ...]
    parameters: int
    multiply_adds: int
    batch_size: int | None = None
    training_bytes: int = 0
    prediction_bytes: int = 0

    @classmethod
    def of(cls, model: Layer, batch_size: int | None = None, itemsize: int = 4) -> Summary:
        """Measure a built model.

        What the layers keep for backward is measured on one picture.  Besides, in training, the
        largest output and its gradient exist for a moment, and each parameter has a gradient and
        up to two numbers of an optimizer; in prediction, a layer's input, output and one between.
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
        if batch_size is None:
            return cls(tuple(rows), parameters, multiply_adds)
        leaves = [layer for layer in model.walk() if not layer.children()]
        largest = max(prod(layer.output_shape) for layer in leaves) * itemsize
        kept = kept_bytes(model) + 2 * largest
        training = 4 * parameters * itemsize + batch_size * kept + 3 * COLUMN_BYTES
        predicting = parameters * itemsize + 3 * batch_size * largest + 3 * COLUMN_BYTES
        return cls(tuple(rows), parameters, multiply_adds, batch_size, training, predicting)

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
        if self.batch_size is not None:
            table.append(
                f"about {self.training_bytes / 1e6:,.0f} MB to train in batches of "
                f"{self.batch_size}, {self.prediction_bytes / 1e6:,.0f} MB to predict"
            )
        return "\n".join(table)

    __repr__ = __str__


def kept_bytes(model: Any) -> int:
    """Return the bytes that a forward pass leaves in the caches for one picture."""
    x = model.device.xp.zeros((1, *model.input_shape), dtype=model.dtype)
    model.forward(x)
    arrays: dict[int, int] = {}

    def collect(value: Any) -> None:
        if isinstance(value, tuple | list):
            for item in value:
                collect(item)
        elif hasattr(value, "nbytes") and value.base is not model.params.data:
            whole = value if value.base is None else value.base
            arrays[id(whole)] = int(value.nbytes)

    for layer in model.walk():
        collect(layer.cache)
    model.forget()
    return sum(arrays.values())
