"""Follow the loss of a network step by step, here and in PyTorch.

    python benchmarks/curves.py --data-dir DIR --json
    python benchmarks/curves.py --nets resnet20 --epochs 1 --pictures 2000 --picture curves.png

Both start from the same weights and are fed the same batches, by the same rule (Nesterov's SGD,
half a cosine, flips).  What differs is the order of sums in float32: first in the seventh digit,
then more, since every step is made from the one before.  --control trains a third one, PyTorch's
again, from weights that differ in their last digit: so far does rounding alone lead.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # the minicnn beside this file

import minicnn as mc
from benchmarks.accuracy import words
from benchmarks.accuracy_work import load
from benchmarks.machine import cores, record
from benchmarks.report import about, aligned
from benchmarks.results import add_json_option, write

if TYPE_CHECKING:
    from matplotlib.figure import Figure

NETS: dict[str, dict[str, Any]] = {
    "resnet20": {"name": "resnet20"},
    "vgg11 narrow": {"name": "vgg11", "filters": 16},
    "tutorial_cnn": {"name": "tutorial_cnn"},
}
BLUE, ORANGE, GREY = "#0072B2", "#E69F00", "#5F5F5F"
LINES = {"minicnn": (BLUE, "-"), "torch": (ORANGE, "--"), "control": (GREY, ":")}
FIRST = (10, 100)  # steps over which the largest difference is told


def arguments(argv: list[str] | None = None) -> argparse.Namespace:
    """Return the command line's flags."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    default = ["resnet20", "vgg11 narrow"]
    parser.add_argument("--nets", type=words, default=default, help=", ".join(NETS))
    parser.add_argument("--epochs", type=int, default=2)
    parser.add_argument("--batch-size", type=int, default=128)
    parser.add_argument("--lr", type=float, default=0.05)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--control", action="store_true", help="also train from other last digits")
    parser.add_argument("--data-dir", type=Path, help="where CIFAR-10 lies")
    parser.add_argument("--pictures", type=int, default=0, help="so many drawn ones, not CIFAR-10")
    parser.add_argument("--threads", type=int, default=cores(), help="default: cores usable")
    parser.add_argument("--picture", type=Path, help="draw the curves there (.png)")
    add_json_option(parser)
    args = parser.parse_args(argv)
    if unknown := [net for net in args.nets if net not in NETS]:
        parser.error(f"--nets {unknown[0]}: expected some of {', '.join(NETS)}")
    if min(args.epochs, args.batch_size, args.threads) < 1:
        parser.error("--epochs, --batch-size and --threads must be at least 1")
    return args


def recipe_of(args: argparse.Namespace, net: str) -> mc.Recipe:
    """Return the recipe that both follow."""
    return mc.Recipe(
        {
            "about": "two epochs, to be followed step by step",
            "model": NETS[net],
            "training": {"epochs": args.epochs, "batch_size": args.batch_size},
            "optimizer": {
                "name": "SGD",
                "momentum": 0.9,
                "nesterov": True,
                "weight_decay": 5e-4,
            },
            "schedule": {"name": "cosine", "lr": args.lr, "warmup": 0.1},
            "augment": [{"name": "RandomFlip"}],
        },
        net,
    )


def follow(
    recipe: mc.Recipe,
    train: tuple[np.ndarray, np.ndarray],
    test: tuple[np.ndarray, np.ndarray],
    seed: int,
    control: bool,
    say: Callable[[str], None] = lambda text: None,
) -> dict[str, Any]:
    """Train side by side; return every step's losses, and accuracies on ``test`` at the end."""
    from benchmarks.peers.torch_recipe import TorchRecipe

    x, y = train
    batches = mc.Batches(
        x,
        y,
        recipe.batch_size,
        stream=mc.Stream(seed, "shuffle"),
        augment=recipe.augment(),
        augment_stream=mc.Stream(seed, "augmentation"),
        drop_last=recipe.drop_last,
    )

    def built() -> mc.Sequential:
        return recipe.build_model(x.shape[1:], seed=seed)

    ours, optimizer, loss = built(), recipe.optimizer(len(batches)), recipe.loss()
    twins = {"torch": TorchRecipe(recipe, built(), len(batches))}
    if control:
        other = built()
        noise = np.random.default_rng(seed).choice([-1.0, 1.0], other.params.data.shape)
        other.params.data *= (1 + noise * np.finfo(np.float32).eps).astype("float32")
        twins["control"] = TorchRecipe(recipe, other, len(batches))
    losses: dict[str, list[float]] = {"minicnn": [], **{name: [] for name in twins}}
    for epoch in range(recipe.epochs):
        for x_batch, labels in batches:
            value = mc.train_step(ours, optimizer, x_batch, labels, loss)
            losses["minicnn"].append(float(value))
            for name, twin in twins.items():
                losses[name].append(float(twin.step(x_batch, labels)[0]))
        said = ", ".join(f"{name} {values[-1]:.4f}" for name, values in losses.items())
        say(f"{recipe.name}: epoch {epoch + 1}, last losses {said}")
    accuracies = {"minicnn": mc.evaluate(ours, *test)["accuracy"]}
    accuracies |= {name: twin.evaluate(*test)["accuracy"] for name, twin in twins.items()}
    return {"net": recipe.name, "losses": losses, "accuracies": accuracies} | compared(losses)


def apart(losses: dict[str, list[float]], name: str) -> np.ndarray:
    """Return the relative difference between PyTorch's losses and another's, step by step."""
    theirs, others = np.array(losses["torch"]), np.array(losses[name])
    return np.abs(others - theirs) / np.abs(theirs)


def compared(losses: dict[str, list[float]]) -> dict[str, Any]:
    """Return the largest relative difference over the first steps, of ours and of the control."""
    return {
        f"largest difference, {name}": {
            f"first {count}": float(apart(losses, name)[:count].max()) for count in FIRST
        }
        for name in losses
        if name != "torch"
    }


def text(found: list[dict[str, Any]]) -> str:
    """Return the summary."""
    head = ["", "against PyTorch", *(f"first {n} steps" for n in FIRST), "accuracy", "PyTorch's"]
    rows = [head]
    for net in found:
        for name in [name for name in net["losses"] if name != "torch"]:
            largest = net[f"largest difference, {name}"]
            rows.append(
                [
                    net["net"],
                    name,
                    *(f"{value:.1e}" for value in largest.values()),
                    f"{net['accuracies'][name]:.4f}",
                    f"{net['accuracies']['torch']:.4f}",
                ]
            )
    return "\n".join(aligned(rows))


def draw(found: list[dict[str, Any]]) -> Figure:
    """Draw the losses, and below them how far they are apart."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(4.6 * len(found), 6), facecolor="white", layout="constrained")
    axes = figure.subplots(2, len(found), squeeze=False, sharex="col", height_ratios=(3, 2))
    for column, net in enumerate(found):
        above, below = axes[:, column]
        for name, values in net["losses"].items():
            color, style = LINES[name]
            above.plot(values, color=color, ls=style, lw=1, label=name)
            if name != "torch":
                below.semilogy(apart(net["losses"], name), color=color, lw=0.7)
        above.set_title(net["net"])
        above.set_ylabel("loss of the step")
        above.legend(frameon=False)
        below.set_ylabel("relative difference")
        below.set_xlabel("step")
        for one in (above, below):
            one.grid(alpha=0.25)
            one.spines[["top", "right"]].set_visible(False)
    return figure


def main(argv: list[str] | None = None) -> int:
    """Run the command; return its exit code, 2 if it can't be done."""
    args = arguments(argv)

    def say(what: str) -> None:
        print(f"  {what}", file=sys.stderr, flush=True)

    try:
        import torch

        torch.set_num_threads(args.threads)
        place = None if args.data_dir is None else str(args.data_dir)
        train, test, data = load(place, args.pictures, held_out=False)
        found = []
        for net in args.nets:
            recipe = recipe_of(args, net)
            with mc.threads(args.threads):
                found.append(follow(recipe, train, test, args.seed, args.control, say))
    except (ImportError, mc.DatasetError, ValueError) as error:
        print(f"curves: {error}", file=sys.stderr)
        return 2
    result = record("curves") | {"data": data, "threads": args.threads, "nets": found}
    result["tables"] = recipe_of(args, args.nets[0]).tables
    result["versions"]["torch"] = torch.__version__
    print(text(found), end="\n\n")
    print(about(result))
    if args.json is not None:
        print(write(result, args.json, f"{args.epochs}-t{args.threads}"))
    if args.picture is not None:
        draw(found).savefig(args.picture, dpi=140)
    return 0


if __name__ == "__main__":
    sys.exit(main())
