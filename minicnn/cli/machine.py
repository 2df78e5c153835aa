"""``minicnn doctor``: what this machine offers."""

from __future__ import annotations

import argparse
from typing import Any

from ..doctor import examine


def add_to(commands: Any) -> None:
    """Add the commands of this file to the parser's."""
    doctor = commands.add_parser("doctor", help="say whether a GPU can be used, and if not, why")
    doctor.set_defaults(run=run_doctor)


def run_doctor(args: argparse.Namespace) -> int:
    """Print what the machine offers; 0 if a GPU works, else 1."""
    report = examine()
    print(report)
    return 0 if report.works else 1
