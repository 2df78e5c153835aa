"""What the description of a training run has to say: every field, its type and its range."""

from __future__ import annotations

from collections.abc import Mapping
from math import inf
from pathlib import Path
from typing import Any

from ..options import number, whole
from .file import CheckpointError
from .json_text import shorten

MOST = 2**63 - 1
"""Nothing that a run counts is more."""


def check_training(path: Path, description: Mapping[str, Any], examples: int) -> None:
    """Raise `CheckpointError` naming file and field unless a run can be taken up from this.

    examples: how many an epoch has.  The arrays, and whether it is the same run, come afterwards.
    """
    try:
        if "run" not in description:
            raise ValueError("run is missing")
        check_run(table(description, "run"), examples)
        check_optimizer(table(description, "optimizer"))
    except ValueError as error:
        raise CheckpointError(
            f"{path}: its training state is broken: {shorten(error)}. Take an earlier one"
        ) from error


def check_run(run: Mapping[str, Any], examples: int) -> None:
    """Check the part about the run; see `State` and `write_state`."""
    fields = ("epoch", "position", "seconds", "meter", "best", "records")
    given(run, "run", (*fields, "streams", "batch_size", "data"))
    epoch = count(run["epoch"], "run.epoch")
    if count(run["position"], "run.position") > examples:
        raise ValueError(f"run.position {run['position']}: an epoch has {examples} pictures")
    finite(run["seconds"], "run.seconds", least=0)
    count(run["batch_size"], "run.batch_size", least=1)
    text(run["data"], "run.data")

    seen, loss, right = items(run["meter"], "run.meter", 3)
    figure(loss, "run.meter[1]")
    if count(right, "run.meter[2]") > count(seen, "run.meter[0]"):
        raise ValueError(f"run.meter: {right} right answers of {seen}")
    if run["best"] is not None:
        finite(run["best"], "run.best")

    for i, record in enumerate(items(run["records"], "run.records", epoch)):
        check_record(record, i)
    for name, pair in table(run, "streams", "run.").items():
        name = f"run.streams.{shorten(name, 50)}"
        seed, position = items(pair, name, 2)
        whole(seed, f"{name}[0]", least=0)
        count(position, f"{name}[1]")


def check_record(record: Any, i: int) -> None:
    """Check one epoch's record; its fields are those of `run.Epoch`."""
    name = f"run.records[{i}]"
    if not isinstance(record, dict):
        raise ValueError(f"{name} {record!r}: expected a dictionary")
    figures = ("loss", "accuracy", "lr", "seconds", "images_per_second")
    given(record, name, ("epoch", *figures, "val_loss", "val_accuracy"), only=True)
    if count(record["epoch"], f"{name}.epoch") != i + 1:
        raise ValueError(f"{name}.epoch {record['epoch']}: expected {i + 1}")
    for key in figures:
        figure(record[key], f"{name}.{key}")
    for key in ("val_loss", "val_accuracy"):
        if record[key] is not None:
            figure(record[key], f"{name}.{key}")


def check_optimizer(optimizer: Mapping[str, Any]) -> None:
    """Check the part about the optimizer."""
    given(optimizer, "optimizer", ("type", "steps", "lr", "options", "plateau"))
    text(optimizer["type"], "optimizer.type")
    count(optimizer["steps"], "optimizer.steps")
    finite(optimizer["lr"], "optimizer.lr", least=0)
    table(optimizer, "options", "optimizer.")
    if optimizer["plateau"] is not None:
        plateau = table(optimizer, "plateau", "optimizer.")
        given(plateau, "optimizer.plateau", ("lr", "best", "waited"))
        finite(plateau["lr"], "optimizer.plateau.lr", least=0)
        figure(plateau["best"], "optimizer.plateau.best")
        count(plateau["waited"], "optimizer.plateau.waited")


# What a value may be.  Each raises ValueError with the value's name.


def given(
    values: Mapping[str, Any], name: str, wanted: tuple[str, ...], only: bool = False
) -> None:
    """Check that the wanted keys are there, and (``only``) no others."""
    missing = [key for key in wanted if key not in values]
    if missing:
        raise ValueError(f"{name}.{missing[0]} is missing")
    more = [key for key in values if key not in wanted]
    if only and more:
        raise ValueError(f"{name}.{shorten(more[0], 50)} is unknown")


def table(values: Mapping[str, Any], key: str, above: str = "") -> dict[str, Any]:
    """Return the dictionary at ``key``."""
    value = values.get(key)
    if not isinstance(value, dict):
        raise ValueError(f"{above}{key} {value!r}: expected a dictionary")
    return value


def items(value: Any, name: str, length: int) -> list[Any]:
    """Return a list of this length."""
    if not isinstance(value, list) or len(value) != length:
        raise ValueError(f"{name} {value!r}: expected a list of {length}")
    return value


def text(value: Any, name: str) -> None:
    """Check a text."""
    if not isinstance(value, str):
        raise ValueError(f"{name} {value!r}: expected a text")


def count(value: Any, name: str, least: int = 0) -> int:
    """Return an integer that a run may have counted to."""
    if whole(value, name, least) > MOST:
        raise ValueError(f"{name} {value!r}: expected an integer <= {MOST}")
    return int(value)


def figure(value: Any, name: str) -> None:
    """Check a number that nothing depends on: NaN and infinity, which a run may write, are such."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise ValueError(f"{name} {value!r}: expected a number")
    if isinstance(value, int) and abs(value) > MOST:
        raise ValueError(f"{name} {value!r}: expected a smaller number")


def finite(value: Any, name: str, least: float = -inf) -> None:
    """Check a finite number."""
    figure(value, name)
    number(value, name, least=least)
