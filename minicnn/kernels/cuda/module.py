"""The kernels, compiled: all ``.cu`` files of this folder as one module for each storage type.

NVRTC, the compiler in CuPy's wheel, gets one text without any headers: that takes a second, and
CuPy keeps the result on disk.
"""

from __future__ import annotations

import importlib
import re
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np

KINDS: Mapping[str, tuple[str, np.dtype, np.dtype]] = MappingProxyType(
    {
        "float32": ("REAL_F32", np.dtype("float32"), np.dtype("float32")),
        "float64": ("REAL_F64", np.dtype("float64"), np.dtype("float64")),
        "float16": ("REAL_F16", np.dtype("float16"), np.dtype("float32")),
        "bfloat16": ("REAL_BF16", np.dtype("uint16"), np.dtype("float32")),
    }
)
"""Macro, dtype of arrays in storage, dtype of sums; NumPy has no bfloat16, only its bits."""

TYPES = MappingProxyType(
    {
        "float": "float32",
        "double": "float64",
        "int": "int32",
        "int64": "int64",
        "uint64": "uint64",
        "unsigned": "uint32",
        "unsigned int": "uint32",
        "uint32": "uint32",
        "uint16": "uint16",
        "uint8": "uint8",
        "unsigned char": "uint8",
        "bool": "bool",
    }
)

BOUNDS = r"(?:__launch_bounds__\([^)]*\)\s*)?"
KERNEL = re.compile(rf'extern\s+"C"\s+__global__\s+{BOUNDS}void\s+{BOUNDS}(\w+)\s*\(([^)]*)\)')
COMMENT = re.compile(r"//[^\n]*")

Parameter = tuple[str, np.dtype | None, bool]
"""Name, dtype (None: any), and whether it is an array."""


@cache
def source() -> str:
    """Return all sources as one: what they share first, then the kernels by name."""
    folder = Path(__file__).parent
    shared = [folder / "real.cuh", folder / "mma.cuh"]
    others = [path for path in sorted(folder.glob("*.cuh")) if path not in shared]
    parts = []
    for path in [*filter(Path.exists, shared), *others, *sorted(folder.glob("*.cu"))]:
        parts.append(f'#line 1 "{path.name}"\n{path.read_text(encoding="utf-8")}')
    return "\n".join(parts)


def options(kind: str) -> tuple[str, ...]:
    """Return the compiler's options for a storage type; CuPy adds the GPU's architecture."""
    return ("-std=c++17", f"-D{KINDS[kind][0]}")


@cache
def parameters(kind: str) -> Mapping[str, tuple[Parameter, ...]]:
    """Return the parameters of every kernel by its name, as the sources declare them."""
    found = {}
    for name, inside in KERNEL.findall(COMMENT.sub("", source())):
        found[name] = tuple(parameter(kind, text) for text in inside.split(",") if text.strip())
    return MappingProxyType(found)


def parameter(kind: str, text: str) -> Parameter:
    """Read one parameter, ``const real* __restrict__ x``."""
    _, storage, acc = KINDS[kind]
    words = re.sub(r"\b(const|__restrict__|__restrict)\b", " ", text).replace("*", " * ").split()
    *declared, name = words
    is_array = "*" in declared
    word = " ".join(part for part in declared if part != "*")
    own: dict[str, np.dtype | None] = {"real": storage, "acc": acc, "void": None}
    if word not in own and word not in TYPES:
        raise ValueError(
            f"kernel parameter {text.strip()!r}: {word!r} isn't a type of module.TYPES"
        )
    return name, own[word] if word in own else np.dtype(TYPES[word]), is_array


compiled: dict[tuple[Any, ...], Any] = {}
functions: dict[tuple[Any, ...], Any] = {}


def compile(kind: str) -> Any:
    """Return the module of a storage type for the current device, compiled when first asked for."""
    if kind not in KINDS:
        raise ValueError(f"storage type {kind!r}: expected one of {', '.join(KINDS)}")
    cupy = importlib.import_module("cupy")
    key = cupy.RawModule, cupy.cuda.Device().id, kind
    if key not in compiled:
        compiled[key] = cupy.RawModule(code=source(), options=options(kind))
    return compiled[key]


def kernel(kind: str, name: str, shared: int = 0) -> Any:
    """Return a kernel of the current device: ``f(grid, block, arguments, shared)``.

    shared: bytes of dynamic shared memory that it will be launched with; more than 48 KB have to be
    asked for.
    """
    cupy = importlib.import_module("cupy")
    key = cupy.RawModule, cupy.cuda.Device().id, kind, name
    if key not in functions:
        if name not in parameters(kind):
            known = ", ".join(sorted(parameters(kind)))
            raise ValueError(f"there is no kernel {name!r}; there are {known}")
        functions[key] = compile(kind).get_function(name)
    found = functions[key]
    if shared > 48 << 10 and found.max_dynamic_shared_size_bytes < shared:
        found.max_dynamic_shared_size_bytes = shared
    return found.kernel
