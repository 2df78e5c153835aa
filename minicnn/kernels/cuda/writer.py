"""Who takes launches down.

What computes on the GPU here doesn't compute: it tells a writer which kernels are to be launched
on which arrays.  `Now` launches them at once, for the functions of the book; a plan's writer keeps
them, to be launched again for every batch.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from ...backend import Array
from .module import KINDS, Parameter, kernel, parameters

MOST_BLOCKS = 132 * 16
"""More blocks aren't faster: threads do several elements instead (an H200 has 132 processors)."""


class Writer:
    """Takes launches down; see above.  kind: the storage type, "float32", "bfloat16", ..."""

    def __init__(self, kind: str) -> None:
        if kind not in KINDS:
            raise ValueError(f"storage type {kind!r}: expected one of {', '.join(KINDS)}")
        self.kind = kind
        _, self.dtype, self.acc_dtype = KINDS[kind]

    def launch(
        self,
        name: str,
        threads: int,
        *arguments: Any,
        block: int = 256,
        shared: int = 0,
        grid: int | tuple[int, ...] | None = None,
    ) -> None:
        """Write down a kernel over so many threads, or with so many blocks (``grid``).

        arguments: as the kernel declares them: C-contiguous arrays of its dtype, None for a null
        pointer, numbers.  shared: bytes of dynamic shared memory.  Nothing is launched for zero
        threads or blocks.
        """
        declared = parameters(self.kind).get(name)
        function = kernel(self.kind, name, shared)  # says which kernels there are
        if declared is None or len(declared) != len(arguments):
            names = ", ".join(parameter[0] for parameter in declared or ())
            raise TypeError(f"kernel {name}({names}): got {len(arguments)} arguments")
        packed = tuple(
            check_argument(name, parameter, value)
            for parameter, value in zip(declared, arguments, strict=True)
        )
        if grid is None:
            grid = min(-(-threads // block), MOST_BLOCKS)
        blocks = grid if isinstance(grid, tuple) else (grid,)
        if min(blocks) > 0:
            self.call(function, (*blocks, 1, 1)[:3], (block, 1, 1), packed, shared)

    def call(self, function: Callable[..., Any], *arguments: Any) -> None:
        """Write down a call of a function that launches, a product of cuBLAS for instance."""
        raise NotImplementedError

    def new(self, shape: Sequence[int], dtype: Any = None) -> Array:
        """Return an array of undefined contents; dtype None: the storage type."""
        raise NotImplementedError

    def free(self, *arrays: Array | None) -> None:
        """Say that no call to come needs these arrays."""


class Now(Writer):
    """Does at once what it is told."""

    def call(self, function: Callable[..., Any], *arguments: Any) -> None:
        """Call the function."""
        function(*arguments)

    def new(self, shape: Sequence[int], dtype: Any = None) -> Array:
        """Return an array of undefined contents; dtype None: the storage type."""
        cupy = importlib.import_module("cupy")
        return cupy.empty(tuple(shape), dtype or self.dtype)


def check_argument(kernel_name: str, parameter: Parameter, value: Any) -> Any:
    """Return an argument as CuPy passes it, or raise an error that says what is wrong with it."""
    name, dtype, is_array = parameter
    if not is_array:
        return number(kernel_name, name, dtype, value)
    if value is None:
        return np.intp(0)
    if not hasattr(value, "flags") or isinstance(value, np.ndarray | np.generic):
        raise TypeError(f"{kernel_name}: {name} must be an array on the GPU, got {type(value)}")
    if dtype is not None and value.dtype != dtype:
        raise TypeError(f"{kernel_name}: {name} must be {dtype}, got {value.dtype}")
    if not value.flags.c_contiguous:
        raise ValueError(
            f"{kernel_name}: {name} isn't C-contiguous: {value.shape} by strides {value.strides}"
        )
    return value


def number(kernel_name: str, name: str, dtype: np.dtype | None, value: Any) -> Any:
    """Return a number in the type that the kernel declares."""
    if dtype is None or not isinstance(value, int | float | np.integer | np.floating):
        raise TypeError(f"{kernel_name}: {name} must be a number, got {type(value)}")
    if dtype.kind in "iu" and int(value) != value:
        raise TypeError(f"{kernel_name}: {name} must be a whole number, got {value!r}")
    if dtype.kind in "iu" and not np.iinfo(dtype).min <= value <= np.iinfo(dtype).max:
        raise OverflowError(f"{kernel_name}: {name} = {value} is too large for {dtype}")
    return dtype.type(value)


def device_bytes(size: int) -> Array:
    """Return so many bytes of the current device: a room for `Memory`."""
    return importlib.import_module("cupy").empty(max(1, size), np.uint8)
