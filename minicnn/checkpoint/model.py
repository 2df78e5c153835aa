"""Models in files: the architecture as JSON, every parameter and every kept array by name."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from ..backend import Array, Device, Shape, to_numpy
from ..layers import Layer, Sequential, from_config
from ..layers.registry import check_size
from .file import DIMENSIONS, CheckpointError, Contents, opened, write
from .json_text import shorten

BROKEN = (ArithmeticError, AttributeError, LookupError, TypeError, ValueError, RecursionError)
"""What layers may raise that are made from a file."""


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
    dtype: str | None = None,
) -> Sequential:
    """Return the model in a file that `save` or a training run wrote, built on ``device``.

    dtype: what `Sequential.build` takes; that of the file if None (16 bits are never written).
    own: layer classes by name, for layers that aren't minicnn's; nothing is imported by name.
    Raises `CheckpointError`, in little time and memory, where the file is broken, hostile, or its
    arrays don't fit its architecture.
    """
    with opened(path) as contents:
        model = model_of(contents, own)
        compare(contents, arrays_of(model), contents.description["dtype"])
        arrays = contents.arrays()
    model.allocate(device, dtype or contents.description["dtype"])
    put(model, arrays)
    return model


def describe(model: Sequential) -> dict[str, Any]:
    """Return what has to be known to build a model again, as JSON can hold it.

    Raises ValueError where `load` would refuse it.
    """
    config, classes = model.config(), [str(name) for name in model.classes]
    check_size(config)
    check_classes(model, classes)
    return {
        "architecture": config,
        "input_shape": list(model.input_shape),
        "dtype": model.dtype,
        "classes": classes,
    }


def check_classes(model: Sequential, classes: Any) -> None:
    """Raise ValueError unless these are no names, or one for each of the model's outputs."""
    if not isinstance(classes, list) or not all(isinstance(name, str) for name in classes):
        raise ValueError(f"classes {shorten(repr(classes))}: expected a list of texts")
    if classes and len(classes) != model.output_shape[-1]:
        raise ValueError(
            f"there are {len(classes)} names of classes, but {model.output_shape[-1]} outputs"
        )


def model_of(contents: Contents, own: Mapping[str, type[Layer]] | None) -> Sequential:
    """Return the model that a file describes, its shapes resolved but nothing allocated."""
    description = contents.description
    try:
        model = from_config(description["architecture"], own)
        if not isinstance(model, Sequential):
            raise ValueError(f"its architecture is a {type(model).__name__}, not a Sequential")
        if description["dtype"] not in ("float32", "float64"):
            raise ValueError(f"its dtype is {description['dtype']!r}")
        shape = description["input_shape"]
        if not isinstance(shape, list) or len(shape) > DIMENSIONS:
            raise ValueError(f"input_shape {shape!r}: expected a list of at most {DIMENSIONS}")
        check_size(shape)
        model.lay_out(tuple(shape))
        check_classes(model, description["classes"])
        model.classes = tuple(description["classes"])
    except BROKEN as error:
        said = f"{type(error).__name__}: {error}" if isinstance(error, KeyError) else error
        raise CheckpointError(
            f"{contents.path}: its model can't be built: {shorten(said, 1000)}"
        ) from error
    return model


def arrays_of(model: Sequential) -> dict[str, Shape]:
    """Return the name and shape of everything that a file has to hold of a laid-out model."""
    shapes = {name: wanted.shape for name, wanted in model.declarations().items()}
    return shapes | {name: array.shape for name, array in model.state.items()}


def compare(
    contents: Contents, wanted: Mapping[str, Shape], dtype: str, ignore: str = "optimizer/"
) -> None:
    """Raise `CheckpointError` listing both sides unless the file's arrays are the ones wanted.

    Names that begin with ``ignore`` don't matter, unless they are wanted.
    """
    shapes = contents.shapes
    problems = [f"missing: {name} {shape}" for name, shape in wanted.items() if name not in shapes]
    problems += [
        f"unknown: {name} {shape}"
        for name, shape in shapes.items()
        if name not in wanted and not name.startswith(ignore)
    ]
    for name, shape in wanted.items():
        if name in shapes and shapes[name] != shape:
            problems.append(f"{name}: the file has {shapes[name]}, the model {shape}")
        elif name in shapes and contents.dtypes[name] != dtype:
            problems.append(f"{name} is {contents.dtypes[name]}, but the model is {dtype}")
    if problems:
        more = f"; and {len(problems) - 20} more" if len(problems) > 20 else ""
        listed = "; ".join(shorten(problem) for problem in problems[:20])
        raise CheckpointError(f"{contents.path}: its arrays don't fit the model: {listed}{more}")


def numpy_arrays(model: Sequential) -> dict[str, np.ndarray]:
    """Return parameters and kept arrays, copied from wherever they are."""
    return {name: to_numpy(array) for name, array in {**model.params, **model.state}.items()}


def put(model: Sequential, arrays: Mapping[str, np.ndarray]) -> None:
    """Write arrays, which have been compared, into a model's own."""
    views: dict[str, Array] = {**model.params, **model.state}
    for name, view in views.items():
        view[...] = model.device.asarray(arrays[name])
