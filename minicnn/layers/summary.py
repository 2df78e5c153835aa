"""The table that `Sequential.summary` returns."""

from __future__ import annotations

from dataclasses import dataclass
from math import prod

from ..backend import Shape
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
    """

    rows: tuple[Row, ...]
    parameters: int
    multiply_adds: int

    @classmethod
    def of(cls, model: Layer) -> Summary:
        """Measure a built model."""
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
        return cls(tuple(rows), parameters, sum(row.multiply_adds for row in rows))

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

        return "\n".join([line(lines[0]), rule, *map(line, lines[1:]), rule, line(total)])

    __repr__ = __str__
