"""``minicnn report``: everything there is to see of a trained model, in one HTML file."""

from __future__ import annotations

import argparse
import sys
import warnings
from pathlib import Path
from typing import Any

from ..options import whole
from .sources import add_data_flags, load_model, model_file, test_pictures


def add_to(commands: Any) -> None:
    """Add the command of this file to the parser's."""
    report = commands.add_parser(
        "report", help="write what a trained model does and looks at into one HTML file"
    )
    report.add_argument("model", metavar="RUN_OR_MODEL", help="a run's folder, or a model's file")
    report.add_argument(
        "--out",
        type=Path,
        help="the file (default report.html in the run's folder, or MODEL.html beside a file)",
    )
    report.add_argument("--force", action="store_true", help="replace a file that is no report")
    report.add_argument(
        "--pictures", type=int, default=32, metavar="N", help="shown, and errors (default 32)"
    )
    add_data_flags(report)
    report.add_argument("--tta", choices=["flip", "flip+shift"], help="several looks at each")
    report.add_argument("--device", default="auto", help="auto, cpu, gpu or gpu:N (default auto)")
    report.add_argument("--batch-size", type=int, default=256)
    report.set_defaults(run=run_report)


def run_report(args: argparse.Namespace) -> int:
    """Write the report of a model; print where it is."""
    from ..data.errors import DatasetWarning
    from ..report import write
    from ..report.writing import check_free

    whole(args.batch_size, "--batch-size")
    whole(args.pictures, "--pictures")
    file = model_file(args.model)
    out = args.out or (file.with_name("report.html") if Path(args.model).is_dir() else
                       file.with_suffix(".html"))  # fmt: skip
    check_free(out, args.force)
    model = load_model(args.model, args.device)
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always", DatasetWarning)
        x, y, name = test_pictures(args, model)
    notes = [("model", str(file))]
    for warning in said:
        print(f"note: {warning.message}", file=sys.stderr)
        notes.append(("note on the pictures", str(warning.message)))
    title = Path(args.model).resolve().name if Path(args.model).is_dir() else file.stem
    write(
        model,
        x,
        y,
        out,
        run=args.model,
        title=title,
        dataset=name,
        notes=tuple(notes),
        pictures=args.pictures,
        tta=args.tta,
        batch_size=args.batch_size,
        replace=args.force,
    )
    print(f"report in {out}")
    return 0
