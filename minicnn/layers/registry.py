"""From JSON back to layers, through a fixed list of names: nothing is imported by name."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ..options import number
from ..params import Penalty
from .activation import GELU, LeakyReLU, ReLU, Sigmoid, SiLU, Softmax, Tanh
from .base import Layer
from .branches import Concat, Residual
from .conv import Conv2D
from .dense import Dense, Flatten
from .dropout import Dropout
from .fixed import PadChannels, Scale
from .norm import BatchNorm, Normalize
from .pool import AveragePool2D, GlobalAveragePool2D, MaxPool2D
from .sequential import Sequential
from .trainable import as_trainable

LAYERS: dict[str, type[Layer]] = {
    kind.__name__: kind
    for kind in (
        AveragePool2D,
        BatchNorm,
        Concat,
        Conv2D,
        Dense,
        Dropout,
        Flatten,
        GELU,
        GlobalAveragePool2D,
        LeakyReLU,
        MaxPool2D,
        Normalize,
        PadChannels,
        ReLU,
        Residual,
        Scale,
        Sequential,
        SiLU,
        Sigmoid,
        Softmax,
        Tanh,
    )
}


MOST_LAYERS = 5000
DEEPEST = 50  # lists and dictionaries inside each other: about 24 models inside models
MOST_VALUES = 100_000  # arguments, and numbers in them
LONGEST_NAMES = 300  # characters of names inside each other, those that are given
LARGEST_INTEGER = 2**63 - 1


def from_config(config: Mapping[str, Any], own: Mapping[str, type[Layer]] | None = None) -> Any:
    """Return the layer that `Layer.config` described, not built.

    own: further layer classes by name, for layers that aren't minicnn's.
    Raises ValueError for unknown types and arguments, and for more than `check_size` allows.
    """
    check_size(config)
    try:
        return make(config, {**LAYERS, **(own or {})})
    except ValueError as error:
        text = str(error)
        if len(text) <= 1000:
            raise
        raise ValueError(f"{text[:500]} ... {text[-500:]}") from error


def check_size(config: Any) -> None:
    """Raise ValueError if a description is so large or so deep that it can't be meant well."""
    level, depth, layers, values = [(config, 0)], 0, 0, 0
    while level:
        depth, values = depth + 1, values + len(level)
        if depth > DEEPEST:
            raise ValueError(f"more than {DEEPEST} lists and layers inside each other")
        if values > MOST_VALUES:
            raise ValueError(f"more than {MOST_VALUES:,} values in the description of the layers")
        below: list[tuple[Any, int]] = []
        for value, length in level:  # length: of the names of all that it is in
            if isinstance(value, Mapping):
                layers += "type" in value
                length += len(value["name"]) if isinstance(value.get("name"), str) else 0
                below += [(inner, length) for inner in value.values()]
            elif isinstance(value, list | tuple):
                below += [(inner, length) for inner in value]
            elif isinstance(value, int) and abs(value) > LARGEST_INTEGER:
                raise ValueError(f"the integer {short(value)} is too large")
            if length > LONGEST_NAMES:
                raise ValueError(f"layer names inside each other of over {LONGEST_NAMES} letters")
        level = below
    if layers > MOST_LAYERS:
        raise ValueError(f"{layers} layers, more than {MOST_LAYERS}")


def make(config: Any, known: Mapping[str, type[Layer]]) -> Layer:
    """Do `from_config` for a description that isn't too large."""
    name = config.get("type") if isinstance(config, Mapping) else config
    if not isinstance(config, Mapping) or not isinstance(name, str) or name not in known:
        raise ValueError(
            f"unknown layer type {short(name)}: expected one of {', '.join(sorted(known))}; give "
            "own layers by name"
        )
    kind, options = known[name], {}
    for key, value in config.items():
        if key != "type":
            options[key] = argument(kind, key, value, known)
    try:
        if issubclass(kind, Sequential):
            return kind(*options.pop("layers"), **options)
        return kind(**options)
    except (ArithmeticError, AttributeError, LookupError, TypeError) as error:
        raise ValueError(f"layer {name}: {str(error)[:200]}") from error


def argument(kind: type[Layer], key: str, value: Any, known: Mapping[str, type[Layer]]) -> Any:
    """Return a layer's argument from what JSON holds of it."""
    if key == "trainable":
        return as_trainable(value)
    default = getattr(kind, key, None)  # where a dataclass keeps it
    if isinstance(default, bool) and not isinstance(value, bool):
        raise ValueError(f"layer {kind.__name__}: {key} {short(value)}: expected true or false")
    if key in ("layers", "branches"):
        if not isinstance(value, list | tuple):
            raise ValueError(f"layer {kind.__name__}: {key} {short(value)}: expected a list")
        nothing = key == "branches"  # there, None is x itself
        return [None if item is None and nothing else make(item, known) for item in value]
    if key in ("body", "shortcut"):
        return make(value, known)
    if key == "kernel_regularizer":
        return penalty(value)
    return as_tuple(value)


def penalty(value: Any) -> Penalty:
    """Return the penalty that a dictionary describes."""
    if not isinstance(value, Mapping) or not set(value) <= {"l1", "l2"}:
        raise ValueError(f"kernel_regularizer {short(value)}: expected l1 and l2")
    return Penalty(**{key: number(strength, key, least=0) for key, strength in value.items()})


def as_tuple(value: Any) -> Any:
    """Turn JSON's lists into tuples, all the way down."""
    return tuple(map(as_tuple, value)) if isinstance(value, list) else value


def short(value: Any) -> str:
    """Write a value for an error, cut if it is long."""
    text = repr(value)
    return text if len(text) <= 200 else f"{text[:200]}..."
