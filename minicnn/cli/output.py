"""What commands leave: a text for people, or figures for programs."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any

from ..files import check_place, whole_file


def add_json_flag(parser: argparse.ArgumentParser) -> None:
    """Add ``--json [FILE]``."""
    parser.add_argument(
        "--json",
        nargs="?",
        const="-",
        metavar="FILE",
        help="print JSON in the table's place; with FILE.json, write it there and print the table",
    )


def check_json(file: str | None) -> None:
    """Raise ValueError or OSError unless ``--json`` names a file that can be written.

    It ends in .json, so that ``--json RUN`` doesn't take the run for a file to be written over.
    """
    if file not in (None, "-"):
        if Path(file).suffix.lower() != ".json":
            raise ValueError(f"--json {file}: expected a name that ends in .json, or none")
        check_place(Path(file))


def put_out(text: str, figures: Any, file: str | None) -> None:
    """Print a text, or figures as JSON in its place (``-``) or in a file besides."""
    if file != "-":
        print(text)
    if file is not None:
        encoded = json.dumps(figures, indent=2, allow_nan=False) + "\n"
        if file == "-":
            sys.stdout.write(encoded)
            return
        with whole_file(Path(file)) as part:
            part.write_text(encoded, encoding="utf-8")
