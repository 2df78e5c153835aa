"""A stand-in for cuBLAS: the functions of its C interface that minicnn calls, column by column.

They are Python behind C's calling convention, with the types that cublas_api.h declares.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from ctypes import c_int, c_longlong, c_size_t, c_void_p
from typing import Any

import numpy as np

from .stream import capturing, current, do

INVALID = 7  # CUBLAS_STATUS_INVALID_VALUE
STORAGE = {0: "float32", 1: "float64", 2: "float16", 14: "uint16"}  # cudaDataType
SUMS = {68: "float32", 70: "float64", 77: "float32"}  # cublasComputeType_t
TF32 = 77

HANDLE = 4711
state: dict[str, Any] = {"stream": None, "workspace": 0}
calls: list[str] = []
"""The functions that were called, for tests; emptied by them."""


def bfloat16_to_float(bits: np.ndarray) -> np.ndarray:
    return (bits.astype(np.uint32) << 16).view(np.float32)


def float_to_bfloat16(x: np.ndarray) -> np.ndarray:
    words = x.astype(np.float32).view(np.uint32).astype(np.uint64)
    return (words + 0x7FFF + (words >> 16 & 1) >> 16).astype(np.uint16)


def to_tf32(x: np.ndarray) -> np.ndarray:
    return (x.view(np.uint32) + np.uint32(0x1000) & np.uint32(0xFFFFE000)).view(np.float32)


def matrices(address: int, kind: int, rows: int, columns: int, ld: int, stride: int, batch: int):
    """Return the column-major matrices at an address, as an array (batch, rows, columns)."""
    dtype = np.dtype(STORAGE[kind])
    size = (batch - 1) * stride + (columns - 1) * ld + rows
    memory = (ctypes.c_char * (size * dtype.itemsize)).from_address(address)
    flat = np.frombuffer(memory, dtype)
    steps = [n * dtype.itemsize for n in (stride, 1, ld)]
    return np.lib.stride_tricks.as_strided(flat, (batch, rows, columns), steps)


def create(handle: int) -> int:
    if capturing() is not None:
        return INVALID
    c_void_p.from_address(handle).value = HANDLE
    return 0


def set_stream(handle: int, stream: int | None) -> int:
    state.update(stream=stream or 0, workspace=0)
    return 0


def set_workspace(handle: int, workspace: int, size: int) -> int:
    state["workspace"] = size if workspace and workspace % 256 == 0 else 0
    return 0


def set_math_mode(handle: int, mode: int) -> int:
    return 0


def gemm(
    handle, ta, tb, m, n, k, alpha, a, at, lda, sa, b, bt, ldb, sb, beta, c, ct, ldc, sc, *how
):
    batch, compute, algorithm = how
    rows_a, rows_b = (k if ta else m), (n if tb else k)
    valid = (
        handle == HANDLE
        and state["stream"] == current[-1].ptr
        and (capturing() is None or state["workspace"])  # else cuBLAS allocates in the graph
        and at == bt
        and (ct == at or (ct == 0 and at in (2, 14)))
        and compute in SUMS
        and (SUMS[compute] == "float64") == (at == 1)
        and lda >= rows_a
        and ldb >= rows_b
        and ldc >= m
        and algorithm == -1
    )
    if not valid:
        return INVALID
    scalar = ctypes.c_double if at == 1 else ctypes.c_float
    one, scale = (scalar.from_address(p).value for p in (alpha, beta))
    columns_a, columns_b = (m if ta else k), (k if tb else n)

    def operand(address, kind, rows, columns, ld, stride, transposed):
        found = matrices(address, kind, rows, columns, ld, stride, batch)
        found = bfloat16_to_float(found) if kind == 14 else found.astype(SUMS[compute], copy=False)
        if compute == TF32:
            found = to_tf32(found)
        return found.transpose(0, 2, 1) if transposed else found

    def multiply() -> None:
        left = operand(a, at, rows_a, columns_a, lda, sa, ta)
        right = operand(b, bt, rows_b, columns_b, ldb, sb, tb)
        with np.errstate(over="ignore", invalid="ignore"):  # float16 overflows, and says nothing
            result = one * np.matmul(left, right)
            out = matrices(c, ct, m, n, ldc, sc, batch)
            if scale:
                result += scale * (bfloat16_to_float(out) if ct == 14 else out)
            out[...] = float_to_bfloat16(result) if ct == 14 else result

    do(multiply)
    return 0


def exported(name: str, function: Callable[..., int], *types: Any) -> Any:
    def call(*arguments: Any) -> int:
        calls.append(name)
        return function(*arguments)

    return ctypes.CFUNCTYPE(c_int, *types)(call)


MATRIX = (c_void_p, c_int, c_int, c_longlong)
TYPES: dict[str, tuple[Any, ...]] = {
    "cublasCreate_v2": (create, c_void_p),
    "cublasSetStream_v2": (set_stream, c_void_p, c_void_p),
    "cublasSetWorkspace_v2": (set_workspace, c_void_p, c_void_p, c_size_t),
    "cublasSetMathMode": (set_math_mode, c_void_p, c_int),
    "cublasGemmStridedBatchedEx": (
        *(gemm, c_void_p, c_int, c_int, c_int, c_int, c_int, c_void_p, *MATRIX, *MATRIX),
        *(c_void_p, *MATRIX, c_int, c_int, c_int),
    ),
}


class Library:
    """What ``ctypes.CDLL`` would return."""

    def __init__(self) -> None:
        for name, (function, *types) in TYPES.items():
            setattr(self, name, exported(name, function, *types))
