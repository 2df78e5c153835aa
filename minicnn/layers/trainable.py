"""Which parameters of a layer are trained: what `Layer.trainable` may be, and who has to know."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .base import Layer


def as_trainable(value: Any) -> bool | tuple[str, ...]:
    """Return True, False, or a tuple of names; raise ValueError for anything else."""
    if isinstance(value, bool):
        return value
    if isinstance(value, tuple | list) and all(isinstance(name, str) for name in value):
        return tuple(value) or False
    raise ValueError(
        f"trainable {str(value)[:200]!r}: expected True, False, or a tuple of parameter names such "
        'as ("b",)'
    )


def check_names(layer: Layer, names: Iterable[str]) -> None:
    """Raise ValueError unless a layer has parameters of these names; a built one is asked for."""
    unknown = [name for name in names if name not in layer.declared]
    if unknown:
        kind = type(layer).__name__
        there = ", ".join(layer.declared) or "none"
        raise ValueError(
            f"{layer.path} ({kind}): trainable names {', '.join(unknown)[:200]}, which isn't a "
            f"parameter of it; there are: {there}"
        )


def spread(layer: Layer, value: bool | tuple[str, ...]) -> None:
    """Set ``trainable`` of a layer and of all inside; the model's parameters are told."""
    if isinstance(value, tuple):
        if layer.children():
            raise ValueError(
                f"{type(layer).__name__}: trainable {value}: names of parameters are given to the "
                "layer that has them; for all layers inside it's True or False"
            )
        if "declared" in vars(layer):
            check_names(layer, value)
    for part in layer.walk():
        vars(part)["trainable"] = value
    model = None if layer.root is None else layer.root()
    if model is not None:
        model.note_frozen()
