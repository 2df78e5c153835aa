"""``minicnn summary``, ``profile`` and ``gradcheck``: networks as they are built, untrained."""

from __future__ import annotations

import argparse
from typing import Any

import numpy as np

from .. import gradcheck, models
from ..options import whole


def add_to(commands: Any) -> None:
    """Add the commands of this file to the parser's."""
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
