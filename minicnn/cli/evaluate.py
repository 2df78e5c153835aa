"""``minicnn evaluate``: how good a trained model is, and where it errs."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any

from ..options import whole
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


def add_json_flag(parser: argparse.ArgumentParser) -> None:
    """Add ``--json [FILE]``."""
    parser.add_argument(
        "--json",
        nargs="?",
        const="-",
        metavar="FILE",
        help="print JSON in the table's place; with FILE, write it there and print the table too",
    )


def run_evaluate(args: argparse.Namespace) -> int:
    """Print what a model makes of pictures whose classes are known."""
    from ..train import evaluate

    whole(args.batch_size, "--batch-size")
    model = load_model(args.model, args.device)
    x, y, name = test_pictures(args, model)
    found = evaluate(model, x, y, args.batch_size, tta=args.tta)
    how = f", --tta {args.tta}" if args.tta else ""
    title = f"{name}{how}: {len(x):,} pictures, on {model.device}"
    facts = {"model": args.model, "dataset": name, "tta": args.tta, "device": str(model.device)}
    put_out(f"{title}\n\n{found}", {**facts, **found.as_dict()}, args.json)
    return 0


def put_out(text: str, figures: Any, file: str | None) -> None:
    """Print a text, or figures as JSON in its place (``-``) or in a file besides."""
    if file is not None:
        encoded = json.dumps(figures, indent=2, allow_nan=False) + "\n"
        if file == "-":
            sys.stdout.write(encoded)
            return
        from ..files import whole_file

        with whole_file(Path(file)) as part:
            part.write_text(encoded, encoding="utf-8")
    encoding = sys.stdout.encoding or "ascii"
    print(text.encode(encoding, "backslashreplace").decode(encoding))
