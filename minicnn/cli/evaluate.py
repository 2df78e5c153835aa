"""``minicnn evaluate``: how good a trained model is, and where it errs."""

from __future__ import annotations

import argparse
from typing import Any

from ..options import whole
from .output import add_json_flag, check_json, put_out
from .sources import add_data_flags, load_model, test_pictures


def add_to(commands: Any) -> None:
    """Add the commands of this file to the parser's."""
    evaluate = commands.add_parser(
        "evaluate", help="measure a trained model: accuracy, where it errs, how sure it is"
    )
    evaluate.add_argument("model", metavar="MODEL", help="a model's file, or a run's folder")
    add_data_flags(evaluate)
    evaluate.add_argument("--tta", choices=["flip", "flip+shift"], help="several looks at each")
    evaluate.add_argument("--device", default="auto", help="auto, cpu, gpu or gpu:N (default auto)")
    evaluate.add_argument("--batch-size", type=int, default=256)
    add_json_flag(evaluate)
    evaluate.set_defaults(run=run_evaluate)


def run_evaluate(args: argparse.Namespace) -> int:
    """Print what a model makes of pictures whose classes are known."""
    from ..train import evaluate

    whole(args.batch_size, "--batch-size")
    check_json(args.json)
    model = load_model(args.model, args.device)
    x, y, name = test_pictures(args, model)
    found = evaluate(model, x, y, args.batch_size, tta=args.tta)
    how = f", --tta {args.tta}" if args.tta else ""
    title = f"{name}{how}: {len(x):,} pictures, on {model.device}"
    facts = {"model": args.model, "dataset": name, "tta": args.tta, "device": str(model.device)}
    put_out(f"{title}\n\n{found}", {**facts, **found.as_dict()}, args.json)
    return 0
