"""``minicnn data``: the data sets."""

from __future__ import annotations

import argparse
from typing import Any


def add_to(commands: Any) -> None:
    """Add the commands of this file to the parser's."""
    data = commands.add_parser("data", help="the data sets")
    actions = data.add_subparsers(title="actions", required=True, metavar="ACTION")
    fetch = actions.add_parser("fetch", help="find CIFAR-10 on this machine, or download it")
    fetch.add_argument("--data-dir", help="where to look and to put it (default: the cache)")
    fetch.set_defaults(run=run_fetch)


def run_fetch(args: argparse.Namespace) -> int:
    """Make sure CIFAR-10 is at hand, and say where."""
    from ..data.cifar10 import describe, fetch

    print(describe(fetch(args.data_dir)))
    return 0
