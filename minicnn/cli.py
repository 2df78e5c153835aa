"""The console command ``minicnn``."""

from __future__ import annotations

import argparse
import sys
import warnings
from collections.abc import Sequence

import numpy as np

from . import __version__, gradcheck, models
from .data.errors import DatasetError
from .doctor import examine
from .options import whole


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; return the exit code: 0, 1 for "no", 2 for "can't"."""
    warnings.formatwarning = lambda message, *rest, **more: f"note: {message}\n"
    args = parser().parse_args(argv)
    try:
        return int(args.run(args))
    except (DatasetError, ValueError, OSError) as error:
        print(f"minicnn: {error}", file=sys.stderr)
        return 2


def parser() -> argparse.ArgumentParser:
    """Return the parser of all commands."""
    top = argparse.ArgumentParser(prog="minicnn", description=__doc__)
    top.add_argument("--version", action="version", version=f"minicnn {__version__}")
    commands = top.add_subparsers(title="commands", required=True, metavar="COMMAND")

    data = commands.add_parser("data", help="the data sets")
    actions = data.add_subparsers(title="actions", required=True, metavar="ACTION")
    fetch = actions.add_parser("fetch", help="find CIFAR-10 on this machine, or download it")
    fetch.add_argument("--data-dir", help="where to look and to put it (default: the cache)")
    fetch.set_defaults(run=run_fetch)

    doctor = commands.add_parser("doctor", help="say whether a GPU can be used, and if not, why")
    doctor.set_defaults(run=run_doctor)

    check = commands.add_parser("gradcheck", help="check every gradient of a model")
    check.add_argument("--model", default="tutorial_cnn", choices=sorted(models.MODELS))
    check.add_argument("--seed", type=int, default=0)
    check.set_defaults(run=run_gradcheck)

    summary = commands.add_parser("summary", help="print a model, layer by layer")
    summary.add_argument("--model", default="tutorial_cnn", choices=sorted(models.MODELS))
    summary.set_defaults(run=run_summary)

    profile = commands.add_parser("profile", help="print where a model's training step takes time")
    profile.add_argument("--model", default="tutorial_cnn", choices=sorted(models.MODELS))
    profile.add_argument("--batch-size", type=int, default=128)
    profile.set_defaults(run=run_profile)
    return top


def run_fetch(args: argparse.Namespace) -> int:
    """Make sure CIFAR-10 is at hand, and say where."""
    from .data.cifar10 import describe, fetch

    print(describe(fetch(args.data_dir)))
    return 0


def run_doctor(args: argparse.Namespace) -> int:
    """Print what the machine offers; 0 if a GPU works, else 1."""
    report = examine()
    print(report)
    return 0 if report.works else 1


def run_gradcheck(args: argparse.Namespace) -> int:
    """Print the errors of a model's gradients, parameter by parameter; 0 if all are right."""
    model = models.get(args.model)().build((32, 32, 3), seed=args.seed)
    report = gradcheck.check_model(model, seed=args.seed)
    print(report)
    return 0 if report else 1


def run_summary(args: argparse.Namespace) -> int:
    """Print a model's table."""
    print(models.get(args.model)().build((32, 32, 3)).summary())
    return 0


def run_profile(args: argparse.Namespace) -> int:
    """Print what a training step on drawn pictures takes, layer by layer."""
    shape = (whole(args.batch_size, "batch size"), 32, 32, 3)
    pictures = np.random.default_rng(0).integers(0, 256, shape, "uint8")
    print(models.get(args.model)().build(shape[1:]).profile(pictures))
    return 0
