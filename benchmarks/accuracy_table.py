"""What recipes reached as the table of docs/results.md, from the files of benchmarks/results/.

    python benchmarks/accuracy_table.py
    python benchmarks/accuracy_table.py FOLDER
    python benchmarks/accuracy_table.py --write docs/results.md README.md    # between their marks

A line for each recipe, number of epochs, precision and device.  Only runs count that were judged on
the test set, came to their end, and followed the recipe as it is now (``--epochs`` and ``--dtype``
may be others); of two with the same seed, the one in the later file by name.  What nobody measured
says so, with the command that would.
"""

from __future__ import annotations

import argparse
import json
import sys
from math import prod
from pathlib import Path
from statistics import mean, median
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # the minicnn beside this file

import minicnn as mc
from benchmarks.report import about
from benchmarks.results import RESULTS, read, rounded

MISSING = "not measured yet"
HEAD = (
    "network", "recipe", "parameters", "multiply-adds", "epochs", "device", "training",
    "test accuracy", "data", "PyTorch, same recipe", "literature", "command",
)  # fmt: skip
SHORT = ("network", "recipe", "epochs", "device", "training", "test accuracy", HEAD[9])
MARKS = {"accuracy_table.py": HEAD, "accuracy_table.py, short": SHORT}
"""What a page calls the place for a table, and the columns that go there."""

WANTED: dict[str, tuple[str, str]] = {
    "tutorial": ("cpu", '70 % (TensorFlow\'s tutorial: "over 70 %")'),
    "tutorial_best": ("cpu", ""),
    "cifar_cnn": ("cpu", "75 % after 25 epochs (Keras' example)"),
    "resnet20": ("cpu", "91.25 % (He et al. 2015), 92.16 % (Keras' example)"),
    "cpu_quick": ("cpu", ""),
    "cpu_best": ("cpu", "94.01 % (Jordan 2024, airbench94, with a GPU)"),
    "resnet18": ("gpu", "93.02 % (kuangliu) to 94.98 % (edadaltocg)"),
    "vgg16": ("gpu", "92.64 % (kuangliu) to 94.00 % (huyvnphan)"),
    "speedrun94": ("gpu", "94.01 % (Jordan 2024, airbench94: mean of 1,000)"),
}
"""The recipes that the table has in any case, the device that each is for, and what is known."""

Key = tuple[str, int, str, str]  # recipe, epochs, device, dtype


def arguments(argv: list[str] | None = None) -> argparse.Namespace:
    """Return the command line's flags."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folder", nargs="?", type=Path, default=RESULTS)
    parser.add_argument("--write", type=Path, nargs="+", metavar="PAGE", help="put it into pages")
    return parser.parse_args(argv)


def gathered(records: list[dict[str, Any]]) -> dict[Key, dict[str, Any]]:
    """Return the runs that count by recipe, epochs, device and precision, each with its record."""
    found: dict[Key, dict[str, Any]] = {}
    now = {name: steps_of(mc.recipes.load(name).tables) for name in mc.recipes.names()}
    for record in records:
        for run in record["runs"] if record["kind"] == "accuracy" else []:
            name = run["recipe"]
            if run["judged_on"] != "test set" or run["stopped"]:
                continue
            if name not in now or steps_of(run["tables"]) != now[name]:
                continue  # another recipe, or one that has changed since
            kind = "cpu" if run["device"] == "CPU" else "gpu"
            key = name, run["epochs"], kind, run["tables"]["training"]["dtype"]
            group = found.setdefault(key, {"runs": {}})
            group["runs"][run["framework"], run["seed"]] = run
            if run["framework"] == "minicnn" or "command" not in group:
                group |= {"command": record["command"], "machine": record["machine"]}
    return found


def steps_of(tables: dict[str, Any]) -> dict[str, Any]:
    """Return what a recipe does, as a file of results has it: all but epochs and precision."""
    plain = rounded(json.loads(json.dumps(tables)))
    free = ("epochs", "dtype")
    training = {key: value for key, value in plain["training"].items() if key not in free}
    return {**{k: v for k, v in plain.items() if k not in ("about", "name")}, "training": training}


def rows(found: dict[Key, dict[str, Any]]) -> list[list[str]]:
    """Return the lines: the recipes that are wanted, in their order, then all others."""
    lines = []
    for recipe in dict.fromkeys([*WANTED, *(key[0] for key in sorted(found))]):
        measured = [key for key in found if key[0] == recipe]
        lines += [row(key, found[key]) for key in sorted(measured)]
        if not measured:
            lines.append(missing(recipe, WANTED[recipe][0]))
    return lines


def row(key: Key, group: dict[str, Any]) -> list[str]:
    """Return the line of what was measured."""
    recipe, epochs, kind, dtype = key
    runs = list(group["runs"].values())
    ours = [run for run in runs if run["framework"] == "minicnn"]
    first = (ours or runs)[0]
    return [
        network(first["tables"]["model"]),
        recipe if dtype == mc.recipes.load(recipe).dtype else f"{recipe}, {dtype}",
        f"{first['parameters']:,}",
        f"{first['multiply_adds']:,}",
        str(epochs),
        cores(group["machine"]) if kind == "cpu" else first["device"].replace("NVIDIA ", ""),
        time_of(ours),
        accuracy_of(ours),
        ", ".join(sorted({run["data"]["copy"] for run in runs})),
        accuracy_of([run for run in runs if run["framework"] == "torch"]),
        WANTED.get(recipe, ("", ""))[1],
        f"`{group['command']}`",
    ]


def missing(recipe: str, kind: str) -> list[str]:
    """Return the line of what nobody measured, with the command for it."""
    found = mc.recipes.load(recipe)
    command = f"python benchmarks/accuracy.py --recipes {recipe} --frameworks minicnn,torch"
    command += " --device gpu" if kind == "gpu" else ""
    model = found.network()
    model.lay_out((32, 32, 3))  # shapes only: no memory is taken
    parameters = sum(prod(declared.shape) for declared in model.declarations().values())
    work = sum(layer.multiply_adds for layer in model.walk() if not layer.children())
    return [
        network(found.tables["model"]),
        recipe,
        f"{parameters:,}",
        f"{work:,}",
        str(found.epochs),
        kind.upper(),
        MISSING,
        MISSING,
        "",
        MISSING,
        WANTED[recipe][1],
        f"`{command} --data-dir DATA_DIR --json`",
    ]


def network(table: dict[str, Any]) -> str:
    """Name a network, with its options: "vgg11(filters=16)"."""
    options = [f"{k}={list(v) if isinstance(v, tuple) else v}" for k, v in table.items()]
    more = ", ".join(option for option in options if not option.startswith("name="))
    return f"{table['name']}({more})" if more else str(table["name"])


def cores(machine: dict[str, Any]) -> str:
    """Name a CPU."""
    name = machine["cpu"].replace("(R)", "").replace(" Processor", "")
    return f"{machine['cores']} cores, {name}"


def time_of(runs: list[dict[str, Any]]) -> str:
    """Write the median time of training."""
    if not runs:
        return MISSING
    seconds = median(run["training_seconds"] for run in runs)
    return f"{seconds / 60:,.1f} min" if seconds >= 120 else f"{seconds:,.1f} s"


def accuracy_of(runs: list[dict[str, Any]]) -> str:
    """Write the mean accuracy and its spread: "70.07 % (69.90 to 70.30, 3 seeds)"."""
    if not runs:
        return MISSING
    values = [100 * run["accuracy"] for run in runs]
    if len(values) == 1:
        return f"{values[0]:.2f} % (1 seed)"
    return f"{mean(values):.2f} % ({min(values):.2f} to {max(values):.2f}, {len(values)} seeds)"


def markdown(records: list[dict[str, Any]], columns: tuple[str, ...] = HEAD) -> str:
    """Return the table of some columns, and below it machines and versions."""
    chosen = [[line[HEAD.index(name)] for name in columns] for line in rows(gathered(records))]
    cells = [columns, ("---",) * len(columns), *chosen]
    lines = ["| " + " | ".join(cell.replace("|", "/") for cell in line) + " |" for line in cells]
    places = {place(r): None for r in records if r["kind"] == "accuracy" and r["runs"]}
    return "\n".join([*lines, "", *(f"- {where}" for where in places)]).rstrip()


def place(record: dict[str, Any]) -> str:
    """Return one line about machine, versions and date of a record."""
    machine, rest, _ = about(record).split("\n")
    return f"{machine.partition(', load')[0]}. {rest}. {record['date']}."


def put(page: str, records: list[dict[str, Any]]) -> str:
    """Return a page with a table between each of its marks; raise ValueError if it has none."""
    found = False
    for name, columns in MARKS.items():
        begin, end = f"<!-- {name} -->", f"<!-- /{name} -->"
        before, started, rest = page.partition(begin)
        _, ended, after = rest.partition(end)
        if started and ended:
            page, found = f"{before}{begin}\n\n{markdown(records, columns)}\n\n{end}{after}", True
    if not found:
        raise ValueError("no place for a table: expected lines <!-- NAME -->, <!-- /NAME -->")
    return page


def main(argv: list[str] | None = None) -> int:
    """Run the command; return its exit code, 2 if the page can't be written."""
    args = arguments(argv)
    records = read(args.folder)
    for path in args.write or ():
        try:
            page = put(path.read_text(encoding="utf-8"), records)
            path.write_text(page, encoding="utf-8")
        except (OSError, ValueError) as error:
            print(f"accuracy_table: {path}: {error}", file=sys.stderr)
            return 2
    if not args.write:
        print(markdown(records))
    return 0


if __name__ == "__main__":
    sys.exit(main())
