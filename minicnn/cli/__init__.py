"""The console command ``minicnn``: a file for each kind of work, which names its commands."""

from __future__ import annotations

import argparse
import os
import sys
import warnings
from collections.abc import Sequence

from .. import __version__
from ..backend import DeviceError
from ..data.errors import DatasetError
from . import compare, data, evaluate, machine, networks, predict, report, serve, tune

KINDS = (compare, data, evaluate, machine, networks, predict, report, serve, tune)


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; return the exit code: 0, 1 for "no", 2 for "can't"."""
    warnings.formatwarning = lambda message, *rest, **more: f"note: {message}\n"
    args = parser().parse_args(argv)
    try:
        code = int(args.run(args))
        sys.stdout.flush()
        return code
    except BrokenPipeError:  # who reads, as "| head" does, has enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # for Python's last flush
        return 0
    except (DatasetError, DeviceError, ImportError, MemoryError, ValueError, OSError) as error:
        print(f"minicnn: {error}", file=sys.stderr)
        return 2


def parser() -> argparse.ArgumentParser:
    """Return the parser of all commands."""
    top = argparse.ArgumentParser(prog="minicnn", description="Convolutional networks.")
    top.add_argument("--version", action="version", version=f"minicnn {__version__}")
    commands = top.add_subparsers(title="commands", required=True, metavar="COMMAND")
    for kind in KINDS:
        kind.add_to(commands)
    return top
