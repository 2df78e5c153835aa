"""Read CIFAR-10's pickles without running what a pickle could ask for.

A pickle is a program: it may call any function by its name.  The official files name three, all
of NumPy, to put an array together.  Here they stand for two small classes of this file that only
keep what they are given, and every other name is refused.  So a file can call nothing, and the
array is made at the end, of parts that were checked.
"""

from __future__ import annotations

import io
import pickle
from typing import Any

import numpy as np

from .errors import DatasetError


class PickledDtype:
    """Stands for ``numpy.dtype``: keeps the name of a type."""

    def __init__(self, name: Any, *flags: Any) -> None:
        self.name = name

    def __setstate__(self, state: Any) -> None:
        """Ignore byte order and alignment: they mean nothing for bytes."""


class PickledArray:
    """Stands for ``numpy.ndarray`` and what makes one: keeps shape, type and bytes."""

    def __init__(self, *empty: Any) -> None:
        self.state: Any = None  # then (version, shape, dtype, Fortran order, bytes)

    def __setstate__(self, state: Any) -> None:
        """Keep the parts of the array."""
        self.state = state

    def pixels(self) -> np.ndarray:
        """Return the array if it is one of bytes in C order; raise ValueError if not."""
        _, shape, dtype, fortran, data = self.state
        name = dtype.name
        if name not in (b"u1", "u1") or fortran or not isinstance(data, bytes):
            raise ValueError(f"the array is of type {name!r}, expected 'u1' in C order")
        return np.frombuffer(data, dtype=np.uint8).reshape(shape)


ALLOWED: dict[tuple[str, str], Any] = {
    ("numpy.core.multiarray", "_reconstruct"): PickledArray,
    ("numpy._core.multiarray", "_reconstruct"): PickledArray,  # its name since NumPy 2
    ("numpy", "ndarray"): PickledArray,
    ("numpy", "dtype"): PickledDtype,
}


class BatchUnpickler(pickle.Unpickler):
    """An unpickler that knows the names in `ALLOWED` and no other."""

    def find_class(self, module: str, name: str) -> Any:
        """Return what stands for ``module.name``; raise `DatasetError` for a foreign name."""
        if (module, name) not in ALLOWED:
            raise DatasetError(
                f"it asks for {module}.{name}, which CIFAR-10's files never do; it may be an "
                "attack, and was not run"
            )
        return ALLOWED[module, name]


def load_batch(data: bytes) -> tuple[np.ndarray, list[Any]]:
    """Return the pixels and the labels in one pickled batch file.

    data: the file, a dictionary written by Python 2, whose keys ``data`` (an array of bytes) and
    ``labels`` (a list) are used.  Returns an array of uint8 of any shape, and the list as it is:
    the caller checks both.  Raises `DatasetError` for anything else.
    """
    try:
        batch = BatchUnpickler(io.BytesIO(data), encoding="bytes").load()
    except DatasetError:
        raise
    except Exception as error:  # a broken pickle can raise nearly any kind
        raise DatasetError(f"it is no whole pickle ({type(error).__name__}: {error})") from error
    if not isinstance(batch, dict) or not {b"data", b"labels"} <= batch.keys():
        found = sorted(map(repr, batch)) if isinstance(batch, dict) else type(batch).__name__
        raise DatasetError(f"it holds {found}, expected a dictionary with b'data' and b'labels'")
    pixels, labels = batch[b"data"], batch[b"labels"]
    if not isinstance(pixels, PickledArray) or not isinstance(labels, list):
        raise DatasetError(
            f"data is a {type(pixels).__name__} and labels a {type(labels).__name__}, "
            "expected an array and a list"
        )
    try:
        return pixels.pixels(), labels
    except (TypeError, ValueError, AttributeError) as error:
        raise DatasetError(f"its array can't be put together ({error})") from error
