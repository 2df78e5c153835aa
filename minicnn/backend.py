"""Which array library, and which device.

Everything above this file is written once for both libraries: it asks its argument
(``xp = array_module(x)``) and calls ``xp.exp``, ``xp.matmul``, ... CuPy is imported here alone,
and only when a GPU is asked for.
"""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from types import ModuleType
from typing import Any, TypeAlias

import numpy as np

Array: TypeAlias = Any
"""A ``numpy.ndarray`` or a ``cupy.ndarray``; docstrings give its shape and dtype."""

Shape: TypeAlias = tuple[int, ...]

after_cupy: list[Callable[[ModuleType], None]] = []
"""Called with CuPy when a GPU is asked for: higher floors put their kernels behind the book."""

INSTALL_GPU = "pip install 'minicnn[cuda12]'   or, for CUDA 13,   pip install 'minicnn[cuda13]'"
ASK_DOCTOR = "`minicnn doctor` says why."


class DeviceError(RuntimeError):
    """The device that was asked for can't be used; the text says why and what to do."""


def array_module(x: Array) -> Any:
    """Return the library that ``x`` belongs to: ``cupy`` for its arrays, else ``numpy``."""
    cupy = sys.modules.get("cupy")  # whoever holds a CuPy array has imported it
    return cupy if cupy is not None and isinstance(x, cupy.ndarray) else np


def check_float(x: Array, what: str) -> None:
    """Raise TypeError unless x holds floats: in integers, results would be cut off in silence."""
    if x.dtype.kind != "f":
        raise TypeError(f"{what}: expected floats, got {x.dtype}; x.astype('float32') makes them")


def to_numpy(x: Array) -> np.ndarray:
    """Return ``x`` as a NumPy array; from a GPU this waits and copies."""
    return x.get() if array_module(x) is not np else np.asarray(x)


def beside(x: Array) -> AbstractContextManager[Any]:
    """Return a block in which ``x``'s own GPU is CuPy's current one."""
    xp = array_module(x)
    return nullcontext() if xp is np else xp.cuda.Device(x.device.id)


@dataclass(frozen=True)
class Device:
    """Where arrays live.  ``note`` says how it was chosen, for people to read."""

    kind: str  # "cpu" or "gpu"
    index: int = 0
    note: str = ""

    def __str__(self) -> str:
        return "cpu" if self.kind == "cpu" else f"gpu:{self.index}"

    @property
    def xp(self) -> Any:
        """The array library of this device."""
        return np if self.kind == "cpu" else importlib.import_module("cupy")

    def use(self) -> None:
        """Make this CuPy's current device: what is computed from now on is computed there."""
        if self.kind == "gpu":
            self.xp.cuda.Device(self.index).use()

    def asarray(self, x: Array, dtype: str | None = None) -> Array:
        """Return ``x`` on this device, copied only where it must be."""
        if self.kind == "cpu":
            return np.asarray(to_numpy(x), dtype=dtype)
        with self.xp.cuda.Device(self.index):
            try:
                return self.xp.asarray(x, dtype=dtype)
            except MemoryError as error:
                said = f"no memory on {self} for an array of {np.shape(x)}: {error}. "
                raise MemoryError(said + memory_left(self)) from error

    def synchronize(self) -> None:
        """Wait until everything that was launched on this device is done."""
        if self.kind == "gpu":
            with self.xp.cuda.Device(self.index):
                self.xp.cuda.get_current_stream().synchronize()

    def free_memory(self) -> None:
        """Give a GPU the memory back that CuPy keeps for arrays to come.

        Larger arrays, and other programs, can have it then.  Arrays that somebody holds stay.
        """
        if self.kind == "gpu":
            with self.xp.cuda.Device(self.index):
                self.xp.get_default_memory_pool().free_all_blocks()


def device(spec: str | Device = "cpu") -> Device:
    """Turn ``"cpu"``, ``"gpu"``, ``"gpu:1"`` or ``"auto"`` into a `Device`.

    ``"auto"`` takes the GPU where one works and the CPU elsewhere; ``note`` says which and why.
    A GPU becomes CuPy's current one: arrays are made there from now on.
    Raises `DeviceError` if a GPU is asked for and can't be used, with the original error as its
    cause, and `ValueError` for any other word.
    """
    if isinstance(spec, Device):
        return spec
    if spec == "cpu":
        return Device("cpu", note="cpu, as asked")
    if spec == "auto":
        try:
            chosen = Device("gpu", note=f"gpu, because one works: {probe_gpu(0)}")
        except DeviceError as error:
            return Device("cpu", note=f"cpu, because no GPU can be used: {error}")
        chosen.use()
        return chosen
    kind, _, index = str(spec).partition(":")
    if kind != "gpu" or not (index.isdigit() or str(spec) == "gpu"):
        raise ValueError(f"device {spec!r}: expected 'cpu', 'gpu', 'gpu:1' (a number) or 'auto'")
    number = int(index or 0)
    chosen = Device("gpu", number, note=f"gpu, as asked: {probe_gpu(number)}")
    chosen.use()
    return chosen


def memory_left(device: Device) -> str:
    """Return a sentence about a GPU's memory, for errors; nothing for the CPU."""
    if device.kind == "cpu":
        return ""
    try:
        with device.xp.cuda.Device(device.index):
            free, total = device.xp.cuda.runtime.memGetInfo()
            pool = device.xp.get_default_memory_pool()
            unused, limit = pool.free_bytes(), pool.get_limit()
    except Exception as error:  # the error that this is said about matters more
        return f"How much {device} has left can't be found out ({first_line(error)}). "
    said = f"{device} has {free / 2**30:,.2f} GiB free of {total / 2**30:,.2f}"
    said += f"; CuPy keeps {unused / 2**30:,.2f} GiB that nothing uses"
    return said + (f", and may take {limit / 2**30:,.2f} GiB. " if limit else ". ")


def probe_gpu(index: int = 0) -> str:
    """Run one kernel on GPU ``index`` and return a line about it.

    An import that works proves little: drivers and compilers are found out only by a kernel.
    Raises `DeviceError` with the reason and the cure.
    """
    cupy = import_cupy()
    try:
        count = cupy.cuda.runtime.getDeviceCount()
    except Exception as error:
        raise DeviceError(
            f"CuPy {cupy.__version__} finds no NVIDIA driver or GPU ({first_line(error)}). "
            "Install NVIDIA's driver (nvidia-smi must work), new enough for this CuPy, or use "
            f"--device cpu. {ASK_DOCTOR}"
        ) from error
    if index >= count:
        raise DeviceError(f"gpu:{index} was asked for, but this machine has {count} GPU(s)")
    try:
        with cupy.cuda.Device(index):
            numbers = cupy.arange(1000, dtype="float32")
            total = float((numbers * numbers).sum())
            name = cupy.cuda.runtime.getDeviceProperties(index)["name"]
    except Exception as error:
        raise DeviceError(
            f"CuPy {cupy.__version__} can't run a kernel on gpu:{index} ({first_line(error)}). "
            f"The CUDA version of CuPy must fit the driver: {INSTALL_GPU}. {ASK_DOCTOR}"
        ) from error
    if abs(total - 332833500.0) > 100:
        raise DeviceError(f"gpu:{index} gave a wrong sum ({total}, expected 332833500)")
    return f"{name.decode() if isinstance(name, bytes) else name} (CuPy {cupy.__version__})"


def import_cupy() -> ModuleType:
    """Import CuPy or raise `DeviceError` with the original error and the install line."""
    try:
        cupy = importlib.import_module("cupy")
    except ModuleNotFoundError as error:
        if error.name == "cupy":
            raise DeviceError(f"CuPy isn't installed. {INSTALL_GPU}") from error
        raise DeviceError(f"CuPy can't be imported ({first_line(error)})") from error
    except Exception as error:  # CuPy raises many kinds here: missing libraries, two wheels, ...
        raise DeviceError(
            f"CuPy is installed but can't be imported ({first_line(error)}). "
            f"Its CUDA version must fit the driver: {INSTALL_GPU}"
        ) from error
    for call in after_cupy:
        call(cupy)
    return cupy


def first_line(error: BaseException) -> str:
    """The kind and the first line of an error's text."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip(" =")]
    return f"{type(error).__name__}: {lines[0]}" if lines else type(error).__name__
