"""A recipe with other values in it: what a parameter of the search means to a recipe.

lr, batch_size, weight_decay    the schedule's, the training's, the optimizer's
dropout                         the network's option of that name
width                           a factor of the network's own width
augment                         what varies the pictures: "none", "recipe", "flip+crop4"
TABLE.KEY                       any other number or text in the recipe: "optimizer.momentum"
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Mapping
from copy import deepcopy
from typing import Any

from .. import models
from ..recipes import Recipe, RecipeError
from ..recipes.reading import Table

Value = float | int | str | bool
"""What a parameter may be."""

WIDTHS = ("filters", "widths", "width")
"""What networks call the option that makes them wider."""

PLACES = {
    "lr": "schedule.lr",
    "batch_size": "training.batch_size",
    "weight_decay": "optimizer.weight_decay",
    "dropout": "model.dropout",
    "width": "model.width",
}
"""Where parameters with a name of their own are in a recipe."""

WORDS: dict[str, tuple[str, str]] = {
    "flip": ("RandomFlip", ""),
    "alternate": ("AlternatingFlip", ""),
    "crop": ("RandomCrop", "padding"),
    "cutout": ("Cutout", "size"),
    "rotate": ("RandomRotation", ""),
    "zoom": ("RandomZoom", ""),
    "light": ("BrightnessContrast", ""),
    "mixup": ("MixUp", ""),
    "cutmix": ("CutMix", ""),
}
"""Words for what varies pictures: the class, and what a number behind the word is called there."""


def changed(recipe: Recipe, values: Mapping[str, Value]) -> Recipe:
    """Return the recipe with these values in it; raise `RecipeError` if it can't take them."""
    tables = deepcopy(recipe.tables)
    for name, value in values.items():
        if lacking := missing(recipe, name):
            raise RecipeError(f"{recipe.source}: {name}: {lacking}")
        DIALS.get(name, set_key)(tables, value, name)
    return Recipe(tables, recipe.name, recipe.source)


def own_value(recipe: Recipe, name: str) -> Value | None:
    """Return what a parameter is in the recipe as it stands, or its network's default, or None."""
    tables = recipe.tables
    if name == "augment":
        return "recipe"
    if name == "width":
        return 1.0
    if name == "weight_decay":
        return tables["optimizer"].get(name, 0.0)
    table, key = place_of(name)
    found = tables
    for part in table.split("."):
        found = found.get(part, {})
    default = model_options(tables).get(key) if table == "model" else None
    return found.get(key, default if isinstance(default, Value) else None)


def missing(recipe: Recipe, name: str) -> str:
    """Say why a recipe can't be searched over this parameter; "" if it can."""
    options = model_options(recipe.tables)
    network = recipe.tables["model"]["name"]
    if name == "width" and not any(key in options for key in WIDTHS):
        return f"the network {network} has one width only"
    if name == "dropout" and "dropout" not in options:
        return f"the network {network} has no such option"
    if name in ("training.epochs", "epochs"):
        return "it is what trials are compared by: set it for all of them (--epochs, epochs=)"
    if name in DIALS:
        return ""
    table, key = place_of(name)
    if table.split(".")[0] not in ("model", "training", "optimizer", "schedule", "loss") or not key:
        known = ", ".join(DIALS)
        return f"unknown; expected {known}, or a key of the recipe such as optimizer.momentum"
    if "." in table and own_value(recipe, name) is None:
        return f"the recipe has no {table}"
    return ""


def place_of(name: str) -> tuple[str, str]:
    """Return the table and the key that a parameter is in a recipe, however it is called."""
    table, _, key = PLACES.get(name, name).rpartition(".")
    return table, key


def subject(name: str) -> tuple[str, str]:
    """Return what two names of one thing have in common, as "width" and "model.filters"."""
    table, key = place_of(name)
    return table, "width" if table == "model" and key in WIDTHS else key


def model_options(tables: Mapping[str, Any]) -> dict[str, Any]:
    """Return the options of the recipe's network, with their defaults."""
    arguments = inspect.signature(models.MODELS[tables["model"]["name"]]).parameters
    return {name: a.default for name, a in arguments.items() if name != "classes"}


def set_key(tables: Table, value: Value, name: str) -> None:
    """Set a key of a recipe's table."""
    table, key = place_of(name)
    for part in table.split("."):
        tables = tables[part]
    tables[key] = value


def set_weight_decay(tables: Table, value: Value, name: str) -> None:
    """Set the optimizer's weight decay."""
    if value or "weight_decay" in tables["optimizer"]:
        tables["optimizer"]["weight_decay"] = value


def set_dropout(tables: Table, value: Value, name: str) -> None:
    """Set the network's rate of dropout."""
    tables["model"]["dropout"] = value


def set_width(tables: Table, value: Any, name: str) -> None:
    """Make the network wider by a factor; by 1 it stays as it is."""
    if value == 1:
        return
    options = model_options(tables)
    key = next(key for key in WIDTHS if key in options)
    now = tables["model"].get(key, options[key])
    if isinstance(now, list | tuple):
        tables["model"][key] = [max(1, round(width * value)) for width in now]
    else:
        tables["model"][key] = max(1, round(now * value))


def set_augment(tables: Table, value: Any, name: str) -> None:
    """Set what varies the pictures."""
    if value != "recipe":
        tables["augment"] = variations(value)


def variations(text: str) -> list[Table]:
    """Return the tables [[augment]] that a text such as "flip+crop4+cutout8" stands for.

    Raises `RecipeError` for a word that isn't known.
    """
    made = []
    for word in text.split("+") if text != "none" else ():
        match = re.fullmatch("([a-z]+)([0-9]*)", word.strip())
        name, key = WORDS.get(match[1], ("", "")) if match else ("", "")
        if match is None or not name or (match[2] and not key):
            raise RecipeError(
                f"augment {text!r}: expected 'none', 'recipe', or words such as "
                f"'flip+crop4+cutout8', of {', '.join(WORDS)}"
            )
        made.append({"name": name, **({key: int(match[2])} if match[2] else {})})
    return made


DIALS: dict[str, Callable[[Table, Any, str], None]] = {
    "lr": set_key,
    "batch_size": set_key,
    "weight_decay": set_weight_decay,
    "dropout": set_dropout,
    "width": set_width,
    "augment": set_augment,
}
"""The parameters that have a name of their own."""
