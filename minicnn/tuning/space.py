"""The space that is searched: the values that each parameter may take, as data to be read.

    [lr]                            # numbers between two, here evenly in their logarithm
    low = 0.01
    high = 0.5
    log = true

    [batch_size]
    choices = [64, 128, 256]

    [augment]
    choices = ["none", "flip", "flip+crop4"]

    [optimizer.momentum]            # any key of the recipe
    low = 0.8
    high = 0.95

``settings`` says what the names mean.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

from ..options import is_whole, number
from ..recipes import Recipe, RecipeError
from ..recipes.reading import Place, check_keys, short, table
from .settings import Value, changed, missing, own_value, subject

DIGITS = 3
"""Numbers are rounded to so many digits: more say nothing, and a recipe is to be read."""


@dataclass(frozen=True)
class Numbers:
    """Numbers from ``low`` to ``high``, evenly or evenly in their logarithm, maybe in steps.

    Integers if both bounds are, and the recipe has one there.
    """

    low: float
    high: float
    log: bool = False
    step: float | None = None

    def __post_init__(self) -> None:
        number(self.low, "low", **({"above": 0} if self.log else {}))
        number(self.high, "high", above=self.low)
        if not isinstance(self.log, bool):
            raise ValueError(f"log {self.log!r}: expected true or false")
        if self.step is not None:
            number(self.step, "step", above=0)
            if self.log:
                raise ValueError("step and log: expected one of the two")

    def __str__(self) -> str:
        step = "" if self.step is None else f" in steps of {self.step:g}"
        return f"{self.low:g} to {self.high:g}{step}{', logarithmic' if self.log else ''}"

    @property
    def whole(self) -> bool:
        """Whether they are integers."""
        return all(is_whole(v) for v in (self.low, self.high, self.step or 1))

    def draw(self, trial: Any, name: str) -> float:
        """Let one of Optuna's trials draw a number."""
        if self.whole:
            low, high, step = int(self.low), int(self.high), int(self.step or 1)
            return int(trial.suggest_int(name, low, high, step=step, log=self.log))
        found = trial.suggest_float(name, self.low, self.high, step=self.step, log=self.log)
        return float(found)

    def value(self, drawn: float) -> Value:
        """Return what is used for a number that was drawn: it has few digits."""
        if self.whole:
            return int(drawn)
        return min(max(float(f"{drawn:.{DIGITS}g}"), float(self.low)), float(self.high))

    def has(self, value: Any) -> bool:
        """Whether this is one of the values."""
        if isinstance(value, str | bool | None) or not self.low <= value <= self.high:
            return False
        steps = (value - self.low) / (self.step or (1 if self.whole else value - self.low) or 1)
        return abs(steps - round(steps)) < 1e-9

    def ends(self) -> tuple[Value, ...]:
        """Return the values that show whether a recipe takes this."""
        return self.value(self.low), self.value(self.high)

    def as_table(self) -> dict[str, Any]:
        """Return this as it stands in a file."""
        found = {"low": self.low, "high": self.high, "log": self.log, "step": self.step}
        return {key: value for key, value in found.items() if value not in (None, False)}


@dataclass(frozen=True)
class Choices:
    """One of some values."""

    values: tuple[Value, ...]

    def __post_init__(self) -> None:
        if not self.values or any(not isinstance(v, int | float | str) for v in self.values):
            raise ValueError(f"choices {self.values!r}: expected numbers or texts")
        if len(set(map(repr, self.values))) < len(self.values):
            raise ValueError(f"choices {self.values!r}: one is there twice")

    def __str__(self) -> str:
        return " | ".join(map(str, self.values))

    def draw(self, trial: Any, name: str) -> Value:
        """Let one of Optuna's trials draw a value."""
        drawn: Value = trial.suggest_categorical(name, self.values)
        return drawn

    def value(self, drawn: Any) -> Value:
        """Return what was drawn."""
        return drawn

    def has(self, value: Any) -> bool:
        """Whether this is one of the values."""
        return value in self.values

    def ends(self) -> tuple[Value, ...]:
        """Return the values that show whether a recipe takes this."""
        return self.values

    def as_table(self) -> dict[str, Any]:
        """Return this as it stands in a file."""
        return {"choices": list(self.values)}


Range: TypeAlias = Numbers | Choices
Space: TypeAlias = dict[str, Range]

NUMBERS = ("lr", "weight_decay", "dropout", "width")
"""Parameters that are no integers even between 0 and 1."""


def read_space(found: str | os.PathLike[str] | Mapping[str, Any], recipe: Recipe) -> Space:
    """Return the space in a TOML file, or in such tables, checked against the recipe.

    A list will do for {"choices": [...]}.  Raises `RecipeError` with file and key for whatever
    isn't as it should be, or can't stand in the recipe.
    """
    source = "space" if isinstance(found, Mapping) else str(found)
    tables = found if isinstance(found, Mapping) else read_file(Path(found))
    space: Space = {}
    for name, given in flat(table(tables, Place(source))).items():
        place = Place(source, name)
        if lacking := missing(recipe, name):
            raise place.error(lacking)
        if twin := next((other for other in space if subject(other) == subject(name)), None):
            raise place.error(f"it is what {twin} is: name one of the two")
        space[name] = one_range(name, given, place)
        for value in space[name].ends():
            try:
                changed(recipe, {name: value})
            except RecipeError as error:
                raise place.error(f"{value!r} can't stand in the recipe: {error}") from error
    if not space:
        raise Place(source).error("there is nothing to search: expected tables such as [lr]")
    return space


def read_file(path: Path) -> dict[str, Any]:
    """Return what is in a TOML file."""
    import tomllib  # here, so that importing takes no longer

    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise RecipeError(f"{path}: can't be read: {error.strerror}") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise RecipeError(f"{path}: isn't TOML: {error}") from error


def flat(tables: Mapping[str, Any], before: str = "") -> dict[str, Any]:
    """Return the ranges in nested tables by their names: {"optimizer.momentum": {...}}."""
    found: dict[str, Any] = {}
    for key, given in tables.items():
        if (
            isinstance(given, Mapping)
            and given
            and set(given) != {"choices"}
            and all(isinstance(v, Mapping | list | tuple) for v in given.values())
        ):
            found |= flat(given, f"{before}{key}.")
        else:
            found[f"{before}{key}"] = given
    return found


def one_range(name: str, found: Any, place: Place) -> Range:
    """Return what a parameter may be; raise `RecipeError` if it isn't said right."""
    given = table({"choices": found} if isinstance(found, list | tuple) else found, place)
    try:
        if "choices" in given:
            check_keys(given, ("choices",), place)
            if not isinstance(given["choices"], list | tuple):
                raise ValueError(f"choices {short(given['choices'])}: expected a list")
            return Choices(tuple(given["choices"]))
        check_keys(given, ("low", "high", "log", "step"), place)
        if not {"low", "high"} <= set(given):
            raise ValueError("expected low and high, or choices")
        if name in NUMBERS:
            given |= {"low": number(given["low"], "low"), "high": number(given["high"], "high")}
        return Numbers(**given)
    except RecipeError:
        raise
    except ValueError as error:
        raise place.error(str(error)) from error


def default_space(recipe: Recipe, pictures: int) -> tuple[Space, dict[str, str]]:
    """Return the space around a recipe, and what was left out of it, with the reason.

    pictures: how many there are to train with, which bounds the batch size.
    """
    lr = float(recipe.tables["schedule"]["lr"])
    decay = float(recipe.tables["optimizer"].get("weight_decay", 0.0))
    size = recipe.batch_size
    sizes = [s for s in dict.fromkeys((size // 2, size, 2 * size)) if 0 < s <= pictures // 2]
    asked: dict[str, Range | None] = {
        "lr": around(lr, 10),
        "batch_size": Choices(tuple(sizes)) if len(sizes) > 1 else None,
        "weight_decay": around(decay, 10) if decay else Choices((0.0, 1e-5, 1e-4, 1e-3)),
        "dropout": Numbers(0.0, 0.5),
        "width": Choices((0.5, 0.75, 1.0, 1.5)),
        "augment": Choices(augmentations(recipe)),
    }
    left_out = {name: missing(recipe, name) for name in asked if missing(recipe, name)}
    if asked["batch_size"] is None:
        left_out["batch_size"] = f"{pictures} pictures leave no choice around {size}"
    return {n: found for n, found in asked.items() if found and n not in left_out}, left_out


def around(value: float, factor: float) -> Numbers:
    """Return the numbers around a value, in both directions by a factor."""
    return Numbers(float(f"{value / factor:.3g}"), float(f"{value * factor:.3g}"), log=True)


def augmentations(recipe: Recipe) -> tuple[str, ...]:
    """Return ways to vary pictures; the recipe's own among them, once."""
    ways = ("none", "flip", "flip+crop4", "flip+crop4+cutout8")
    own = recipe.tables["augment"]
    alike = {way: changed(recipe, {"augment": way}).tables["augment"] for way in ways}
    return ("recipe", *(way for way in ways if alike[way] != own))


def own_setting(space: Mapping[str, Range], recipe: Recipe) -> dict[str, Value]:
    """Return the recipe's own values, where the space has them: the first setting to try."""
    values = {name: own_value(recipe, name) for name in space}
    return {n: v for n, v in values.items() if v is not None and space[n].has(v)}


def as_tables(space: Mapping[str, Range]) -> dict[str, Any]:
    """Return a space as data."""
    return {name: found.as_table() for name, found in space.items()}


def values_of(space: Mapping[str, Range], drawn: Mapping[str, Any]) -> dict[str, Value]:
    """Return the values that are used for what was drawn, in the order of the space."""
    return {name: found.value(drawn[name]) for name, found in space.items() if name in drawn}
