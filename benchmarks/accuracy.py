"""Measure what recipes reach, and what PyTorch reaches by the same ones.

    python benchmarks/accuracy.py --recipes tutorial --seeds 0,1,2 --data-dir DIR --json
    python benchmarks/accuracy.py --recipes tutorial,resnet20 --frameworks minicnn,torch --json
    python benchmarks/accuracy.py --recipes my.toml --held-out --data-dir DIR
    python benchmarks/accuracy.py --recipes resnet18,vgg16,speedrun94 --device gpu --json

Each run is a process of its own, and the frameworks take turns.  PyTorch's network starts from our
weights and is fed our batches (`peers/torch_recipe.py`).  A run is judged once, at its end: on the
test set, or with --held-out on training pictures that it didn't see.  Choose recipes by the
second, and report the first.  `accuracy_table.py` makes the table of docs/results.md of the files.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # the minicnn beside this file

import minicnn as mc
from benchmarks.gpu_settings import visible
from benchmarks.machine import cores, record
from benchmarks.peers.protocol import Worker, WorkerError
from benchmarks.report import about, aligned
from benchmarks.results import add_json_option, write

FRAMEWORKS = ("minicnn", "torch")
PATIENCE = 100 * 3600.0  # seconds for a run


def words(text: str) -> list[str]:
    """Return what stands between commas."""
    return [word.strip() for word in text.split(",") if word.strip()]


def arguments(argv: list[str] | None = None) -> argparse.Namespace:
    """Return the command line's flags."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--recipes", type=words, required=True, help="names, or files' paths")
    parser.add_argument("--seeds", type=words, default=["0", "1", "2"], help="default 0,1,2")
    parser.add_argument("--frameworks", type=words, default=["minicnn"], help="minicnn,torch")
    parser.add_argument("--data-dir", type=Path, help="where CIFAR-10 lies")
    parser.add_argument("--device", default="cpu", choices=["cpu", "gpu"])
    parser.add_argument("--epochs", type=int, help="others than the recipe's")
    parser.add_argument("--batch-size", type=int, help="another than the recipe's")
    parser.add_argument("--lr", type=float, help="another than the recipe's")
    parser.add_argument("--dtype", choices=["float32", "float64", "bfloat16", "float16"])
    parser.add_argument("--minutes", type=float, help="end a run's training then, wherever it is")
    parser.add_argument(
        "--held-out", type=float, nargs="?", const=0.1, default=0.0, metavar="SHARE",
        help="judge on a share of the training pictures (alone: 0.1); nobody looks at the test set",
    )  # fmt: skip
    parser.add_argument("--threads", type=int, default=cores(), help="default: cores usable")
    parser.add_argument("--torch-python", default=sys.executable, help="a Python with PyTorch, too")
    parser.add_argument("--pictures", type=int, default=0, help="so many drawn ones, not CIFAR-10")
    add_json_option(parser)
    args = parser.parse_args(argv)
    if not args.recipes or not args.seeds or not all(seed.isdigit() for seed in args.seeds):
        parser.error("--recipes and --seeds: expected names and numbers, with commas between")
    if not args.frameworks or not set(args.frameworks) <= set(FRAMEWORKS):
        parser.error(f"--frameworks: expected some of {', '.join(FRAMEWORKS)}")
    if args.threads < 1 or args.pictures < 0 or not 0 <= args.held_out < 1:
        parser.error("--threads, --pictures or --held-out is out of range")
    if args.minutes is not None and not args.minutes > 0:
        parser.error("--minutes: expected a number > 0")
    return args


def changes(args: argparse.Namespace) -> dict[str, Any]:
    """Return what is to be changed in each recipe."""
    names = ("epochs", "batch_size", "lr", "dtype")
    return {name: getattr(args, name) for name in names if getattr(args, name) is not None}


def measure(args: argparse.Namespace, recipe: str, seed: int, framework: str) -> dict[str, Any]:
    """Do one run in a process of its own; return what it found.

    Raises `WorkerError` with its own words if it fails.
    """
    own = Path(recipe).suffix == ".toml"
    task = {
        "recipe": str(Path(recipe).resolve()) if own else recipe,
        "changes": changes(args),
        "seed": seed,
        "framework": framework,
        "data_dir": None if args.data_dir is None else str(args.data_dir.resolve()),
        "pictures": args.pictures,
        "held_out": args.held_out,
        "minutes": args.minutes,
        "device": args.device,
        "threads": args.threads,
        "began": time.time(),
    }
    python = args.torch_python if framework == "torch" else sys.executable
    module, seen = "benchmarks.accuracy_worker", visible(args.device)
    with tempfile.TemporaryDirectory() as folder:
        log = Path(folder) / "log"
        print(f"  {recipe}, seed {seed}, {framework} ({log}) ...", file=sys.stderr, flush=True)
        worker = Worker(python, module, args.threads, log, seen, PATIENCE)
        try:
            return worker.ask("train", task=task)
        finally:
            worker.close()


def text(runs: list[dict[str, Any]]) -> str:
    """Return the table of all runs."""
    rows = [["", "seed", "epochs", "training s", "whole s", "loss", "accuracy", "judged on"]]
    for run in runs:
        done = len(run["records"])
        rows.append(
            [
                f"{run['recipe']}, {run['framework']}",
                str(run["seed"]),
                f"{done} of {run['epochs']}" if run["stopped"] else str(done),
                f"{run['training_seconds']:.1f}",
                f"{run['total_seconds']:.1f}",
                f"{run['loss']:.4f}",
                f"{run['accuracy']:.4f}",
                run["judged_on"],
            ]
        )
    return "\n".join(aligned(rows))


def name_of(args: argparse.Namespace) -> str:
    """Return what the file of a command is called by: everything that makes it another one."""
    given = [*(Path(recipe).stem for recipe in args.recipes), *args.frameworks, args.device]
    given += [f"{key}{value}" for key, value in changes(args).items()]
    given += [f"minutes{args.minutes:g}"] if args.minutes else []
    given += ["held_out"] if args.held_out else []
    return "-".join([*given, "s" + "_".join(args.seeds)])


def main(argv: list[str] | None = None) -> int:
    """Run the command; return its exit code: 1 if a run failed, 2 if nothing could be done."""
    args = arguments(argv)
    try:
        for recipe in args.recipes:
            mc.recipes.load(recipe).changed(**changes(args))
    except mc.RecipeError as error:
        print(f"accuracy: {error}", file=sys.stderr)
        return 2
    found = record("accuracy") | {"threads": args.threads, "runs": [], "failed": {}}
    for seed in map(int, args.seeds):
        for recipe in args.recipes:
            for framework in args.frameworks:
                try:
                    run = measure(args, recipe, seed, framework)
                except (WorkerError, OSError) as error:
                    print(f"accuracy: {recipe}, {framework}: {error}", file=sys.stderr)
                    found["failed"][f"{recipe}, {framework}, seed {seed}"] = str(error)
                    continue
                found["runs"].append(run)
                found["versions"] = run["versions"] | found["versions"]
                print(text([run]), end="\n\n", flush=True)
                if args.json is not None:  # what was measured stays, whatever comes next
                    print(write(found, args.json, name_of(args)), flush=True)
    if not found["runs"]:
        return 2
    print(text(found["runs"]), end="\n\n")
    print(about(found))
    return int(bool(found["failed"]))


if __name__ == "__main__":
    sys.exit(main())
