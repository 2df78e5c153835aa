"""The file format: safetensors, with a description of what is in it and a checksum of all.

A safetensors file is a header, which is JSON, and then numbers; there is no code in it.  Its format
allows texts in the header: ours has one, "minicnn", again JSON.

A file may come from anywhere.  So everything is measured before it is read: reading takes no more
memory than twice the file and a constant, and little time.  What is written has the same limits.
"""

from __future__ import annotations

import hashlib
import json
import os
import stat
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from ..backend import Shape
from ..files import whole_file
from .json_text import count_parts, read_dictionary, shorten, unique

VERSION = 1
LARGEST_HEADER = 6 << 20  # bytes: names and shapes of all arrays, and the description
LARGEST_DESCRIPTION = 4 << 20  # characters
HEADER_PARTS = 250_000  # commas and brackets, which make JSON large in memory: 25,000 arrays
DESCRIPTION_PARTS = 150_000  # likewise: 15,000 epochs of a run
DIMENSIONS = 8  # of an array

DTYPES = {"F32": "float32", "F64": "float64"}
"""What an array may be, as safetensors calls it and as NumPy does."""

OTHERS = {"F16": "float16", "BF16": "bfloat16", "BOOL": "bool", "C64": "complex64"} | {
    f"{short}{bits}": f"{long}{bits}"
    for short, long in (("I", "int"), ("U", "uint"))
    for bits in (8, 16, 32, 64)
}
"""What it may not be, for the error."""


class CheckpointError(ValueError):
    """A file can't be read, or doesn't fit; the text names the file, what is wrong and the cure."""


class CheckpointWarning(UserWarning):
    """A run goes on, but not quite from what was expected; the text says how."""


def write(path: Path, arrays: Mapping[str, np.ndarray], description: Mapping[str, Any]) -> None:
    """Write arrays and their description to ``path``, whole or not at all.

    Raises `CheckpointError` if they are larger than what may be read, and OSError for a full disk.
    """
    from safetensors import SafetensorError
    from safetensors.numpy import save_file

    whole = {name: np.ascontiguousarray(array) for name, array in arrays.items()}
    full = {"version": VERSION, **description}
    full["sha256"] = checksum(full, whole)
    text = json.dumps(full)
    check_description(path, text)
    with whole_file(path) as part:
        try:
            save_file(whole, part, metadata={"minicnn": text})
        except SafetensorError as error:  # what it makes of OSError
            raise OSError(f"{path} can't be written: {error}") from error
        read_header(path, part)


def checksum(description: Mapping[str, Any], arrays: Mapping[str, np.ndarray]) -> str:
    """Return the SHA-256 of a description and of names, types, shapes and numbers."""
    digest = hashlib.sha256(json.dumps(description).encode())
    for name in sorted(arrays):
        array = arrays[name]
        digest.update(f"\0{name}\0{array.dtype.str}\0{array.shape}\0".encode())
        digest.update(array.reshape(-1).view(np.uint8).data)
    return digest.hexdigest()


class Contents:
    """An open file: its description, the shapes and types of its arrays, and the arrays."""

    def __init__(self, path: Path, handle: Any) -> None:
        self.path, self.handle = path, handle
        self.written = self.parse((handle.metadata() or {}).get("minicnn", ""))
        self.sha256 = self.written.pop("sha256")
        self.description = self.migrate(self.written)
        self.shapes: dict[str, Shape] = {}
        self.dtypes: dict[str, str] = {}
        for name in sorted(handle.keys()):
            self.look_at(name)

    def parse(self, text: str) -> dict[str, Any]:
        """Return the description as it was written."""
        if not text:
            raise CheckpointError(
                f"{self.path} holds arrays, but no minicnn model: expected a file by minicnn.save"
            )
        check_description(self.path, text)
        try:
            written = read_dictionary(text)
            _ = written["version"], written["sha256"]
            return written
        except (ValueError, KeyError, TypeError, RecursionError) as error:
            raise CheckpointError(
                f"{self.path}: its description of the model is broken "
                f"({type(error).__name__}: {shorten(error)})"
            ) from error

    def migrate(self, description: dict[str, Any]) -> dict[str, Any]:
        """Return a description brought up to this version of the format."""
        version = description["version"]
        if isinstance(version, bool) or not isinstance(version, int) or version < 1:
            raise CheckpointError(
                f"{self.path} has format version {shorten(repr(version))}, expected a number"
            )
        if version > VERSION:
            raise CheckpointError(
                f"{self.path} has format version {shorten(version)}, this minicnn reads up to "
                f"{VERSION}: update minicnn"
            )
        try:
            for old in range(version, VERSION):
                description = MIGRATIONS[old](description)
        except (ArithmeticError, AttributeError, LookupError, TypeError, ValueError) as error:
            raise CheckpointError(
                f"{self.path}: its description, of format version {version}, is broken "
                f"({type(error).__name__}: {shorten(error)})"
            ) from error
        return description

    def look_at(self, name: str) -> None:
        """Take note of an array's shape and type; it isn't read."""
        part = self.handle.get_slice(name)
        shape, code = part.get_shape(), part.get_dtype()
        if code not in DTYPES:
            raise CheckpointError(
                f"{self.path}: {shorten(name)} is {OTHERS.get(code, code)}, expected float32 or "
                "float64"
            )
        if len(shape) > DIMENSIONS:
            raise CheckpointError(
                f"{self.path}: {shorten(name)} has {len(shape)} dimensions, more than {DIMENSIONS}"
            )
        self.shapes[name], self.dtypes[name] = tuple(shape), DTYPES[code]

    def arrays(self) -> dict[str, np.ndarray]:
        """Return every array, by name; raise `CheckpointError` if a bit isn't what was written."""
        with whole_or_refused(self.path):
            arrays = {name: self.handle.get_tensor(name) for name in self.shapes}
        if checksum(self.written, arrays) != self.sha256:
            raise CheckpointError(
                f"{self.path} is damaged: its checksum is another than when it was written. "
                "Copy it again, or take an earlier one"
            )
        for name, array in arrays.items():
            if not np.isfinite(array).all():
                raise CheckpointError(
                    f"{self.path}: {shorten(name)} has values that aren't finite numbers"
                )
        return arrays


MIGRATIONS: dict[int, Any] = {}
"""From each older version, a function that turns its description into the next version's."""


@contextmanager
def opened(path: str | os.PathLike[str]) -> Iterator[Contents]:
    """Open a file for reading; raises `CheckpointError` if it isn't a whole one of ours."""
    from safetensors import safe_open

    path = Path(path)
    with whole_or_refused(path):
        check_regular(path)
        header = read_header(path, path)
        handle = safe_open(path, framework="numpy")
    with handle:
        with whole_or_refused(path):
            check_names(path, header)
            del header
            contents = Contents(path, handle)
        yield contents


@contextmanager
def whole_or_refused(path: Path) -> Iterator[None]:
    """Turn the errors of reading into a `CheckpointError`."""
    from safetensors import SafetensorError

    try:
        yield
    except (SafetensorError, OSError, OverflowError, UnicodeError) as error:
        raise CheckpointError(
            f"{path} isn't a whole safetensors file ({shorten(error)}): copy it again, or take "
            "another"
        ) from error


def check_regular(path: Path) -> None:
    """Raise `CheckpointError` unless ``path`` is a file, of those that end."""
    try:
        mode = path.stat().st_mode
    except (FileNotFoundError, NotADirectoryError) as error:
        raise CheckpointError(f"{path}: there is no such file") from error
    if not stat.S_ISREG(mode):
        raise CheckpointError(
            f"{path}: there is no such file, but a folder, a pipe or a device of that name"
        )


def read_header(path: Path, file: Path) -> str:
    """Return the header of ``file``, its bytes as characters; errors call it ``path``.

    safetensors gets to see the file only if there is as much, and not too much.
    """
    size = file.stat().st_size
    with open(file, "rb") as opened:
        length = int.from_bytes(opened.read(8), "little")
        if size < 8 or not 2 <= length <= size - 8:
            raise CheckpointError(
                f"{path} isn't a whole safetensors file (its {size:,} bytes aren't those that its "
                "beginning promises): copy it again, or take another"
            )
        if length > LARGEST_HEADER:
            raise CheckpointError(
                f"{path}: its header has {length:,} bytes, more than {LARGEST_HEADER:,}"
            )
        header = opened.read(length).decode("latin-1")
    check_parts(path, "header", header, HEADER_PARTS)
    return header


def check_names(path: Path, header: str) -> None:
    """Raise `CheckpointError` if a header that safetensors has read says something twice."""

    def forget(pairs: list[tuple[str, Any]]) -> None:
        unique(pairs)

    try:
        json.loads(header, object_pairs_hook=forget)
    except (ValueError, RecursionError) as error:
        raise CheckpointError(f"{path}: its header is broken ({shorten(error)})") from error


def check_description(path: Path, text: str) -> None:
    """Raise `CheckpointError` if a description is too long."""
    if len(text) > LARGEST_DESCRIPTION:
        raise CheckpointError(
            f"{path}: its description has {len(text):,} characters, more than "
            f"{LARGEST_DESCRIPTION:,}"
        )
    check_parts(path, "description", text, DESCRIPTION_PARTS)


def check_parts(path: Path, what: str, text: str, most: int) -> None:
    """Raise `CheckpointError` if JSON would become too many objects."""
    parts = count_parts(text)
    if parts > most:
        raise CheckpointError(f"{path}: its {what} has {parts:,} parts, more than {most:,}")
