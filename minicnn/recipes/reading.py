"""What may stand in a recipe: every table, its keys and the type of each.

An error names file, table and key, and says what is expected.  What a class or function of minicnn
takes, its own signature says, so that a new option needs nothing here.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Mapping
from functools import partial
from typing import Any

from ..losses import CrossEntropy
from ..options import is_whole, whole

Table = dict[str, Any]


class RecipeError(ValueError):
    """A recipe can't be used; the text names file and key, and says what is expected."""


class Required:
    """Stands in the place of a default: the key has to be there; an example shows its type."""

    def __init__(self, example: Any) -> None:
        self.example = example


FIELDS: dict[str, Table] = {
    "training": {
        "epochs": Required(10),
        "batch_size": Required(128),
        "drop_last": False,
        "dtype": "float32",
        "accumulate": 1,
        "whiten": False,
    },
    "lookahead": {"every": Required(5), "decay": Required(0.8), "power": 0.0},
    "loss": {"label_smoothing": 0.0},
    "test": {"tta": ""},
    "freeze": {"layer": Required("conv2d_1"), "after": Required(3), "parameters": ()},
}
"""Keys and defaults of the tables that aren't a call of something by its name."""

DTYPES = ("float32", "float64", "bfloat16", "float16")
TTA = ("", "flip", "flip+shift")
TOP = ("about", "model", "optimizer", "schedule", "augment", "training", "loss", "test", "freeze")
NEEDED = ("about", "model", "optimizer", "schedule", "training")


class Place:
    """Where in which file something stands, for errors."""

    def __init__(self, source: str, path: str = "") -> None:
        self.source, self.path = source, path

    def __truediv__(self, key: str) -> Place:
        return Place(self.source, f"{self.path}.{key}" if self.path else key)

    def error(self, text: str) -> RecipeError:
        """Return the error, to be raised."""
        return RecipeError(f"{self.source}: {self.path}{': ' if self.path else ''}{text}")


def check_top(found: Mapping[str, Any], place: Place) -> None:
    """Raise `RecipeError` unless these are the tables that a recipe has."""
    check_keys(found, TOP, place)
    for key in NEEDED:
        if key not in found:
            raise (place / key).error("is missing")
    if not isinstance(found["about"], str) or not found["about"].strip():
        raise (place / "about").error("expected a text: what this is, and where it comes from")


def check_keys(found: Mapping[str, Any], known: Iterable[str], place: Place) -> None:
    """Raise `RecipeError` for a key that isn't known."""
    known = list(known)
    for key in found:
        if key not in known:
            raise (place / str(key)).error(f"unknown; expected one of {', '.join(known) or '-'}")


def check_names(given: tuple[str, ...], there: Iterable[str], place: Place) -> None:
    """Raise `RecipeError` for a parameter that no layer has."""
    for name in given:
        if not isinstance(name, str) or name not in there:
            expected = ", ".join(sorted(there))
            raise place.error(f"{name!r}: no such parameter; expected some of {expected}")


def check_values(found: Mapping[str, Any], place: Place) -> None:
    """Raise `RecipeError` for a value that is of the right type, but out of its range."""
    training, inside = found["training"], place / "training"
    for key in ("epochs", "batch_size", "accumulate"):
        attempt(partial(whole, training[key], "value"), inside / key)
    if training["dtype"] not in DTYPES:
        raise (inside / "dtype").error(
            f"{training['dtype']!r}: expected one of {', '.join(DTYPES)}"
        )
    if found["test"]["tta"] not in TTA:
        expected = ", ".join(repr(way) for way in TTA)
        raise (place / "test.tta").error(f"{found['test']['tta']!r}: expected one of {expected}")
    for frozen in found["freeze"]:
        attempt(partial(whole, frozen["after"], "value", least=0), place / "freeze.after")
    attempt(partial(CrossEntropy, **found["loss"]), place / "loss")


def table(found: Any, place: Place) -> Table:
    """Return a table."""
    if not isinstance(found, Mapping):
        raise place.error(f"{short(found)}: expected a table")
    return dict(found)


def tables(found: Any, place: Place) -> list[Table]:
    """Return a list of tables: [[augment]] once for each."""
    if not isinstance(found, list | tuple):
        raise place.error(f"{short(found)}: expected tables, each under [[{place.path}]]")
    return [table(item, place) for item in found]


def filled(found: Any, fields: Mapping[str, Any], place: Place) -> Table:
    """Return a table with the defaults of ``fields`` where it says nothing, its types checked."""
    given, whole = table(found, place), {}
    check_keys(given, fields, place)
    for key, default in fields.items():
        if key in given:
            example = default.example if isinstance(default, Required) else default
            whole[key] = typed(given[key], example, place / key)
        elif isinstance(default, Required):
            raise (place / key).error(f"is missing; for example {key} = {default.example!r}")
        else:
            whole[key] = default
    return whole


def typed(value: Any, example: Any, place: Place) -> Any:
    """Return a value of the same type as the example; an integer will do for a float."""
    number = isinstance(value, int | float) and not isinstance(value, bool)
    for kind, right, expected in (
        (bool, isinstance(value, bool), "true or false"),
        (int, is_whole(value), "an integer"),
        (float, number, "a number"),
        (str, isinstance(value, str), "a text"),
        (tuple, isinstance(value, list | tuple), "a list"),
        (dict, isinstance(value, Mapping), "a table"),
    ):
        if isinstance(example, kind):
            if not right:
                raise place.error(f"{short(value)}: expected {expected}")
            break
    return tuple(value) if isinstance(value, list) else value


def named(found: Any, known: Mapping[str, Any], place: Place) -> tuple[str, Table]:
    """Return the ``name`` in a table, one of those known, and what else is in it."""
    given = table(found, place)
    name = given.pop("name", None)
    if name is None:
        raise (place / "name").error(f"is missing; expected one of {', '.join(known)}")
    if not isinstance(name, str) or name not in known:
        raise (place / "name").error(f"{short(name)}: expected one of {', '.join(known)}")
    return name, given


def options_of(make: Callable[..., Any], found: Table, place: Place, own: Iterable[str]) -> Table:
    """Return the arguments for ``make`` in a table, their types checked against its defaults.

    own: its arguments that a recipe doesn't give in this table.
    """
    wanted: Table = {}
    for name, argument in inspect.signature(make).parameters.items():
        if name not in own:
            missing = argument.default is inspect.Parameter.empty
            wanted[name] = Required(None) if missing else argument.default
    check_keys(found, wanted, place)
    for key, default in wanted.items():
        if isinstance(default, Required) and key not in found:
            raise (place / key).error("is missing")
    return {
        key: typed(value, None if isinstance(wanted[key], Required) else wanted[key], place / key)
        for key, value in found.items()
    }


def attempt(make: Callable[[], Any], place: Place) -> Any:
    """Return what ``make`` makes; what it says of wrong values is said with their place."""
    try:
        return make()
    except RecipeError:
        raise
    except (ValueError, TypeError, ArithmeticError) as error:
        raise place.error(str(error)) from error


def short(value: Any) -> str:
    """Write a value for an error, cut if it is long."""
    text = repr(value)
    return text if len(text) <= 100 else f"{text[:100]}..."
