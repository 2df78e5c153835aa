"""Models in files: the architecture as JSON, every parameter and every kept array by name."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from ..backend import Array, Device, Shape, to_numpy
from ..layers import Layer, Sequential, from_config
from .file import CheckpointError, Contents, opened, write


def save(model: Sequential, path: str | os.PathLike[str]) -> Path:
    """Write a built model to ``path`` and return it.

    The file appears whole or not at all; an older one of that name is replaced in one step.
    """
    model.check_built()
    write(Path(path), numpy_arrays(model), describe(model))
    return Path(path)


def load(
    path: str | os.PathLike[str],
    device: str | Device = "cpu",
    own: Mapping[str, type[Layer]] | None = None,
) -> Sequential:
    """Return the model in a file that `save` or a training run wrote, built on ``device``.

    own: layer classes by name, for layers that aren't minicnn's; nothing is imported by name.
    Raises `CheckpointError`, in little time and memory, where the file is broken, hostile, or its
    arrays don't fit its architecture.
    """
    with opened(path) as contents:
        model = model_of(contents, own)
        compare(contents, arrays_of(model))
        arrays = contents.arrays()
    model.allocate(device, contents.description["dtype"])
    put(model, arrays, contents.path)
    return model


def describe(model: Sequential) -> dict[str, Any]:
    """Return what has to be known to build a model again, as JSON can hold it."""
    return {
        "architecture": model.config(),
        "input_shape": list(model.input_shape),
        "dtype": model.dtype,
        "classes": list(model.classes),
    }


def model_of(contents: Contents, own: Mapping[str, type[Layer]] | None) -> Sequential:
    """Return the model that a file describes, its shapes resolved but nothing allocated."""
    description = contents.description
    try:
        model = from_config(description["architecture"], own)
        if not isinstance(model, Sequential):
            raise ValueError(f"its architecture is a {type(model).__name__}, not a Sequential")
        if description["dtype"] not in ("float32", "float64"):
            raise ValueError(f"its dtype is {description['dtype']!r}")
        model.lay_out(tuple(description["input_shape"]))
        model.classes = tuple(str(name) for name in description["classes"])
    except (KeyError, TypeError, ValueError, OverflowError, RecursionError, MemoryError) as error:
        said = f"{type(error).__name__}: {error}" if isinstance(error, KeyError) else error
        raise CheckpointError(f"{contents.path}: its model can't be built: {said}") from error
    return model


def arrays_of(model: Sequential) -> dict[str, Shape]:
    """Return the name and shape of everything that a file has to hold of a laid-out model."""
    shapes = {name: wanted.shape for name, wanted in model.declarations().items()}
    return shapes | {name: np.shape(array) for name, array in model.state.items()}


def compare(contents: Contents, wanted: Mapping[str, Shape], ignore: str = "optimizer/") -> None:
    """Raise `CheckpointError` listing both sides unless the file's arrays are the ones wanted.

    Names that begin with ``ignore`` don't matter.
    """
    found = {name: s for name, s in contents.shapes().items() if not name.startswith(ignore)}
    problems = [f"missing: {name} {shape}" for name, shape in wanted.items() if name not in found]
    problems += [f"unknown: {name} {shape}" for name, shape in found.items() if name not in wanted]
    problems += [
        f"{name}: the file has {found[name]}, the model {shape}"
        for name, shape in wanted.items()
        if name in found and found[name] != shape
    ]
    if problems:
        more = f"; and {len(problems) - 20} more" if len(problems) > 20 else ""
        raise CheckpointError(
            f"{contents.path}: its arrays don't fit the model: {'; '.join(problems[:20])}{more}"
        )


def numpy_arrays(model: Sequential) -> dict[str, np.ndarray]:
    """Return parameters and kept arrays, copied from wherever they are."""
    return {name: to_numpy(array) for name, array in {**model.params, **model.state}.items()}


def put(model: Sequential, arrays: Mapping[str, np.ndarray], path: Path) -> None:
    """Write arrays into a model's own, after checking that they are of its dtype."""
    views: dict[str, Array] = {**model.params, **model.state}
    for name, view in views.items():
        if arrays[name].dtype.name != model.dtype:
            raise CheckpointError(
                f"{path}: {name} is {arrays[name].dtype}, but the model is {model.dtype}"
            )
        view[...] = model.device.asarray(arrays[name])
