"""The file format: safetensors, with a description of what is in it and a checksum of all.

A safetensors file is a header, which is JSON, and then numbers; there is no code in it.  Its format
allows texts in the header: ours has one, "minicnn", again JSON.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from ..backend import Shape
from ..files import whole_file

VERSION = 1
LARGEST_DESCRIPTION = 16 << 20  # characters


class CheckpointError(ValueError):
    """A file can't be read, or doesn't fit; the text names the file, what is wrong and the cure."""


class CheckpointWarning(UserWarning):
    """A run goes on, but not quite from what was expected; the text says how."""


def write(path: Path, arrays: Mapping[str, np.ndarray], description: Mapping[str, Any]) -> None:
    """Write arrays and their description to ``path``, whole or not at all."""
    from safetensors.numpy import save_file

    whole = {name: np.ascontiguousarray(array) for name, array in arrays.items()}
    full = {"version": VERSION, **description}
    full["sha256"] = checksum(full, whole)
    with whole_file(path) as part:
        save_file(whole, part, metadata={"minicnn": json.dumps(full)})


def checksum(description: Mapping[str, Any], arrays: Mapping[str, np.ndarray]) -> str:
    """Return the SHA-256 of a description and of names, types, shapes and numbers."""
    digest = hashlib.sha256(json.dumps(description).encode())
    for name in sorted(arrays):
        array = arrays[name]
        digest.update(f"\0{name}\0{array.dtype.str}\0{array.shape}\0".encode())
        digest.update(array.reshape(-1).view(np.uint8).data)
    return digest.hexdigest()


class Contents:
    """An open file: its description, the shapes of its arrays, and the arrays."""

    def __init__(self, path: Path, handle: Any) -> None:
        self.path, self.handle = path, handle
        self.names = sorted(handle.keys())
        self.written = self.parse((handle.metadata() or {}).get("minicnn", ""))
        self.sha256 = self.written.pop("sha256")
        self.description = self.migrate(self.written)

    def parse(self, text: str) -> dict[str, Any]:
        """Return the description as it was written."""
        if not text:
            raise CheckpointError(
                f"{self.path} holds arrays, but no minicnn model: expected a file by minicnn.save"
            )
        if len(text) > LARGEST_DESCRIPTION:
            raise CheckpointError(f"{self.path}: its description has {len(text):,} characters")
        try:
            written = dict(json.loads(text))
            _ = written["version"], written["sha256"]
            return written
        except (ValueError, KeyError, TypeError, RecursionError) as error:
            raise CheckpointError(
                f"{self.path}: its description of the model is broken "
                f"({type(error).__name__}: {error})"
            ) from error

    def migrate(self, description: dict[str, Any]) -> dict[str, Any]:
        """Return a description brought up to this version of the format."""
        version = description["version"]
        if isinstance(version, bool) or not isinstance(version, int) or version < 1:
            raise CheckpointError(f"{self.path} has format version {version!r}, expected a number")
        if version > VERSION:
            raise CheckpointError(
                f"{self.path} has format version {version}, this minicnn reads up to {VERSION}: "
                "update minicnn"
            )
        for old in range(version, VERSION):
            description = MIGRATIONS[old](description)
        return description

    def shapes(self) -> dict[str, Shape]:
        """Return the shape of every array, by name; no array is read."""
        return {name: tuple(self.handle.get_slice(name).get_shape()) for name in self.names}

    def arrays(self) -> dict[str, np.ndarray]:
        """Return every array, by name; raise `CheckpointError` if a bit isn't what was written."""
        arrays = {name: self.handle.get_tensor(name) for name in self.names}
        if checksum(self.written, arrays) != self.sha256:
            raise CheckpointError(
                f"{self.path} is damaged: its checksum is another than when it was written. "
                "Copy it again, or take an earlier one"
            )
        for name, array in arrays.items():
            if array.dtype.kind == "f" and not np.isfinite(array).all():
                raise CheckpointError(f"{self.path}: {name} has values that aren't finite numbers")
        return arrays


MIGRATIONS: dict[int, Any] = {}
"""From each older version, a function that turns its description into the next version's."""


@contextmanager
def opened(path: str | os.PathLike[str]) -> Iterator[Contents]:
    """Open a file for reading; raises `CheckpointError` if it isn't a whole one of ours."""
    from safetensors import SafetensorError, safe_open

    path = Path(path)
    if not path.is_file():
        raise CheckpointError(f"{path}: there is no such file")
    try:
        with safe_open(path, framework="numpy") as handle:
            yield Contents(path, handle)
    except (SafetensorError, OSError, OverflowError, UnicodeError) as error:
        raise CheckpointError(
            f"{path} isn't a whole safetensors file ({error}): copy it again, or take another"
        ) from error
