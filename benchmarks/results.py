"""The files of results: one JSON file for each command, everything that was measured in it."""

from __future__ import annotations

import argparse
import json
import re
from pathlib import Path
from typing import Any

RESULTS = Path(__file__).resolve().parent / "results"


def add_json_option(parser: argparse.ArgumentParser) -> None:
    """Add --json [FILE or FOLDER]."""
    parser.add_argument(
        "--json",
        nargs="?",
        type=Path,
        const=RESULTS,
        metavar="FILE or FOLDER",
        help="keep the record there; alone, in benchmarks/results/ under a name of its own",
    )


def write(record: dict[str, Any], place: Path, name: str) -> str:
    """Write the record to a file, or into a folder as NAME.json; return a line that says where."""
    if place.suffix != ".json":
        place.mkdir(parents=True, exist_ok=True)
        place = place / (re.sub(r"[^\w.-]+", "_", f"{record['kind']}-{name}") + ".json")
    place.write_text(json.dumps(rounded(record), indent=1) + "\n", encoding="utf-8")
    return f"written: {place}"


def rounded(value: Any) -> Any:
    """Return the record with six digits of every number: more aren't meant."""
    if isinstance(value, dict):
        return {key: rounded(item) for key, item in value.items()}
    if isinstance(value, tuple | list):
        return [rounded(item) for item in value]
    return float(f"{value:.6g}") if isinstance(value, float) else value


def read(folder: Path) -> list[dict[str, Any]]:
    """Return all records of a folder, by name."""
    return [json.loads(path.read_text(encoding="utf-8")) for path in sorted(folder.glob("*.json"))]
