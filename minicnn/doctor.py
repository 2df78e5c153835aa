"""``minicnn doctor``: what this machine offers, and why its GPU can't be used, with the cure.

The questions go from the ground up: packages, driver, GPU, libraries, kernels, graphs.  The first
one that gets no good answer is the reason; what would come after it isn't asked.
"""

from __future__ import annotations

import importlib.metadata
import os
import platform
import re
import time
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from types import ModuleType
from typing import Any

import numpy as np

from . import backend
from .backend import INSTALL_GPU, DeviceError, first_line

NO_DRIVER = (
    "Install NVIDIA's driver, until nvidia-smi works. In a container: start it with --gpus all, "
    "with the NVIDIA Container Toolkit on the host"
)
OLDEST = {12: 50, 13: 75}
"""The oldest compute capability that CUDA's compiler knows, ten times, by CUDA's major version."""


class Trouble(Exception):
    """The GPU can't be used; ``cure`` says what to do."""

    def __init__(self, said: str, cure: str = "") -> None:
        super().__init__(said)
        self.cure = cure


@dataclass
class Report:
    """What was found out, line by line, and whether a GPU can be used."""

    lines: list[str] = field(default_factory=list)
    works: bool = False

    def add(self, name: str, said: str) -> None:
        """Add a line; without a name it goes on with the one before."""
        self.lines.append(f"{name:<9} {said}")

    def __str__(self) -> str:
        return "\n".join(self.lines)


def examine() -> Report:
    """Ask everything; return the report."""
    report = Report()
    for name, said in machine():
        report.add(name, said)
    try:
        for name, said in gpu():
            report.add(name, said)
        report.works = True
    except Trouble as trouble:
        report.add("GPU", f"can't be used: {trouble}")
        if trouble.cure:
            report.add("", f"cure: {trouble.cure}")
        cause = trouble.__cause__
        while cause is not None and cause.__cause__ is not None:
            cause = cause.__cause__
        if cause is not None:
            report.add("", f"original error: {first_line(cause)}")
    report.add("auto", f'device="auto" takes the {backend.device("auto").note.partition(":")[0]}')
    return report


def machine() -> Iterator[tuple[str, str]]:
    """Yield what needs no GPU: Python, NumPy, BLAS."""
    yield "Python", f"{platform.python_version()} on {platform.system()} {platform.machine()}"
    yield "NumPy", np.__version__
    from threadpoolctl import threadpool_info  # not at import time: it walks the loaded libraries

    for pool in threadpool_info():
        kind, version = pool.get("internal_api"), pool.get("version")
        yield "BLAS", f"{kind} {version}, {pool['num_threads']} threads"


def gpu() -> Iterator[tuple[str, str]]:
    """Yield what works of a GPU, from the ground up; raise `Trouble` at what doesn't."""
    found = wheels()
    yield "CuPy", ", ".join(f"{name} {version}" for name, version in found.items()) or "none found"
    check_wheels(found)
    cupy = imported()
    cuda = cuda_of(found, cupy)
    spoken = ask(cupy.cuda.runtime.driverGetVersion)
    if not spoken:
        raise Trouble("there is no NVIDIA driver", NO_DRIVER)
    yield "driver", f"speaks CUDA up to {written(spoken)}; CuPy is made for CUDA {cuda}"
    check_driver(spoken, cuda)
    check_count(cupy)
    yield "", described(cupy, cuda)
    for name, check in CHECKS.items():
        start = time.perf_counter()
        try:
            check(cupy)
        except Exception as error:  # libraries, compilers and drivers raise many kinds
            raise failed(name, error, cuda) from error
        yield "", f"works: {name} ({time.perf_counter() - start:.2f} s)"
    yield "GPU", f"works: {backend.probe_gpu(0)}"


def wheels() -> dict[str, str]:
    """Return the packages that may be CuPy, with their versions."""
    named = ((d.metadata["Name"] or "", d.version) for d in importlib.metadata.distributions())
    found = {
        name: version for name, version in named if re.match(r"(amd-)?cupy(-|$)", name.lower())
    }
    return dict(sorted(found.items()))


def check_wheels(found: dict[str, str]) -> None:
    """Raise `Trouble` if there is no CuPy, or more than one."""
    if len(found) > 1:
        names = " ".join(found)
        raise Trouble(
            f"{len(found)} CuPy packages are installed ({names}), and disturb each other",
            f"pip uninstall {names}   and then only one:   {INSTALL_GPU}",
        )


def imported() -> ModuleType:
    """Import CuPy; raise `Trouble` if that fails."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # CuPy warns of what is said here
            return backend.import_cupy()
    except DeviceError as error:
        if error.__cause__ is not None and (name := library(error.__cause__)):
            raise Trouble(*missing(name, None)) from error
        raise Trouble(str(error)) from error


def cuda_of(found: dict[str, str], cupy: ModuleType) -> int:
    """Return CUDA's major version that CuPy is made for: the wheel's name says it, or CuPy."""
    for name in found:
        if match := re.search(r"cuda(\d\d)", name):
            return int(match[1])
    return ask(cupy.cuda.runtime.runtimeGetVersion) // 1000


def ask(question: Callable[[], Any]) -> int:
    """Return a version, 0 where there is none."""
    try:
        return int(question())
    except Exception:
        return 0


def written(version: int) -> str:
    """Write CUDA's version as people do: 13010 is 13.1."""
    return f"{version // 1000}.{version % 1000 // 10}"


def check_driver(spoken: int, cuda: int) -> None:
    """Raise `Trouble` if the driver is older than the CUDA that CuPy is made for."""
    if spoken // 1000 < cuda:
        fits = spoken // 1000
        other = f"pip uninstall cupy-cuda{cuda}x   and   pip install 'minicnn[cuda{fits}]'"
        cure = f"Install a newer driver, or a CuPy for this one: {other}"
        if fits < min(OLDEST):
            cure = "Install a newer driver: CuPy 14 needs one for CUDA 12 or 13"
        raise Trouble(
            f"the driver speaks CUDA up to {written(spoken)}, but CuPy is made for CUDA {cuda}",
            cure,
        )


def check_count(cupy: ModuleType) -> None:
    """Raise `Trouble` if the driver shows no GPU."""
    hidden = os.environ.get("CUDA_VISIBLE_DEVICES")
    why = "" if hidden is None else f"; CUDA_VISIBLE_DEVICES is {hidden!r}, which hides others"
    cure = "nvidia-smi must list one" if hidden is None else "Unset CUDA_VISIBLE_DEVICES"
    try:
        count = cupy.cuda.runtime.getDeviceCount()
    except Exception as error:
        raise Trouble(f"the driver finds no GPU{why}", f"{cure}. {NO_DRIVER}") from error
    if count < 1:
        raise Trouble(f"this machine has 0 GPU(s){why}", cure)


def described(cupy: ModuleType, cuda: int) -> str:
    """Return a line about the GPU; raise `Trouble` if it is too old."""
    about = cupy.cuda.runtime.getDeviceProperties(0)
    name = about["name"].decode() if isinstance(about["name"], bytes) else about["name"]
    capability = 10 * about["major"] + about["minor"]
    if capability < OLDEST.get(cuda, 0):
        raise Trouble(
            f"{name} has compute capability {about['major']}.{about['minor']}, too old for "
            f"CUDA {cuda}, which knows {OLDEST[cuda] / 10} and newer",
            "pip install 'minicnn[cuda12]' instead, for 5.0 and newer" if cuda > 12
            else "CuPy 14 can't use it: take the CPU, or another GPU",
        )  # fmt: skip
    free, total = cupy.cuda.runtime.memGetInfo()
    return (
        f"{name}, compute capability {about['major']}.{about['minor']}, "
        f"{free / 2**30:,.1f} of {total / 2**30:,.1f} GiB of memory free"
    )


def failed(what: str, error: Exception, cuda: int) -> Trouble:
    """Return the trouble for a check that raised an error."""
    name = library(error)
    if name:
        return Trouble(*missing(name, cuda))
    if isinstance(error, DeviceError):
        return Trouble(str(error))
    return Trouble(f"{what} fails ({first_line(error)})", f"Try CuPy anew: {INSTALL_GPU}")


def library(error: BaseException) -> str:
    """Return the CUDA library that an error says is missing; "" if it says nothing of the kind."""
    text = str(error)
    found = re.search(r"\blib(cu\w+|nv\w+)\.so[.\d]*|\b(cu|nv)\w+\.dll", text)
    lost = re.search(r"(?i)not find|no such file|failure finding|cannot open|not found", text)
    return found[0] if found and lost else ""


def missing(name: str, cuda: int | None) -> tuple[str, str]:
    """Return what to say of a library that is missing, and the cure."""
    if name.startswith("libcuda."):
        return f"{name}, a part of NVIDIA's driver, is missing", NO_DRIVER
    extra = f"pip install 'minicnn[cuda{cuda}]'" if cuda else INSTALL_GPU
    return f"the CUDA library {name} is missing", (
        f"{extra}   brings it, as CuPy's extra [ctk] does; or install the CUDA Toolkit"
        + (f" {cuda}" if cuda else "")
    )


def first_kernel(cupy: ModuleType) -> None:
    """Compile and run a kernel of CuPy's."""
    backend.probe_gpu(0)


def own_kernels(cupy: ModuleType) -> None:
    """Compile the kernels of this package: all are one module."""
    from .kernels.cuda import module

    module.kernel("float32", min(module.parameters("float32")))


def multiplies(cupy: ModuleType) -> None:
    """Multiply two matrices by cuBLAS: through CuPy, and as the kernels do."""
    from .kernels.cuda import blas

    a = cupy.asarray(np.arange(64, dtype="float32").reshape(8, 8))
    expected, c = cupy.matmul(a, a), cupy.zeros((8, 8), dtype="float32")
    blas.gemm(a, a, c)
    if float(abs(c - expected).max()) > 1e-3 * float(expected.max()):
        raise ArithmeticError("it is wrong")


def captures(cupy: ModuleType) -> None:
    """Capture a product and a sum as a graph, and launch it."""
    from .kernels.cuda import blas

    a, c = cupy.ones((4, 4), dtype="float32"), cupy.zeros((4, 4), dtype="float32")
    stream, pool = cupy.cuda.Stream(non_blocking=True), cupy.cuda.MemoryPool()

    def work() -> None:
        blas.gemm(a, a, c)
        cupy.add(c, a, out=c)

    cupy.cuda.Device().synchronize()
    with stream, cupy.cuda.using_allocator(pool.malloc):
        work()
        stream.synchronize()
        stream.begin_capture()
        try:
            work()
        finally:
            graph = stream.end_capture()
        c.fill(0)
        graph.launch(stream)
        stream.synchronize()
    if float(abs(c - 5).max()) > 0:
        raise ArithmeticError("what it computes is wrong")


CHECKS: dict[str, Callable[[ModuleType], None]] = {
    "a kernel of CuPy": first_kernel,
    "minicnn's kernels, compiled": own_kernels,
    "a product by cuBLAS": multiplies,
    "a captured graph": captures,
}
