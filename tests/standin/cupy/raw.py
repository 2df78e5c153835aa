"""RawModule: kernels from CUDA sources, run on the CPU by ``tests/emulation``."""

from __future__ import annotations

import weakref
from typing import Any

import numpy as np
from emulation import KernelError, Library

from .array import ndarray, unwrap
from .stream import do

MOST_SHARED = 227 << 10  # of an H200; a kernel asks for more than 48 KB by name


class RawModule:
    """See CuPy; the source is compiled when its first kernel is asked for."""

    def __init__(
        self,
        *,
        code: str | None = None,
        path: str | None = None,
        options: tuple[str, ...] = (),
        backend: str = "nvrtc",
        translate_cucomplex: bool = False,
        enable_cooperative_groups: bool = False,
        name_expressions: Any = None,
        jitify: bool = False,
    ) -> None:
        if code is None or not isinstance(options, tuple):
            raise TypeError("the stand-in takes code, and options as a tuple")
        self.code, self.options = code, options
        self.library: Library | None = None

    def compile(self, log_stream: Any = None) -> None:
        self.library = self.library or Library(self.code, self.options)

    def get_function(self, name: str) -> RawKernel:
        self.compile()
        if name not in self.library.names:
            raise RuntimeError(f"CUDA_ERROR_NOT_FOUND: named symbol not found ({name})")
        return RawKernel(self.library, name)


class RawKernel:
    """A kernel; ``kernel`` is what launches it on the current device."""

    def __init__(self, library: Library, name: str) -> None:
        self.name = self.__name__ = name
        self.kernel = Function(self, library)
        self.shared = 48 << 10

    @property
    def max_dynamic_shared_size_bytes(self) -> int:
        return self.shared

    @max_dynamic_shared_size_bytes.setter
    def max_dynamic_shared_size_bytes(self, size: int) -> None:
        if not 0 <= size <= MOST_SHARED:
            raise RuntimeError("CUDA_ERROR_INVALID_VALUE: invalid argument")
        self.shared = size

    def __call__(self, grid: Any, block: Any, args: Any, *, shared_mem: int = 0) -> None:
        self.kernel(grid, block, args, shared_mem)


class Function:
    """Launches; the arguments must be exactly what the kernel declares."""

    def __init__(self, owner: RawKernel, library: Library) -> None:
        self.owner, self.library = owner, library

    def __call__(self, grid: tuple, block: tuple, args: Any, shared_mem: int = 0) -> None:
        name = self.owner.name
        if not all(type(n) is int for n in (*grid, *block)):
            raise TypeError(f"{name}: grid {grid} and block {block} must be tuples of integers")
        grid, block = (grid + (1, 1))[:3], (block + (1, 1))[:3]
        if min(*grid, *block) < 1 or np.prod(block) > 1024 or max(grid[1:]) > 65535:
            raise RuntimeError(f"CUDA_ERROR_INVALID_VALUE: {name}: grid {grid}, block {block}")
        if shared_mem > self.owner.shared:
            raise RuntimeError(f"CUDA_ERROR_INVALID_VALUE: {name}: {shared_mem} bytes are shared")
        wanted = self.library.signature(name)
        if len(args) != len(wanted):
            raise TypeError(f"{name} has {len(wanted)} parameters, got {len(args)} arguments")
        values = [value(name, k, *pair) for k, pair in enumerate(zip(wanted, args, strict=True))]
        arrays = [a for a in args if isinstance(a, ndarray)]
        hosts = [a._host for a in arrays]
        guarded = [a.memory and weakref.ref(a.memory) for a in arrays]  # a graph holds none

        def launch() -> None:
            addresses = [v.ctypes.data for v in values]
            self.library.launch(name, grid, block, addresses, shared_mem)
            for k, reference in enumerate(guarded):
                memory = reference and reference()
                if memory and (where := memory.overrun()):
                    shape = hosts[k].shape
                    raise KernelError(f"{name} writes {where} its array number {k}, {shape}")

        do(launch, *(a.memory for a in arrays))


def value(name: str, k: int, wanted: str, argument: Any) -> np.ndarray:
    """Return an argument's value in memory, after comparing it with what the kernel declares."""
    kind, size = wanted[0], int(wanted[1:])
    if isinstance(argument, ndarray):
        host = unwrap(argument)
        if kind != "p" or size not in (0, host.itemsize):
            raise TypeError(f"{name}: parameter {k} is {wanted}, got an array of {host.dtype}")
        return np.array(host.ctypes.data, np.intp)
    if isinstance(argument, np.generic):
        found = np.array(argument)
    elif type(argument) in (int, float):  # as CuPy passes them
        found = np.array(argument, np.int64 if type(argument) is int else np.float64)
    else:
        raise TypeError(f"{name}: Unsupported type {type(argument)}")
    if kind == "p" and found.dtype == np.intp and found == 0:
        return found
    kinds = {"i": "iub", "f": "f", "s": "iufV"}.get(kind, "")
    if found.dtype.kind not in kinds or found.itemsize != size:
        raise TypeError(f"{name}: parameter {k} is {wanted}, got {found.dtype}")
    return found
