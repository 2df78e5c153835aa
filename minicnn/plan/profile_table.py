"""The table that `Sequential.profile` returns."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from typing import Any, TypeAlias

from ..layers import Sequential

WIDTH = 100  # letters in a line, at most
WAYS = "forward", "backward"

Key: TypeAlias = tuple[str, ...] | str
"""Whose something is: the path of the last of some layers, in a tuple; or one of these words."""

COPIES, LOSS, SUM = "copies in and out", "loss", "sum of the slices' gradients"
PREPARED, MEETINGS, WAITING = "prepared for all slices", "meetings", "waiting"
BETWEEN = "between the layers"
REST = COPIES, PREPARED, MEETINGS, WAITING, BETWEEN, SUM, LOSS


@dataclass(frozen=True)
class Row:
    """A line of the table: layers that are done at once, or what else takes time.

    layers: their paths; none for what else there is.  gflops: 1e9 operations a second, two for each
    multiply-add of a plain convolution, however it is done.  held_bytes: memory that was taken for
    these layers in forward and is kept until backward.
    """

    name: str
    layers: tuple[str, ...]
    forward_ms: float
    backward_ms: float
    share: float
    forward_gflops: float = 0.0
    backward_gflops: float = 0.0
    held_bytes: int = 0


@dataclass(frozen=True)
class Profile:
    """A training step on one batch, without the optimizer.  Printing it gives the table.

    steps: how many were measured; every time is a median over them, so the rows add up to about
    step_ms.  work_ms: of all threads together, without waiting.  buffer_bytes: all memory of the
    plan, 0 if there is none.
    """

    rows: tuple[Row, ...]
    batch_size: int
    device: str
    threads: int
    steps: int
    step_ms: float
    work_ms: float
    images_per_second: float
    buffer_bytes: int

    def as_dict(self) -> dict[str, Any]:
        """Return all of it as dictionaries and numbers."""
        return asdict(self)

    def __str__(self) -> str:
        table: list[tuple[str, ...]] = [
            ("", "forward", "backward", "share", "forward", "backward", "held"),
            ("layers", "ms", "ms", "%", "GFLOP/s", "GFLOP/s", "MB"),
        ]
        for row in (*self.rows, self.total()):
            times = row.forward_ms, row.backward_ms, 100 * row.share
            rates = row.forward_gflops, row.backward_gflops
            table.append((row.name, *map(shown, (*times, *rates, row.held_bytes / 1e6))))
        widths = [max(map(len, column)) for column in zip(*table, strict=True)]
        numbers = sum(widths[1:]) + 2 * len(widths[1:])
        width = min(widths[0], WIDTH - numbers)
        blocks = []
        for name, *cells in table:
            first, *more = textwrap.wrap(name, width, subsequent_indent="    ") or [""]
            right = [cell.rjust(w) for cell, w in zip(cells, widths[1:], strict=True)]
            blocks.append("\n".join(["  ".join([first.ljust(width), *right]).rstrip(), *more]))
        rule = "-" * (width + numbers)
        return "\n".join(
            [*blocks[:2], rule, *blocks[2:-1], rule, blocks[-1], "", *self.conclusion()]
        )

    __repr__ = __str__

    def total(self) -> Row:
        """Return the sum of all rows."""
        forward, backward = (sum(getattr(a, f"{way}_ms") for a in self.rows) for way in WAYS)
        share, held = sum(a.share for a in self.rows), sum(a.held_bytes for a in self.rows)
        return Row("total", (), forward, backward, share, held_bytes=held)

    def conclusion(self) -> Iterator[str]:
        """Yield what stands below the table."""
        yield (
            f"{self.step_ms:.2f} ms, {self.images_per_second:,.0f} images/s: a step on "
            f"{self.batch_size} pictures without the optimizer, median of {self.steps}"
        )
        if self.buffer_bytes:
            yield (
                f"threads: {self.threads}, at work for {self.work_ms:.2f} ms in all; above is the "
                "mean of what they share"
            )
            yield f"memory of all buffers: {self.buffer_bytes / 1e6:.1f} MB"
        elif self.device == "cpu":
            yield "layer by layer: a model with methods of its own has no plan"
        else:
            yield f"layer by layer: the clock waits for {self.device} after each, training doesn't"


def shown(number: float) -> str:
    """Write a number with about three digits, and zero as nothing."""
    digits = 2 if number < 9.995 else 1 if number < 99.95 else 0
    return f"{number:,.{digits}f}" if number else ""


def rows_of(
    model: Sequential,
    N: int,
    runs: Mapping[Key, tuple[str, ...]],
    times: Mapping[tuple[str, Key], float],
    held: Mapping[Key, int],
) -> tuple[Row, ...]:
    """Return the rows: all layers in order, then the rest.

    runs: by key, the paths of layers that are done at once.  times: seconds, by way and key.
    held: bytes, by key.
    """
    layers = {layer.path: layer for layer in model.walk()}
    first = next((path for path, layer in layers.items() if layer.trained), "")
    some = {key for (_, key), seconds in times.items() if seconds}
    paths = {key: (key,) if isinstance(key, str) else key for key in some} | dict(runs)
    seen = {path for run in paths.values() for path in run}
    for path, layer in layers.items():
        if path not in seen and not layer.children():
            paths[path,] = (path,)  # a layer that takes no time
    order = {name: place for place, name in enumerate([*layers, *REST])}
    total = sum(times.values())

    def row(key: Key, run: tuple[str, ...]) -> Row:
        forward, backward = times.get(("forward", key), 0.0), times.get(("backward", key), 0.0)
        products = {path: 2 * N * layers[path].multiply_adds for path in run if path in layers}
        back = {path: n if path == first else 2 * n for path, n in products.items()}  # dw; dx, dw
        return Row(
            key if isinstance(key, str) else short(run),
            () if isinstance(key, str) else run,
            1e3 * forward,
            1e3 * backward,
            (forward + backward) / total,
            sum(products.values()) / forward / 1e9 if forward else 0.0,
            sum(back.values()) / backward / 1e9 if backward else 0.0,
            held.get(key, 0),
        )

    ordered = sorted(paths.items(), key=lambda item: order.get(item[1][0], len(order)))
    return tuple(row(key, run) for key, run in ordered)


def short(run: tuple[str, ...]) -> str:
    """Name layers that are done at once: the folder of each, unless the one before has it too."""
    names, before = [], None
    for path in run:
        where, _, name = path.rpartition("/")
        names.append(name if where == before else path)
        before = where
    return " + ".join(names)
