"""A stand-in for CuPy, so that a machine without a GPU runs the whole GPU path's Python."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType

import emulation

from minicnn import backend
from minicnn.kernels.cuda import blas

ours: dict[str, ModuleType] = {}


@contextmanager
def installed() -> Iterator[ModuleType]:
    """Let ``import cupy`` give the stand-in while the block runs; a real CuPy comes back after.

    Without a C++ compiler no kernels run: all is done by the book then.
    """
    real = {name: sys.modules.pop(name) for name in list(sys.modules) if is_cupy(name)}
    folder = str(Path(__file__).parent)
    sys.path.insert(0, folder)
    sys.modules.update(ours)
    find, hooks = blas.find, backend.after_cupy[:]
    if emulation.compiler() is None:
        backend.after_cupy.clear()
    try:
        module = importlib.import_module("cupy")
        module.reset()
        blas.find = importlib.import_module("cupy.cublas").Library
        yield module
    finally:
        blas.find = find
        backend.after_cupy[:] = hooks
        sys.path.remove(folder)
        for name in list(sys.modules):
            if is_cupy(name):
                ours[name] = sys.modules.pop(name)
        sys.modules.update(real)


def is_cupy(name: str) -> bool:
    """Whether a module is CuPy or a part of it."""
    return name == "cupy" or name.startswith("cupy.")
