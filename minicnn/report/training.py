"""What is known of the training: the epochs and settings that a run left beside its model."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ..checkpoint.file import CheckpointError, opened
from ..checkpoint.json_text import shorten, too_deep, unique
from ..checkpoint.schema import check_record
from ..run import Epoch

LARGEST = 16 << 20  # bytes of a metrics.json
SETTINGS = 200  # that are listed
LONG = 500  # characters of one


@dataclass
class Training:
    """How a model was trained, as far as it is known.

    epochs: their records.  settings: pairs of a name and what it was.  note: what is missing, and
    why.  metrics: what is in metrics.json.
    """

    epochs: list[Epoch] = field(default_factory=list)
    settings: list[tuple[str, Any]] = field(default_factory=list)
    note: str = ""
    metrics: dict[str, Any] = field(default_factory=dict)


def read_training(path: str | os.PathLike[str] | None) -> Training:
    """Return what is known of the training of a model, or of the run in a folder.

    It is read from metrics.json, as examples/train_cifar.py leaves it, or else from the state of
    the run, which the model's own file or last.safetensors has.  Without either, the note says so.
    """
    if path is None:
        return Training(note="The model was given without its run: no curves, no settings.")
    place = Path(path)
    folder = place if place.is_dir() else place.parent
    if (folder / "metrics.json").is_file():
        try:
            return of_metrics(read_metrics(folder / "metrics.json"))
        except (OSError, ValueError, TypeError, RecursionError) as error:
            why = f"{type(error).__name__}: {shorten(error)}"
            return Training(note=f"metrics.json beside the model can't be used: {why}")
    for file in (place, folder / "last.safetensors"):
        if file.is_file():
            found = of_state(file)
            if found is not None:
                return found
    return Training(note="There is no run beside the model's file: no curves, no settings.")


def read_metrics(path: Path) -> dict[str, Any]:
    """Return what a metrics.json says; raise ValueError or TypeError if it isn't one."""
    if path.stat().st_size > LARGEST:
        raise ValueError(f"it has more than {LARGEST:,} bytes")
    found = json.loads(path.read_text(encoding="utf-8"), object_pairs_hook=unique)
    if not isinstance(found, dict):
        raise TypeError("it isn't a dictionary")
    if too_deep(found):
        raise ValueError("too many lists lie inside each other")
    return found


def of_metrics(found: dict[str, Any]) -> Training:
    """Return a training as metrics.json has it."""
    epochs = records(found.get("epochs", []))
    settings = [(key, value) for key, value in found.items() if key != "epochs"]
    note = "" if epochs else "metrics.json has no epochs: no curves."
    return Training(epochs, list(flat(dict(settings))), note, found)


def of_state(file: Path) -> Training | None:
    """Return a training as the state of a run has it; None if the file has no such state."""
    try:
        with opened(file) as contents:
            found = contents.description
        if "run" not in found:
            return None
        run, optimizer = found["run"], found["optimizer"]
        epochs = records(run["records"])
        settings = {
            "optimizer": {"name": optimizer["type"], **optimizer["options"]},
            "batch_size": run["batch_size"],
            "steps": optimizer["steps"],
        }
        if not epochs:
            return Training([], list(flat(settings)), "No epoch of the run is done: no curves.")
        return Training(epochs, list(flat(settings)))
    except (CheckpointError, ValueError, TypeError, LookupError) as error:
        return Training(note=f"The state of the run can't be read: {shorten(error)}")


def records(found: Any) -> list[Epoch]:
    """Return the records of epochs; raise ValueError if they aren't that."""
    if not isinstance(found, list):
        raise ValueError(f"epochs {shorten(found)}: expected a list")
    for i, record in enumerate(found):
        check_record(record, i)
    return [Epoch(**record) for record in found]


def flat(values: Mapping[str, Any], above: str = "") -> Iterator[tuple[str, Any]]:
    """Yield names and values, those inside tables as "optimizer.lr"; nothing that is empty."""
    for key, value in values.items():
        if isinstance(value, Mapping):
            yield from flat(value, f"{above}{key}.")
        elif value not in ("", None, [], {}):
            yield shorten(f"{above}{key}", 100), shorten(plain(value), LONG)


def plain(value: Any) -> str:
    """Write a value as people do: lists without brackets, tables in lists with their names."""
    if isinstance(value, list):
        return ", ".join(plain(item) for item in value)
    if isinstance(value, Mapping):
        return " ".join(
            plain(item) if key == "name" else f"{key}={plain(item)}" for key, item in value.items()
        )
    if isinstance(value, bool):
        return "yes" if value else "no"
    return f"{value:.6g}" if isinstance(value, float) else str(value)
