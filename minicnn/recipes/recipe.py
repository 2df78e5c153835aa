"""A recipe, and what can be made by it."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from copy import deepcopy
from dataclasses import is_dataclass
from fnmatch import fnmatchcase
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from .. import models, optim, schedule
from ..backend import Device, Shape
from ..data import augment
from ..layers import Layer, Sequential
from ..lookahead import Lookahead
from ..losses import CrossEntropy
from ..optim import Optimizer
from ..options import whole
from ..schedule import Schedule
from .reading import (
    FIELDS,
    Place,
    RecipeError,
    Table,
    attempt,
    check_names,
    check_top,
    check_values,
    filled,
    named,
    options_of,
    table,
    tables,
)
from .schedules import SCHEDULES

FOLDER = Path(__file__).parent
OPTIMIZERS = {kind.__name__: kind for kind in (optim.SGD, optim.Adam, optim.AdamW, optim.RMSprop)}
VARIATIONS = {
    name: kind
    for name, kind in vars(augment).items()
    if isinstance(kind, type) and is_dataclass(kind) and "__call__" in vars(kind)
}
"""The classes of `data.augment` that vary pictures."""


def names() -> list[str]:
    """Return the names of the recipes that come with minicnn."""
    return sorted(path.stem for path in FOLDER.glob("*.toml"))


def load(name: str | os.PathLike[str]) -> Recipe:
    """Return the recipe of that name, or in a file of one's own: a path that ends in .toml.

    Raises `RecipeError`, with file and key, for whatever isn't as it should be.
    """
    path = Path(name)
    if path.suffix != ".toml":
        if str(name) not in names():
            raise RecipeError(
                f"recipe {str(name)!r}: expected one of {', '.join(names())}, or the path of a "
                "file that ends in .toml"
            )
        path = FOLDER / f"{name}.toml"
    import tomllib  # here, so that importing minicnn takes no longer

    try:
        found = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise RecipeError(f"{path}: can't be read: {error.strerror}") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise RecipeError(f"{path}: isn't TOML: {error}") from error
    return Recipe(found, path.stem, str(path))


class Recipe:
    """How to train a network, checked.

        about = "what this is, and where it comes from"

        [model]                     # a network of mc.models, and its options
        name = "resnet20"

        [training]
        epochs = 200
        batch_size = 128            # further: drop_last, dtype, accumulate (parts of a batch),
                                    # whiten (mc.models.whiten before the first step)

        [optimizer]                 # SGD, Adam, AdamW or RMSprop, and its options but lr
        name = "SGD"
        momentum = 0.9

        [optimizer.lr_scale]        # patterns of parameters' names, factors of their rates
        "*/beta" = 64.0

        [optimizer.lookahead]       # power: the decay grows as the power of the time
        every = 5
        decay = 0.774
        power = 3.0

        [schedule]                  # one of recipes/schedules.py, times in shares or epochs
        name = "milestones"
        lr = 0.1
        at = [0.5, 0.75]

        [[augment]]                 # classes of mc.augment, in this order
        name = "RandomFlip"

        [loss]
        label_smoothing = 0.0

        [test]
        tta = "flip"                # how `evaluate` looks at pictures: "", "flip", "flip+shift"

        [[freeze]]                  # layers by path or pattern, after so many epochs
        layer = "conv2d_1"
        after = 3
        parameters = ["w"]          # all of them if it isn't there

    found: such tables.  name: the recipe's.  source: where they come from, for errors.  ``tables``
    are the same with all defaults.  Raises `RecipeError` unless everything in them exists and fits.
    """

    def __init__(self, found: Mapping[str, Any], name: str, source: str = "") -> None:
        self.name, self.source = name, source or name
        self.tables = self.checked(found, Place(self.source))
        training = self.tables["training"]
        self.about: str = self.tables["about"].strip()
        self.epochs: int = training["epochs"]
        self.batch_size: int = training["batch_size"]
        self.drop_last: bool = training["drop_last"]
        self.dtype: str = training["dtype"]
        self.accumulate: int = training["accumulate"]
        self.whiten: bool = training["whiten"]
        self.tta: str | None = self.tables["test"]["tta"] or None
        place = Place(self.source)
        attempt(self.network, place / "model")
        attempt(partial(self.optimizer, 100), place / "optimizer")

    def checked(self, found: Mapping[str, Any], place: Place) -> Table:
        """Return the tables with all defaults; raise `RecipeError` where they aren't right."""
        found = table(found, place)
        check_top(found, place)
        whole_recipe: Table = {"about": found["about"]}
        for key, known, own in (
            ("model", models.MODELS, ("classes",)),
            ("optimizer", OPTIMIZERS, ("lr",)),
            ("schedule", SCHEDULES, ("steps", "epochs")),
        ):
            name, given = named(found[key], known, place / key)
            given = options_of(known[name], given, place / key, own)
            whole_recipe[key] = {"name": name, **given}
        if "lookahead" in whole_recipe["optimizer"]:
            given, inside = whole_recipe["optimizer"]["lookahead"], place / "optimizer.lookahead"
            whole_recipe["optimizer"]["lookahead"] = filled(given, FIELDS["lookahead"], inside)
        varied = []
        for item in tables(found.get("augment", []), place / "augment"):
            name, given = named(item, VARIATIONS, place / "augment")
            inside = place / f"augment {name}"
            given = options_of(VARIATIONS[name], given, inside, ())
            attempt(partial(VARIATIONS[name], **given), inside)
            varied.append({"name": name, **given})
        whole_recipe["augment"] = varied
        for key in ("training", "loss", "test"):
            whole_recipe[key] = filled(found.get(key, {}), FIELDS[key], place / key)
        frozen = tables(found.get("freeze", []), place / "freeze")
        whole_recipe["freeze"] = [filled(f, FIELDS["freeze"], place / "freeze") for f in frozen]
        check_values(whole_recipe, place)
        return whole_recipe

    def __repr__(self) -> str:
        return f"Recipe({self.name!r}, {self.source!r})"

    def changed(self, **changes: Any) -> Recipe:
        """Return a recipe that differs in these values: epochs, batch_size, ..., and lr.

        A key is one of the table [training], or ``lr``; None leaves what there is.
        """
        changed = deepcopy(self.tables)
        for key, value in changes.items():
            if key != "lr" and key not in changed["training"]:
                known = ", ".join(["lr", *changed["training"]])
                raise RecipeError(f"{self.source}: {key}: unknown; expected one of {known}")
            if value is not None:
                changed["schedule" if key == "lr" else "training"][key] = value
        return Recipe(changed, self.name, self.source)

    # What is made by it.

    def network(self, classes: int = 10) -> Sequential:
        """Return the network, not built."""
        options = dict(self.tables["model"])
        return models.MODELS[options.pop("name")](classes=classes, **options)

    def build_model(
        self, input_shape: Shape, classes: int = 10, seed: int = 0, device: str | Device = "cpu"
    ) -> Sequential:
        """Return the network, built; raise `RecipeError` if a layer to freeze isn't in it."""
        model = self.network(classes)
        model.build(input_shape, seed=seed, device=device, dtype=self.dtype)
        for frozen in self.tables["freeze"]:
            alike = list(layers_like(model, frozen["layer"]))
            if not alike:
                known = ", ".join(layer.path for layer in model.layers)
                raise Place(self.source, "freeze.layer").error(
                    f"{frozen['layer']!r}: the network has no such layer; expected one of {known}"
                )
            parts = [part for layer in alike for part in layer.walk()]
            there = {name for part in parts for name in part.declared}
            if not there and not any(part.buffers for part in parts):
                raise Place(self.source, "freeze.layer").error(
                    f"{frozen['layer']!r}: there is nothing in it that could be frozen"
                )
            check_names(frozen["parameters"], there, Place(self.source, "freeze.parameters"))
        return model

    def prepare(self, model: Sequential, x: np.ndarray) -> None:
        """Do what the recipe wants done before the first step.

        x: the training pictures, (N,) + model.input_shape, of which a whitening layer is made.
        """
        if self.whiten:
            models.whiten(model, x)

    def schedule(self, steps_per_epoch: int) -> Schedule:
        """Return the learning rate of each step."""
        options = dict(self.tables["schedule"])
        steps = whole(steps_per_epoch, "steps_per_epoch") * self.epochs
        return SCHEDULES[options.pop("name")](steps, self.epochs, **options)

    def optimizer(self, steps_per_epoch: int) -> Optimizer:
        """Return a new optimizer, with the schedule as its learning rate."""
        options = dict(self.tables["optimizer"])
        lr = attempt(partial(self.schedule, steps_per_epoch), Place(self.source, "schedule"))
        if "lookahead" in options:
            options["lookahead"] = self.lookahead(steps_per_epoch)
        return OPTIMIZERS[options.pop("name")](lr=lr, **options)

    def lookahead(self, steps_per_epoch: int) -> Lookahead:
        """Return the lookahead of the optimizer; with a power its decay grows with the run."""
        options = dict(self.tables["optimizer"]["lookahead"])
        power, made = options.pop("power"), Lookahead(**options)
        if not power:
            return made
        rising = schedule.rise(options["decay"], steps_per_epoch * self.epochs, power)
        return Lookahead(options["every"], rising)

    def augment(self) -> list[Any]:
        """Return what varies the pictures, in order."""
        made = []
        for item in self.tables["augment"]:
            options = dict(item)
            made.append(VARIATIONS[options.pop("name")](**options))
        return made

    def loss(self) -> CrossEntropy:
        """Return the loss to train with."""
        return CrossEntropy(**self.tables["loss"])

    def freeze(self, model: Sequential, epoch: int) -> None:
        """Freeze the layers whose time has come, when ``epoch`` epochs are done.

        Of what is made of layers, such as a Residual, it is the layers inside.
        """
        for frozen in self.tables["freeze"]:
            if epoch >= frozen["after"]:
                for layer in layers_like(model, frozen["layer"]):
                    for part in layer.walk():
                        freeze_parameters(part, frozen["parameters"])

    @contextmanager
    def weights_to_test(self, model: Sequential, optimizer: Optimizer) -> Iterator[None]:
        """Put into the model, while the block runs, the weights that are to be tested and kept.

        They are the averaged ones if the optimizer keeps an average (``ema_decay``), or else the
        slow ones if it looks ahead, or else the model's own.
        """
        if optimizer.averages:
            with optimizer.averaged_weights(model.params):
                yield
        else:
            yield


def freeze_parameters(layer: Layer, names: Sequence[str]) -> None:
    """Freeze the parameters of a layer that are named, or the layer if none are."""
    left = tuple(name for name in layer.trained if names and name not in names)
    if not layer.children() and (left != layer.trained or not (names or layer.trainable is False)):
        layer.trainable = left or False


def layers_like(model: Sequential, pattern: str) -> Iterator[Layer]:
    """Yield the layers of a built model whose path is like the pattern, as of files."""
    return (layer for layer in model.walk() if layer.path and fnmatchcase(layer.path, pattern))
