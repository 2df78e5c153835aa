"""What commands are given: a trained model, and pictures whose classes are known."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any

import numpy as np

from ..checkpoint import load
from ..evaluation.text import printable
from ..layers import Normalize, Sequential
from ..metrics.by_class import unnamed
from ..views import VIEWS

IN_A_FOLDER = ("model.safetensors", "best.safetensors", "last.safetensors")
"""What a run's folder holds, the model to use first: the finished one, or the best so far."""

DRAWN = {"train": (20_000, 0), "test": (4_000, 1_000_000)}
"""How many pictures examples/train_cifar.py draws, and what it adds to the seed."""


def model_file(path: str) -> Path:
    """Return the file of the model that a path means: itself, or the best one in a run's folder.

    Raises FileNotFoundError, which says what was expected, where there is none.
    """
    place = Path(path)
    if place.is_file():
        return place
    if place.is_dir():
        for name in IN_A_FOLDER:
            if (place / name).is_file():
                return place / name
        raise FileNotFoundError(
            f"{place} holds no model: expected {', '.join(IN_A_FOLDER[:-1])} or {IN_A_FOLDER[-1]}, "
            "as examples/train_cifar.py leaves them in its --out"
        )
    raise FileNotFoundError(f"there is no {place}: expected a model's file or a run's folder")


def load_model(path: str, device: str = "auto") -> Sequential:
    """Return the model that a path means, on a device, its classes named one way or another."""
    model = load(model_file(path), device)
    if not model.classes:
        model.classes = unnamed(model.output_shape[-1])
    return model


def add_data_flags(parser: argparse.ArgumentParser) -> None:
    """Add the flags that `test_pictures` reads to a command's."""
    parser.add_argument(
        "--dataset",
        default="auto",
        metavar="auto|cifar10|synthetic|FOLDER",
        help="pictures whose classes are known; FOLDER: with a sub-folder for each class; auto: "
        "what the run was made with, as its metrics.json says, or what the classes' names tell",
    )
    parser.add_argument("--data-dir", help="where CIFAR-10 lies, or is to be put")
    parser.add_argument(
        "--split", default="test", choices=["test", "train"], help="of cifar10 and synthetic"
    )


def test_pictures(
    args: argparse.Namespace, model: Sequential
) -> tuple[np.ndarray, np.ndarray, str]:
    """Return the pictures that a command's flags mean: x (N, H, W, C), y (N,), and their name.

    args: those of `add_data_flags`, and ``model``, the path.  What had to be guessed is said on
    stderr.  Raises ValueError where nothing can be, where the classes aren't the model's, and
    for a model that takes floats.
    """
    dataset, split, seed = args.dataset, args.split, 0
    if not isinstance(model.first_leaf(), Normalize):
        raise ValueError(
            "the model doesn't begin with Normalize, and how its pictures are to be prepared isn't "
            "known here: prepare them in Python, and call minicnn.evaluate"
        )
    run = metrics_beside(args.model)
    views = views_of(run)
    if views and getattr(args, "tta", views) != views:
        say(f"the run's own test was made with --tta {views}, as its recipe says")
    if dataset == "auto":
        dataset = chosen(run, model)
    if dataset == "cifar10":
        from ..data.cifar10 import CLASSES as CIFAR10
        from ..data.cifar10 import cifar10

        check_names(model, CIFAR10, "CIFAR-10")
        x, y = cifar10(args.data_dir)[("train", "test").index(split)]
        name = f"CIFAR-10, {split} set"
    elif dataset == "synthetic":
        from ..data.synthetic import CLASSES as SYNTHETIC

        check_names(model, SYNTHETIC, "the drawn set")
        if run.get("dataset") == "synthetic" and isinstance(run.get("seed"), int):
            seed = run["seed"]
        x, y = drawn_pictures(split, seed)
        name = f"drawn pictures, {split} set of seed {seed}"
    else:
        if split == "train":
            raise ValueError("--split train is of cifar10 and synthetic; a folder is taken whole")
        x, y = folder_pictures(dataset, model)
        name = f"folder {printable(dataset)}"
    return x, y, name


def drawn_pictures(
    split: str, seed: int, count: int | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """Return the pictures that examples/train_cifar.py draws with a seed, or so many of them."""
    from ..data.synthetic import synthetic

    n, shift = DRAWN[split]
    return synthetic(count or n, seed=seed + shift)


def metrics_beside(path: str) -> dict[str, Any]:
    """Return what a model's run says in its metrics.json; nothing if there is none that says it."""
    place = Path(path)
    file = (place if place.is_dir() else place.parent) / "metrics.json"
    try:
        found = json.loads(file.read_text(encoding="utf-8"))
        return found if isinstance(found, dict) else {}
    except FileNotFoundError:
        return {}
    except (OSError, ValueError, RecursionError) as error:
        say(f"{file} can't be read, and counts as if it weren't there: {error}")
        return {}


def views_of(run: dict[str, Any]) -> str | None:
    """Return the test-time augmentation that a run's recipe names, if it does."""
    recipe = run.get("recipe")
    test = recipe.get("test") if isinstance(recipe, dict) else None
    views = test.get("tta") if isinstance(test, dict) else None
    return views if isinstance(views, str) and views in VIEWS else None


def chosen(run: dict[str, Any], model: Sequential) -> str:
    """Return the data set for ``--dataset auto``, and say why it is that one."""
    from ..data.cifar10 import CLASSES
    from ..data.synthetic import CLASSES as SYNTHETIC

    if run.get("dataset") in ("cifar10", "synthetic"):
        say(f"--dataset {run['dataset']}, as the run's metrics.json says")
        return str(run["dataset"])
    for name, classes in (("cifar10", CLASSES), ("synthetic", SYNTHETIC)):
        if tuple(model.classes) == classes:
            say(f"--dataset {name}: the model's classes are called as those are")
            return name
    alike = len(model.classes) == len(CLASSES) and model.input_shape == (32, 32, 3)
    if alike and tuple(model.classes) == unnamed(len(CLASSES)):
        say("--dataset cifar10: the model's classes have no names, but there are ten of them")
        return "cifar10"
    raise ValueError(
        "--dataset auto: neither the run's metrics.json nor the model's classes "
        f"({listed(model.classes)}) tell which pictures; name them with --dataset"
    )


def check_names(model: Sequential, classes: tuple[str, ...], name: str) -> None:
    """Raise ValueError unless a model's classes are these, or have no names and are as many."""
    if tuple(model.classes) not in (classes, unnamed(len(classes))):
        raise ValueError(
            f"the model's classes are {listed(model.classes)}, but those of {name} are "
            f"{listed(classes)}: name pictures of its own classes with --dataset"
        )


def folder_pictures(path: str, model: Sequential) -> tuple[np.ndarray, np.ndarray]:
    """Return the pictures of a folder, in the model's size, with the model's class ids."""
    from ..data.folder import from_directory

    if len(model.input_shape) != 3 or model.input_shape[-1] not in (1, 3):
        raise ValueError(
            f"the model takes {model.input_shape}, expected pictures, (H, W, 3) or grey, (H, W, 1)"
        )
    H, W, C = model.input_shape
    x, y, names = from_directory(path, (H, W), channels=C)
    if tuple(model.classes) == unnamed(len(names)):
        if names != model.classes:
            say(f"the model's classes have no names: taken in the order {listed(names)}")
        return x, y
    if unknown := [name for name in names if name not in model.classes]:
        raise ValueError(
            f"{printable(path)} has sub-folders that aren't classes of the model: "
            f"{listed(unknown)}; expected some of {listed(model.classes)}"
        )
    return x, np.array([model.classes.index(name) for name in names])[y]


def listed(names: Any, most: int = 12) -> str:
    """Return some names, for an error."""
    some = ", ".join(printable(name) for name in names[:most])
    return f"{some}, and {len(names) - most} more" if len(names) > most else some


def say(text: str) -> None:
    """Print a note on stderr."""
    print(f"note: {text}", file=sys.stderr)
