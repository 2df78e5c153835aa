"""``minicnn tune``: search for the values of a recipe that do best on held-out pictures."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import numpy as np

ABOUT = """
Search for the learning rate, batch size, weight decay, dropout, width and augmentation that do best
on held-out pictures of the training set; the test set has no part in it.  The same command goes on
with a search that was stopped, and at the same time in other processes shares it.
"""


def add_to(commands: Any) -> None:
    """Add the commands of this file to the parser's."""
    tune = commands.add_parser("tune", help="search for a recipe's best values", description=ABOUT)
    tune.add_argument(
        "--recipe", default="tutorial", help="where to begin: a name or a file's path"
    )
    tune.add_argument(
        "--trials", type=int, default=20, help="of the study in all, whoever runs them (default 20)"
    )
    tune.add_argument(
        "--storage",
        default="sqlite:///tune.db",
        help="address of the database that keeps the trials (default sqlite:///tune.db)",
    )
    tune.add_argument("--study", metavar="NAME", help="its name in there (default the recipe's)")
    tune.add_argument("--space", metavar="FILE.toml", help="what to search, see docs/tuning.md")
    tune.add_argument("--epochs", type=int, help="of each trial (default the recipe's)")
    tune.add_argument("--dtype", help="of products (default the recipe's)")
    tune.add_argument(
        "--dataset",
        default="auto",
        help="auto (CIFAR-10), cifar10, synthetic, or a folder of class folders to train with",
    )
    tune.add_argument("--data-dir", help="where CIFAR-10 lies, or is to be put")
    tune.add_argument("--pictures", type=int, help="train and judge with so many only")
    tune.add_argument("--validation", type=float, default=0.1, help="share held out (default 0.1)")
    tune.add_argument("--seed", type=int, default=0)
    tune.add_argument("--device", default="auto", help="auto, cpu, gpu or gpu:N (default auto)")
    tune.add_argument(
        "--pruner",
        default="median",
        choices=("median", "halving", "none"),
        help="which trials are given up early (default median)",
    )
    tune.add_argument("--timeout", type=float, help="seconds after which no new trial begins")
    tune.add_argument("--out", default="best.toml", help="file for the best recipe")
    tune.add_argument("--plot", metavar="FILE", help="picture of the trials: .png, .svg or .pdf")
    tune.set_defaults(run=run_tune)


def run_tune(args: argparse.Namespace) -> int:
    """Search, print a line for each trial and their table; 0 if there is a best one, else 1."""
    from .. import recipes
    from ..tuning import Search, check_picture, check_recipe, import_optuna

    import_optuna()  # what would be in the way at the end is said before anything is trained
    check_recipe(Path(args.out))
    if args.plot:
        check_picture(Path(args.plot))
    recipe = recipes.load(args.recipe).changed(dtype=args.dtype)
    x, y, name = training_pictures(args)
    search = Search(
        x,
        y,
        recipe,
        trials=args.trials,
        storage=args.storage,
        study=args.study,
        space=args.space,
        epochs=args.epochs,
        validation=args.validation,
        seed=args.seed,
        device=args.device,
        pruner=args.pruner,
        timeout=args.timeout,
        progress="auto",
    )
    held = len(search.pictures.held)
    print(f"device: {search.device.note}")
    print(f"data: {name}, {len(x) - held:,} pictures to train with, {held:,} to judge by")
    print(f"study: {search.name!r} in {args.storage}, {args.trials} trials of "
          f"{search.recipe.epochs} epochs")  # fmt: skip
    for parameter, found in search.space.items():
        print(f"  {parameter}: {found}")
    for parameter, reason in search.left_out.items():
        print(f"  {parameter}: not searched, {reason}")
    try:
        search.run(lambda trial: print(trial, flush=True))
    finally:
        best = show(search.results(), args)
    return 0 if best else 1


def show(results: Any, args: argparse.Namespace) -> bool:
    """Write what was found, and print it; return whether there is a best trial."""
    best = None if results.best is None else results.write(args.out)
    drawn = args.plot and results.count("complete") + results.count("pruned")
    picture = results.plot(args.plot) if drawn else None
    print(f"\n{results}")
    if running := results.count("running"):
        print(f"at work in other processes: {running}")
    if picture:
        print(f"picture: {picture}")
    if best is None:
        print("no trial is complete: there is no best one yet")
        return False
    print(
        f"best: trial {results.best.number}, validation accuracy {results.best.accuracy:.4f}; "
        f"its recipe: {best}"
    )
    return True


def training_pictures(args: argparse.Namespace) -> tuple[np.ndarray, np.ndarray, str]:
    """Return the training pictures of the data set that is named, their labels, and its name."""
    from ..data import datasets
    from ..data.batches import stratified_split
    from ..options import whole
    from ..streams import Stream
    from .sources import drawn_pictures

    count = None if args.pictures is None else whole(args.pictures, "--pictures")
    if args.dataset == "synthetic":
        return *drawn_pictures("train", args.seed, count), "synthetic"
    if args.dataset in ("auto", "cifar10"):
        (x, y), name = datasets.cifar10(args.data_dir)[0], "cifar10"
    else:
        (x, y, _), name = datasets.from_directory(args.dataset), args.dataset
    if count is not None and count < len(x):
        _, rows = stratified_split(y, count / len(x), Stream(args.seed, "some"))
        x, y = x[rows], y[rows]
    return x, y, name
