"""A data set of one's own: a folder with one sub-folder of pictures for each class."""

from __future__ import annotations

import os
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

import numpy as np

from .errors import DatasetError, DatasetNotFound, DatasetWarning
from .pictures import pillow, read_picture

BESIDES = frozenset(
    (".txt", ".md", ".rst", ".csv", ".tsv", ".json", ".xml", ".yaml", ".yml", ".html")
    + (".toml", ".ini", ".log", ".db", ".py")
)
"""Endings of files that may lie beside pictures, and aren't meant to be any."""


def from_directory(
    path: str | os.PathLike[str],
    size: tuple[int, int] = (32, 32),
    errors: Literal["refuse", "skip"] = "refuse",
    channels: int = 3,
) -> tuple[np.ndarray, np.ndarray, tuple[str, ...]]:
    """Read the pictures in the sub-folders of a folder; each sub-folder is a class.

        x, y, classes = from_directory("pets")      # pets/cat/1.jpg, pets/dog/rex.png, ...

    The pictures may be PNG, JPEG, WEBP, BMP or GIF files of any size and kind, and become as large
    as ``size``, (H, W), with as many ``channels``: 3, or 1 for grey; see `read_picture`.  Classes
    and pictures come in the order of their names.  Hidden files and text beside the pictures are
    left out; anything else that isn't a picture counts as a bad file: ``errors`` says whether these
    are refused, or skipped with a warning.

    Returns x: uint8 (N, H, W, channels), y: int64 (N,), and the names of the classes, which y
    numbers.
    Raises `DatasetNotFound` without the folder, `DatasetError` for bad files (all are listed), for
    a class without pictures and without classes, ValueError for wrong arguments, and ImportError
    without Pillow.
    """
    if errors not in ("refuse", "skip"):
        raise ValueError(f"errors={errors!r}: expected 'refuse' or 'skip'")
    if len(size) != 2 or not all(isinstance(s, int | np.integer) and s > 0 for s in size):
        raise ValueError(f"size={size!r}: expected (height, width), two integers > 0")
    if channels not in (1, 3):
        raise ValueError(f"channels={channels!r}: expected 3, or 1 for grey")
    pillow()
    root = Path(path)
    classes = class_names(root)
    files = [(label, file) for label, name in enumerate(classes) for file in listing(root / name)]

    x = np.empty((len(files), *size, channels), dtype=np.uint8)
    labels: list[int] = []
    bad: list[str] = []
    for label, file in files:
        try:
            x[len(labels)] = read_file(file, size, channels)
            labels.append(label)
        except DatasetError as error:
            bad.append(f"{printable(file.relative_to(root))}: {error}")
    if bad and errors == "refuse":
        raise DatasetError(
            f"{printable(root)}: {len(bad)} of {len(files)} files can't be used:{head(bad, 20)}\n"
            "Repair or remove them, or skip them with errors='skip'"
        )
    if empty := sorted(set(range(len(classes))) - set(labels)):
        raise DatasetError(
            f"{printable(root / classes[empty[0]])} has no picture that can be used: add some, or "
            f"remove the folder{head(bad, 5)}"
        )
    if bad:
        warnings.warn(
            f"{printable(root)}: {len(bad)} of {len(files)} files were skipped:{head(bad, 5)}",
            DatasetWarning,
            stacklevel=2,
        )
    return x[: len(labels)], np.array(labels, dtype=np.int64), classes


def class_names(root: Path) -> tuple[str, ...]:
    """Return the names of the sub-folders, sorted; raise `DatasetError` if there are none."""
    found = entries(root)
    for entry in found:
        if not os.path.exists(entry):
            raise DatasetError(f"{printable(entry)} is a link that leads nowhere; remove it")
    names = tuple(entry.name for entry in found if os.path.isdir(entry))
    if not names:
        raise DatasetError(
            f"{printable(root)} has no sub-folders; expected one for each class, with pictures in "
            f"it, as {printable(root)}/cat/1.png"
        )
    return names


def listing(folder: Path) -> list[Path]:
    """Return what should be pictures in the folder of a class."""
    return [path for path in entries(folder) if path.suffix.lower() not in BESIDES]


def entries(folder: Path) -> list[Path]:
    """Return what is in a folder, by name, without what is hidden."""
    try:
        return [folder / name for name in sorted(os.listdir(folder)) if not name.startswith(".")]
    except FileNotFoundError as error:
        raise DatasetNotFound(f"{printable(folder)} isn't there; expected a folder") from error
    except OSError as error:
        raise DatasetError(
            f"{printable(folder)} can't be read as a folder: {error.strerror}"
        ) from error


def read_file(path: Path, size: tuple[int, int], channels: int) -> np.ndarray:
    """Return the picture at ``path``; raise `DatasetError` with the reason alone."""
    if os.path.isdir(path):
        raise DatasetError("it is a folder; pictures are expected right in that of their class")
    if os.path.exists(path) and not os.path.isfile(path):
        raise DatasetError("it is no plain file")  # a pipe may keep its reader waiting for ever
    return read_picture(path, size, channels)


def head(lines: Sequence[str], most: int) -> str:
    """Return the first lines, and how many more there are."""
    more = [f"and {len(lines) - most} more"] if len(lines) > most else []
    return "".join(f"\n  {line}" for line in [*lines[:most], *more])


def printable(path: Path) -> str:
    """Return a path without what would upset a terminal: the name of a file may be anything."""
    return repr(str(path))[1:-1]
