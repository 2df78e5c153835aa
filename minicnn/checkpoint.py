"""Saving and loading models: one safetensors file, no code in it.

The file holds every parameter and every kept array by name, and in its header, as JSON, the
architecture, the shape of the pictures and the names of the classes.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from .backend import Device, to_numpy
from .layers import Layer, Sequential, from_config

VERSION = 1


class CheckpointError(ValueError):
    """A model file can't be read, or doesn't fit; the text names the file and the cure."""


def save(model: Sequential, path: str | os.PathLike[str]) -> Path:
    """Write a built model to ``path`` and return it.

    The file appears whole or not at all: it is written beside its place and then renamed.
    """
    from safetensors.numpy import save_file

    model.check_built()
    header = {
        "version": VERSION,
        "architecture": model.config(),
        "input_shape": model.input_shape,
        "dtype": model.dtype,
        "classes": model.classes,
    }
    arrays = {name: np.ascontiguousarray(to_numpy(v)) for name, v in tensors(model).items()}
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(path.name + ".part")
    try:
        save_file(arrays, part, metadata={"minicnn": json.dumps(header)})
        os.replace(part, path)
    finally:
        part.unlink(missing_ok=True)
    return path


def load(
    path: str | os.PathLike[str],
    device: str | Device = "cpu",
    own: Mapping[str, type[Layer]] | None = None,
) -> Sequential:
    """Return the model that `save` wrote, built on ``device``.

    own: layer classes by name, for layers that aren't minicnn's; nothing is imported by name.
    Raises `CheckpointError` where the file isn't one of ours or its arrays don't fit.
    """
    from safetensors import SafetensorError, safe_open

    if not Path(path).is_file():
        raise CheckpointError(f"{path}: there is no such file")
    try:
        with safe_open(path, framework="numpy") as file:
            metadata = file.metadata() or {}
            arrays = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except (SafetensorError, OSError) as error:
        raise CheckpointError(
            f"{path} isn't a whole safetensors file ({error}): copy it again, or take another"
        ) from error
    model = model_from(read_header(path, metadata), path, device, own)
    wanted = tensors(model)
    problems = [f"missing: {name} {v.shape}" for name, v in wanted.items() if name not in arrays]
    problems += [f"unknown: {name} {v.shape}" for name, v in arrays.items() if name not in wanted]
    problems += [
        f"{name}: the file has {arrays[name].shape}, the model {view.shape}"
        for name, view in wanted.items()
        if name in arrays and arrays[name].shape != view.shape
    ]
    if problems:
        raise CheckpointError(
            f"{path}: its arrays don't fit its architecture: " + "; ".join(problems)
        )
    for name, view in wanted.items():
        view[...] = model.device.asarray(arrays[name], dtype=model.dtype)
    return model


def tensors(model: Sequential) -> dict[str, Any]:
    """Return everything of a model that a file must hold, by name."""
    return {**model.params, **model.state}


def read_header(path: str | os.PathLike[str], metadata: Mapping[str, str]) -> dict[str, Any]:
    """Return the JSON header, or raise `CheckpointError`."""
    if "minicnn" not in metadata:
        raise CheckpointError(f"{path} holds arrays, but no minicnn model: expected one by save()")
    try:
        header = json.loads(metadata["minicnn"])
        version = header["version"]
    except (ValueError, KeyError, TypeError) as error:
        raise CheckpointError(f"{path}: its description of the model is broken: {error}") from error
    if version != VERSION:
        raise CheckpointError(
            f"{path} has format version {version}, this minicnn reads {VERSION}: update minicnn"
        )
    return dict(header)


def model_from(
    header: Mapping[str, Any],
    path: str | os.PathLike[str],
    device: str | Device,
    own: Mapping[str, type[Layer]] | None,
) -> Sequential:
    """Build the model that a header describes."""
    try:
        model: Sequential = from_config(header["architecture"], own)
        model.build(tuple(header["input_shape"]), device=device, dtype=header["dtype"])
        model.classes = tuple(header["classes"])
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise CheckpointError(f"{path}: its architecture can't be built: {error}") from error
    return model
