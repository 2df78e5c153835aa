"""Products of matrices by cuBLAS, in a way that can be captured in a graph.

CuPy refuses every call of cuBLAS while a stream is being captured, although cuBLAS itself can be
captured.  So the library that CuPy has loaded is called directly, with a handle of our own.  A
call sets the stream, then the workspace (setting the stream takes the workspace away), then
multiplies; without a workspace of its own a captured cuBLAS would allocate memory in the graph.
"""

from __future__ import annotations

import ctypes
import importlib
import re
import sys
from pathlib import Path
from threading import Lock
from types import MappingProxyType
from typing import Any

import numpy as np

from ...backend import Array, DeviceError

WORKSPACE = 32 << 20
"""Bytes that cuBLAS may use beside the operands: what it recommends for Hopper."""

TYPES = MappingProxyType({"float32": 0, "float64": 1, "float16": 2, "uint16": 14})
"""cudaDataType by dtype; uint16 are the bits of bfloat16."""
COMPUTE_32F, COMPUTE_64F, COMPUTE_TF32 = 68, 70, 77  # cublasComputeType_t
FULL_SUMS = 16  # cublasMath_t: parts of 16-bit products are added up in float32, too
DEFAULT_ALGORITHM = -1
NAMES = (
    "cublasCreate_v2",
    "cublasSetStream_v2",
    "cublasSetWorkspace_v2",
    "cublasSetMathMode",
    "cublasGemmStridedBatchedEx",
)


def gemm(
    a: Array,
    b: Array,
    c: Array,
    transpose_a: bool = False,
    transpose_b: bool = False,
    beta: float = 0.0,
    tf32: bool = False,
) -> None:
    """Do C = op(A) op(B) + beta C on the current stream.

    a: (M, K), or (K, M) with transpose_a.  b: (K, N), or (N, K) with transpose_b.  c: (M, N).  All
    C-contiguous; or all with a first axis of equal length, over which it is done.
    a and b have one dtype: float32, float64, float16 or uint16 (the bits of bfloat16).  c has it,
    too, or is float32.  Sums are float32 (float64 for float64).  tf32: multiply float32 as TF32.
    Raises ValueError or TypeError where shapes or dtypes don't fit, DeviceError where cuBLAS fails.
    """
    M, N, K, batch = check(a, b, c, transpose_a, transpose_b)
    if not batch * M * N:
        return
    blas = prepare()
    double = a.dtype == np.float64
    scalar = ctypes.c_double if double else ctypes.c_float
    compute = COMPUTE_64F if double else COMPUTE_32F
    if tf32 and a.dtype == np.float32:
        compute = COMPUTE_TF32
    # cuBLAS goes down columns first, and so sees the transpose of all that lies here:
    # C^T (N x M) = op(B)^T (N x K) op(A)^T (K x M).
    blas.use(
        *(int(transpose_b), int(transpose_a), N, M, K, ctypes.byref(scalar(1))),
        *(b.data.ptr, TYPES[b.dtype.name], b.shape[-1], b.shape[-2] * b.shape[-1]),
        *(a.data.ptr, TYPES[a.dtype.name], a.shape[-1], a.shape[-2] * a.shape[-1]),
        ctypes.byref(scalar(beta)),
        *(c.data.ptr, TYPES[c.dtype.name], N, M * N),
        *(batch, compute, DEFAULT_ALGORITHM),
    )


def check(
    a: Array, b: Array, c: Array, transpose_a: bool, transpose_b: bool
) -> tuple[int, int, int, int]:
    """Return M, N, K and how many products there are."""
    shape_a = a.shape[:-2] + a.shape[-2:][:: -1 if transpose_a else 1]
    shape_b = b.shape[:-2] + b.shape[-2:][:: -1 if transpose_b else 1]
    if not 2 <= a.ndim == b.ndim == c.ndim <= 3 or not (
        shape_a[:-2] == shape_b[:-2] == c.shape[:-2]
        and shape_a[-1] == shape_b[-2]
        and c.shape[-2:] == (shape_a[-2], shape_b[-1])
    ):
        raise ValueError(f"gemm: {shape_a} @ {shape_b} doesn't give {c.shape}")
    if a.dtype.name not in TYPES or b.dtype != a.dtype:
        raise TypeError(f"gemm: a is {a.dtype} and b {b.dtype}; expected one of {', '.join(TYPES)}")
    if c.dtype != a.dtype and not (c.dtype == np.float32 and a.dtype.itemsize == 2):
        raise TypeError(f"gemm: products of {a.dtype} can't be written as {c.dtype}")
    if not all(array.flags.c_contiguous for array in (a, b, c)):
        raise ValueError("gemm: all arrays must be C-contiguous")
    if not shape_a[-1]:
        raise ValueError("gemm: a product over nothing (K = 0)")
    return shape_a[-2], shape_b[-1], shape_a[-1], a.shape[0] if a.ndim == 3 else 1


class Blas:
    """cuBLAS on one device: a handle, and memory for it to work in.

    One stream uses it at a time: two would share the workspace.  Threads take turns: a product
    must go to the stream that was set for it, above all while one of them captures a graph.
    """

    def __init__(self, library: Any) -> None:
        self.library, self.lock = library, Lock()
        self.handle = ctypes.c_void_p()
        self.call("cublasCreate_v2", ctypes.byref(self.handle))
        self.call("cublasSetMathMode", self.handle, FULL_SUMS)
        cupy = importlib.import_module("cupy")
        self.workspace = cupy.empty(WORKSPACE, np.uint8)

    def use(self, *arguments: Any) -> None:
        """Multiply on the current stream."""
        stream = importlib.import_module("cupy").cuda.get_current_stream().ptr
        with self.lock:
            self.call("cublasSetStream_v2", self.handle, ctypes.c_void_p(stream))
            self.call("cublasSetWorkspace_v2", self.handle, pointer(self.workspace), WORKSPACE)
            self.call("cublasGemmStridedBatchedEx", self.handle, *arguments)

    def call(self, name: str, *arguments: Any) -> None:
        """Call a function of cuBLAS; raise DeviceError if it says that it failed."""
        status = getattr(self.library, name)(*arguments)
        if status:
            raise DeviceError(f"{name} failed with status {status} (cublasStatus_t)")


def pointer(array: Array) -> ctypes.c_void_p:
    """Return where an array lies."""
    return ctypes.c_void_p(array.data.ptr)


handles: dict[Any, Blas] = {}


def prepare() -> Blas:
    """Return cuBLAS of the current device, made when first asked for: before a capture."""
    cupy = importlib.import_module("cupy")
    key = cupy.ndarray, cupy.cuda.Device().id
    if key not in handles:
        handles[key] = Blas(declared(find()))
    return handles[key]


def find() -> Any:
    """Return cuBLAS as CuPy has loaded it; raise DeviceError where there is none."""
    # CuPy's own loader knows where a wheel of NVIDIA's has put it; to import the module by its full
    # name would go past it.
    _ = importlib.import_module("cupy_backends.cuda.libs").cublas
    tried = []
    for name in candidates():
        try:
            return ctypes.CDLL(name)
        except OSError as error:
            tried.append(f"{name}: {error}")
    raise DeviceError("CuPy has loaded no cuBLAS that can be used; " + "; ".join(tried))


def candidates() -> list[str]:
    """Return where cuBLAS may be: first the files that this process has loaded."""
    names = []
    maps = Path("/proc/self/maps")
    if maps.exists():
        names = re.findall(r"\S*/libcublas\.so\S*", maps.read_text(encoding="utf-8"))
    majors = (13, 12)
    if sys.platform == "win32":
        names += [f"cublas64_{major}.dll" for major in majors]
    return list(dict.fromkeys([*names, *(f"libcublas.so.{major}" for major in majors)]))


def declared(library: Any) -> Any:
    """Declare the types of the functions that are used here, and return the library."""
    i, p, n = ctypes.c_int, ctypes.c_void_p, ctypes.c_longlong
    matrix = (p, i, i, n)  # where, type, rows, from one to the next
    types = (
        (p,),
        (p, p),
        (p, p, ctypes.c_size_t),
        (p, i),
        (p, i, i, i, i, i, p, *matrix, *matrix, p, *matrix, i, i, i),
    )
    for name, arguments in zip(NAMES, types, strict=True):
        function = getattr(library, name)
        function.argtypes, function.restype = arguments, ctypes.c_int
    return library
