"""What is known of a training run from its folder: its figures, or how far it has come."""

from __future__ import annotations

import json
import statistics
from collections.abc import Callable, Mapping
from math import inf, prod
from pathlib import Path
from typing import Any

from ..checkpoint.file import CheckpointError, Contents, opened
from ..checkpoint.folder import RunFolder
from ..checkpoint.json_text import too_deep
from ..checkpoint.model import model_of
from ..checkpoint.schema import MOST, check_training

Facts = dict[str, Any]

SETTINGS = ("dataset", "model", "recipe", "optimizer", "batch_size", "lr", "device", "seed")
"""What was chosen.  lr: the recipe's, or the highest at an epoch's end."""

FIGURES: dict[str, Callable[..., float] | None] = {
    "parameters": None,
    "epochs": None,
    "training_seconds": min,
    "images_per_second": max,
    "val_loss": min,
    "val_accuracy": max,
    "test_loss": min,
    "test_accuracy": max,
}
"""What came of it, and which is the better.  val_: of the best epoch in that."""

EXPECTED: dict[type, str] = {list: "a list", str: "a text", dict: "a dictionary"}


def read_run(path: str) -> Facts:
    """Return the facts of a run: its `SETTINGS`, its `FIGURES`, each None if unknown, and

    state: "finished", "unfinished", or "finished, gone on" with epochs that its figures don't know.
    tables: all of its recipe, one key for each setting, such as
    "optimizer.momentum".  data: the fingerprint of its training pictures.  notes: what is odd.

    Nothing but the descriptions is read of checkpoints, not the weights.  Raises OSError or
    ValueError, with the reason, if the folder holds no run or what it holds is broken.
    """
    folder = Path(path)
    if not folder.is_dir():
        raise ValueError("there is no such folder")
    facts: Facts = dict.fromkeys([*SETTINGS, *FIGURES, "data"]) | {"tables": {}, "notes": []}
    saved = saved_state(folder, facts["notes"])
    records = [] if saved is None else saved["run"]["records"]
    if saved is not None:
        facts |= {
            "optimizer": saved["optimizer"]["type"],
            "batch_size": saved["run"]["batch_size"],
            "data": saved["run"]["data"],
            "parameters": saved["parameters"],
            "state": "unfinished",
        }
    file = folder / "metrics.json"
    if file.exists():
        done = len(records)
        records = take_metrics(facts, read_metrics(file))
        facts["state"] = "finished"
        if done > len(records):
            facts["state"] = "finished, gone on"
            facts["notes"].append(f"its figures are of {len(records)} epochs, it has done {done}")
    elif saved is None:
        raise ValueError("it holds no run: neither metrics.json nor a checkpoint")
    take_records(facts, records)
    return facts


def read_metrics(file: Path) -> dict[str, Any]:
    """Return what a metrics.json says, its types checked; raise ValueError where one is wrong."""
    try:
        found = json.loads(file.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        raise ValueError(f"metrics.json isn't JSON: {error}") from error
    if not isinstance(found, dict) or too_deep(found):
        raise ValueError(
            "metrics.json: expected a dictionary, as examples/train_cifar.py writes it"
        )
    kinds: dict[str, tuple[type, ...]] = {
        "epochs": (list,), "test_loss": (int, float), "test_accuracy": (int, float)
    }  # fmt: skip
    for key, kind in kinds.items():
        check(found, key, kind)
    more: dict[str, tuple[type, ...]] = {
        "dataset": (str,), "model": (str,), "device": (str,), "seed": (int,),
        "parameters": (int,), "recipe": (dict,),
    }  # fmt: skip
    for key, kind in more.items():
        if found.get(key) is not None:
            check(found, key, kind)
    for record in found["epochs"]:
        if not isinstance(record, dict):
            raise ValueError(f"metrics.json: epochs holds {record!r:.50}, expected dictionaries")
        for key in ("val_loss", "val_accuracy", "lr", "seconds", "images_per_second"):
            if record.get(key) is not None:
                check(record, key, (int, float), "of an epoch ")
    return found


def check(values: Mapping[str, Any], key: str, kinds: tuple[type, ...], where: str = "") -> None:
    """Raise ValueError unless there is such a key, and its value of one of these kinds."""
    value = values.get(key)
    if key not in values:
        raise ValueError(f"metrics.json: {key} {where}is missing")
    if isinstance(value, bool) or not isinstance(value, kinds):
        wanted = EXPECTED.get(kinds[0], "a number")
        raise ValueError(f"metrics.json: {key} {where}is {value!r:.50}, expected {wanted}")


def take_metrics(facts: Facts, found: dict[str, Any]) -> list[dict[str, Any]]:
    """Add what a metrics.json says; return the records of its epochs."""
    for key in ("dataset", "model", "device", "seed", "parameters", "test_loss", "test_accuracy"):
        facts[key] = found.get(key, facts[key])
    if recipe := found.get("recipe"):
        facts["tables"] = tables = flat(recipe)
        facts["recipe"] = tables.pop("name", None)
        tables.pop("about", None)
        for ours, theirs in (
            ("optimizer", "optimizer.name"),
            ("batch_size", "training.batch_size"),
            ("lr", "schedule.lr"),
        ):
            facts[ours] = tables.get(theirs, facts[ours])
    return list(found["epochs"])


def take_records(facts: Facts, records: list[dict[str, Any]]) -> None:
    """Add what the records of its epochs say of a run."""

    def known(key: str) -> list[float]:
        return [record[key] for record in records if record.get(key) is not None]

    facts["epochs"] = len(records)
    facts["val_loss"] = min((v for v in known("val_loss") if v < inf), default=None)
    facts["val_accuracy"] = max(known("val_accuracy"), default=None)
    if facts["lr"] is None:
        facts["lr"] = max(known("lr"), default=None)
    facts["training_seconds"] = sum(known("seconds")) if records else None
    if speeds := known("images_per_second"):
        facts["images_per_second"] = statistics.median(speeds)


def flat(tables: Mapping[str, Any], above: str = "") -> Facts:
    """Return nested dictionaries as one, its keys joined by dots."""
    found: Facts = {}
    for key, value in tables.items():
        found |= flat(value, f"{above}{key}.") if isinstance(value, dict) else {above + key: value}
    return found


def saved_state(folder: Path, notes: list[str]) -> dict[str, Any] | None:
    """Return the description of the newest checkpoint that can be read; None if there is none.

    With "parameters", their number, or None if the model has layers of somebody's own.  Raises
    ValueError if there are some, and none can be read.
    """
    places = RunFolder(folder).newest_first()
    failures = []
    for path in places:
        if not path.exists():
            continue
        try:
            with opened(path) as contents:
                check_training(path, contents.description, MOST)
                found = {**contents.description, "parameters": parameters(contents)}
        except CheckpointError as error:
            failures.append(str(error))
            continue
        notes.extend(f"{failure} (taken: {path.name})" for failure in failures)
        return found
    if failures and not (folder / "metrics.json").exists():
        raise ValueError(failures[0])
    notes.extend(failures[:1])
    return None


def parameters(contents: Contents) -> int | None:
    """Return how many parameters the model in a file has; None if it can't be built here."""
    try:
        return sum(
            prod(wanted.shape) for wanted in model_of(contents, None).declarations().values()
        )
    except CheckpointError:
        return None
