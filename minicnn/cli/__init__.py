"""The console command ``minicnn``: a file for each kind of work, which names its commands."""

from __future__ import annotations

import argparse
import io
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
    """Run one command; return the exit code: 0, 1 for "no", 2 for "can't", 130 for Ctrl-C."""
    warnings.formatwarning = lambda message, *rest, **more: f"note: {message}\n"
    open_streams()
    args = parser().parse_args(argv)
    try:
        code = int(args.run(args))
        sys.stdout.flush()
        return code
    except BrokenPipeError:  # who reads, as "| head" does, has enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # for Python's last flush
        return 0
    except KeyboardInterrupt:
        print("minicnn: stopped by Ctrl-C", file=sys.stderr)
        return 130
    except (DatasetError, DeviceError, ImportError, MemoryError, ValueError, OSError) as error:
        print(f"minicnn: {error}", file=sys.stderr)
        return 2


def open_streams() -> None:
    """Make stdout take any text, as stderr does: what its encoding lacks is written by numbers.

    One that was closed by who started the program takes what is printed, and nobody reads it.
    """
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name)
        if stream is None:
            setattr(sys, name, open(os.devnull, "w", encoding="utf-8"))  # noqa: SIM115
        elif isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


def parser() -> argparse.ArgumentParser:
    """Return the parser of all commands."""
    top = argparse.ArgumentParser(prog="minicnn", description="Convolutional networks.")
    top.add_argument("--version", action="version", version=f"minicnn {__version__}")
    commands = top.add_subparsers(title="commands", required=True, metavar="COMMAND")
    for kind in KINDS:
        kind.add_to(commands)
    return top
