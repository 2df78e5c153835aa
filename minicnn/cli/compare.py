"""``minicnn compare``: training runs side by side."""

from __future__ import annotations

import argparse
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ..evaluation.result import finite
from ..evaluation.text import left, printable, right, width
from .output import add_json_flag, check_json, put_out
from .runs import FIGURES, SETTINGS, Facts, read_run
from .sources import say

QUALITY = ("val_loss", "val_accuracy", "test_loss", "test_accuracy")
"""Figures that can't be compared between data sets."""

LABELS = {
    "dataset": "data set",
    "batch_size": "batch size",
    "training_seconds": "training, s",
    "images_per_second": "images/s",
    "val_loss": "best val. loss",
    "val_accuracy": "best val. accuracy",
    "test_loss": "test loss",
    "test_accuracy": "test accuracy",
}


def add_to(commands: Any) -> None:
    """Add the commands of this file to the parser's."""
    compare = commands.add_parser("compare", help="show training runs side by side")
    compare.add_argument(
        "runs", nargs="+", metavar="RUN", help="folders, as examples/train_cifar.py leaves them"
    )
    compare.add_argument("--sort", choices=list(FIGURES), help="the best first, or the least")
    add_json_flag(compare)
    compare.set_defaults(run=run_compare)


def run_compare(args: argparse.Namespace) -> int:
    """Print runs side by side; 0, or 1 if a folder couldn't be read, or 2 if none could."""
    check_json(args.json)
    runs, broken = [], []
    for path in args.runs:
        try:
            runs.append({"run": path, **read_run(path)})
        except (OSError, ValueError) as error:
            broken.append({"run": path, "why": str(error)})
            print(f"minicnn: {printable(path)}: {error}", file=sys.stderr)
    if not runs:
        return 2
    for run in runs:
        for note in run.pop("notes"):
            say(f"{printable(run['run'])}: {note}")
    name_data(runs)
    if args.sort:
        runs = ordered(runs, args.sort)
    warnings = data_warnings(runs)
    different = differing(runs)
    best = {} if len(runs) < 2 else bests(runs, judged=not warnings)
    for warning in warnings:
        say(warning)
    columns = shutil.get_terminal_size((80, 24)).columns
    figures = {
        "runs": runs, "broken": broken, "differing": different, "best": best, "warnings": warnings
    }  # fmt: skip
    put_out(side_by_side(runs, different, best, columns), finite(figures), args.json)
    return 1 if broken else 0


def name_data(runs: list[Facts]) -> None:
    """Give unfinished runs the name of the data set of those that had the same pictures."""
    names = {run["data"]: run["dataset"] for run in runs if run["data"] and run["dataset"]}
    for run in runs:
        run["dataset"] = run["dataset"] or names.get(run["data"])


def ordered(runs: list[Facts], key: str) -> list[Facts]:
    """Return the runs with the best first, or the smallest where none is better; unknown last."""
    known = [run for run in runs if is_number(run[key])]
    unknown = [run for run in runs if not is_number(run[key])]
    return sorted(known, key=lambda run: run[key], reverse=FIGURES[key] is max) + unknown


def is_number(value: Any) -> bool:
    """Whether a figure is known, and not NaN."""
    return isinstance(value, int | float) and value == value


def data_warnings(runs: list[Facts]) -> list[str]:
    """Say why losses and accuracies can't be compared, if they can't."""
    sets = {run["dataset"]: run["run"] for run in reversed(runs)}
    if len(sets) > 1:
        listed = ", ".join(f"{name or 'unknown'} ({printable(run)})" for name, run in sets.items())
        return [f"other data sets, so that losses and accuracies can't be compared: {listed}"]
    seeds = {run["seed"]: None for run in runs if run["dataset"] == "synthetic"}
    known = [seed for seed in seeds if seed is not None]
    if len(known) > 1:
        listed = ", ".join(map(str, known))
        return [f"the pictures were drawn with other seeds ({listed}), those of the test too"]
    return []


def differing(runs: list[Facts]) -> list[str]:
    """Return the settings in which the runs differ, as far as they are known.

    Those of recipes too, by their names there, between the runs that have one.
    """
    found = []
    for key in SETTINGS:
        alike = (lambda run: bool(run["tables"])) if key == "lr" else bool  # see `SETTINGS`
        seen = {(alike(run), repr(run[key])) for run in runs if run[key] is not None}
        if len(seen) > len({kind for kind, _ in seen}):
            found.append(key)
    known = ("optimizer.name", "training.batch_size", "schedule.lr", "model.name")
    recipes = [run["tables"] for run in runs if run["tables"]]
    for key in dict.fromkeys(key for tables in recipes for key in tables if key not in known):
        if len({repr(tables.get(key)) for tables in recipes}) > 1:
            found.append(key)
    return found


def bests(runs: list[Facts], judged: bool) -> dict[str, float]:
    """Return the best of each figure in which runs differ; of quality only if they are judged.

    A run that isn't finished hasn't had the least time for it.
    """
    found = {}
    for key, better in FIGURES.items():
        able = [run for run in runs if key != "training_seconds" or run["state"] != "unfinished"]
        values = [run[key] for run in able if is_number(run[key])]
        if better and len(set(values)) > 1 and (judged or key not in QUALITY):
            found[key] = better(values)
    return found


def side_by_side(
    runs: list[Facts], different: Sequence[str], best: dict[str, float], columns: int
) -> str:
    """Return the table: a row for each fact, a column for each run, in blocks that fit."""
    last = [Path(run["run"]).resolve().name for run in runs]
    paths = [run["run"] if last.count(n) > 1 else n for run, n in zip(runs, last, strict=True)]
    rows = {"run": [printable(path) for path in paths], "state": [run["state"] for run in runs]}
    for key in SETTINGS:
        rows[key] = [printable(shown(run[key])) for run in runs]
    for key in different:
        if key not in SETTINGS:
            rows[key] = [printable(shown(run["tables"].get(key))) for run in runs]
    for key in FIGURES:
        marks = ["*" if best.get(key) == run[key] is not None else " " for run in runs]
        digits = 4 if key in QUALITY else 1
        rows[key] = [shown(run[key], digits) + mark for run, mark in zip(runs, marks, strict=True)]
    first = min(max(width(LABELS.get(key, key)) for key in rows), 24)
    cells = [
        min(max(width(row[i]) + (key not in FIGURES) for key, row in rows.items()), 18)
        for i in range(len(runs))
    ]
    lines = []
    for block in blocks(cells, columns - first - 2):
        for key, row in rows.items():
            space = "" if key in FIGURES else " "  # where figures have their mark
            texts = (f"  {right(row[i], cells[i] - len(space))}{space}" for i in block)
            mark = "!" if key in different else " "
            lines.append(
                f"{mark} {left(printable(LABELS.get(key, key)), first)}{''.join(texts)}".rstrip()
            )
        lines.append("")
    return "\n".join([*lines, "! differs   * best" if len(runs) > 1 else ""]).rstrip()


def blocks(cells: Sequence[int], room: int) -> list[list[int]]:
    """Divide columns of these widths, by their numbers, so that each part has room; or is one."""
    parts: list[list[int]] = [[]]
    left_over = room
    for i, cell in enumerate(cells):
        if parts[-1] and left_over < cell + 2:
            parts.append([])
            left_over = room
        parts[-1].append(i)
        left_over -= cell + 2
    return parts


def shown(value: Any, digits: int | None = None) -> str:
    """Return a fact as a table shows it: a float in short, or with so many digits."""
    if value is None:
        return "-"
    if isinstance(value, bool) or not isinstance(value, int | float):
        return str(value)
    if isinstance(value, int):
        return f"{value:,}"
    return f"{value:.4g}" if digits is None else f"{value:,.{digits}f}"
