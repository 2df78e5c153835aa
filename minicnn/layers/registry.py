"""From JSON back to layers, through a fixed list of names: nothing is imported by name."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ..params import Penalty
from .activation import GELU, LeakyReLU, ReLU, Sigmoid, SiLU, Softmax, Tanh
from .base import Layer
from .branches import Concat, Residual
from .conv import Conv2D
from .dense import Dense, Flatten
from .dropout import Dropout
from .norm import BatchNorm, Normalize
from .pool import AveragePool2D, GlobalAveragePool2D, MaxPool2D
from .sequential import Sequential

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
        ReLU,
        Residual,
        Sequential,
        SiLU,
        Sigmoid,
        Softmax,
        Tanh,
    )
}


def from_config(config: Mapping[str, Any], own: Mapping[str, type[Layer]] | None = None) -> Any:
    """Return the layer that `Layer.config` described, not built.

    own: further layer classes by name, for layers that aren't minicnn's.
    Raises ValueError for unknown types and arguments.
    """
    known = {**LAYERS, **(own or {})}
    if not isinstance(config, Mapping) or config.get("type") not in known:
        kind = config.get("type") if isinstance(config, Mapping) else config
        raise ValueError(
            f"unknown layer type {kind!r}: expected one of {', '.join(sorted(known))}; give own "
            "layers by name"
        )
    options: dict[str, Any] = {}
    for key, value in config.items():
        if key in ("layers", "branches"):
            options[key] = [from_config(item, own) for item in value]
        elif key in ("body", "shortcut"):
            options[key] = from_config(value, own)
        elif key == "kernel_regularizer":
            options[key] = Penalty(**value)
        elif key != "type":
            options[key] = as_tuple(value)
    kind = known[config["type"]]
    try:
        if issubclass(kind, Sequential):
            return kind(*options.pop("layers"), **options)
        return kind(**options)
    except TypeError as error:
        raise ValueError(f"layer {config['type']}: {error}") from error


def as_tuple(value: Any) -> Any:
    """Turn JSON's lists into tuples, all the way down."""
    return tuple(map(as_tuple, value)) if isinstance(value, list) else value
