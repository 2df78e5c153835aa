"""Convolutions to compute on the GPU's floor, and what they should give."""

from __future__ import annotations

from typing import Any

import numpy as np

from minicnn.functional.conv import conv2d_backward, conv2d_forward
from minicnn.kernels.cuda.module import KINDS
from minicnn.kernels.cuda.writer import Now
from minicnn.kernels.geometry import Geometry

the_book = conv2d_forward.dispatch(object), conv2d_backward.dispatch(object)

# x (N, H, W, C), filters (KH, KW, O), options of conv2d_forward
CASES: dict[str, tuple[tuple[int, ...], tuple[int, ...], dict[str, Any]]] = {
    "same": ((2, 7, 5, 16), (3, 3, 24), {"padding": "same"}),
    "rectangular": ((1, 6, 9, 8), (2, 3, 40), {"padding": ((1, 0), (0, 2))}),
    "strides": ((2, 9, 8, 8), (3, 2, 16), {"stride": (2, 3), "padding": 1}),
    "stride 2 same": ((2, 8, 6, 8), (3, 3, 8), {"stride": 2, "padding": "same"}),
    "dilated": ((1, 9, 10, 8), (3, 2, 8), {"dilation": (2, 3), "padding": (2, 1)}),
    "strides dilated": ((1, 11, 12, 8), (3, 3, 8), {"stride": (2, 4), "dilation": (3, 2)}),
    "stride over kernel": ((2, 9, 8, 8), (2, 1, 8), {"stride": (3, 2)}),
    "one by one": ((3, 5, 4, 24), (1, 1, 16), {}),
    "one by one strided": ((2, 5, 6, 8), (1, 1, 8), {"stride": 2}),
    "picture": ((2, 6, 7, 3), (3, 3, 12), {"padding": 1}),
    "one channel": ((1, 8, 5, 1), (5, 3, 1), {"padding": (4, 1)}),
    "classes": ((5, 1, 1, 72), (1, 1, 10), {}),
    "classes strided": ((2, 5, 5, 5), (3, 3, 10), {"stride": 2, "padding": "same"}),
    "wide margins": ((1, 3, 3, 8), (3, 3, 8), {"padding": 3}),
    "whole picture": ((2, 4, 5, 8), (4, 5, 16), {}),
}
GROUPS: dict[str, tuple[tuple[int, ...], tuple[int, ...], dict[str, Any]]] = {
    "depthwise": ((2, 6, 5, 6), (3, 3, 6), {"padding": "same", "groups": 6}),
    "depthwise strided": ((1, 7, 6, 4), (3, 2, 8), {"stride": (2, 1), "groups": 4, "padding": 1}),
    "two groups": ((2, 5, 6, 6), (2, 3, 4), {"groups": 2, "dilation": (1, 2), "padding": (0, 2)}),
}


def rounded(x: np.ndarray, kind: str) -> np.ndarray:
    """Round to the values that a storage type has; "tf32" is one of them here."""
    if kind in ("float32", "float64", "float16"):
        return x.astype(kind).astype(x.dtype)
    bits = 16 if kind == "bfloat16" else 13
    words = x.astype(np.float32).view(np.uint32).astype(np.uint64)
    odd = words >> bits & 1 if kind == "bfloat16" else 1  # ties to even, or away
    words = words + (1 << bits - 1) - 1 + odd >> bits << bits
    return words.astype(np.uint32).view(np.float32).astype(x.dtype)


def to_storage(x: np.ndarray, kind: str) -> np.ndarray:
    """Return x as an array of the storage type."""
    if kind == "bfloat16":
        return (rounded(x, kind).astype(np.float32).view(np.uint32) >> 16).astype(np.uint16)
    return x.astype(KINDS[kind][1])


def from_storage(x: np.ndarray, kind: str) -> np.ndarray:
    """Return the numbers in an array of the storage type, as float64."""
    if kind == "bfloat16":
        return (x.astype(np.uint32) << 16).view(np.float32).astype(np.float64)
    return x.astype(np.float64)


class Problem:
    """A convolution's operands, on the GPU and as float64, and the book's results.

    precision: what operands are rounded to before: the storage type, or "tf32".
    """

    def __init__(self, cupy: Any, case: Any, kind: str, precision: str = "") -> None:
        self.cupy, self.kind = cupy, kind
        self.s = Now(kind)
        x_shape, (KH, KW, O), options = case
        rng = np.random.default_rng(7)
        groups = options.get("groups", 1)
        w_shape = (KH, KW, x_shape[-1] // groups, O)

        def draw(*shape: int) -> np.ndarray:
            return rounded(rng.standard_normal(shape), precision or kind)

        self.x, self.w, self.b = draw(*x_shape), draw(*w_shape), rng.standard_normal(O)
        self.b = self.b.astype(KINDS[kind][2]).astype(np.float64)
        self.g = Geometry.of(x_shape, w_shape, **options)
        self.y, cache = the_book[0](self.x, self.w, self.b, **options)
        self.dy = draw(*self.y.shape)
        self.dx, self.dw, self.db = the_book[1](self.dy, cache)
        self.magnitude = np.abs(self.w).sum(axis=(0, 1, 2)).max()

    def put(self, x: np.ndarray) -> Any:
        """Return an array of the storage type on the GPU."""
        return self.cupy.asarray(to_storage(x, self.kind))

    def put_sum(self, x: np.ndarray) -> Any:
        """Return an array of the type of sums on the GPU."""
        return self.cupy.asarray(x.astype(self.s.acc_dtype))

    def get(self, x: Any) -> np.ndarray:
        """Return what is in an array on the GPU, as float64."""
        host = x.get()
        return from_storage(host, self.kind) if host.dtype == self.s.dtype else host.astype(float)


def assert_close(found: np.ndarray, wanted: np.ndarray, bound: float) -> None:
    """Compare with the largest value as the measure."""
    scale = np.abs(wanted).max()
    assert found.shape == wanted.shape
    worst = np.abs(found - wanted).max() / scale if scale else np.abs(found).max()
    assert worst <= bound, f"off by {worst:.2g} of the largest, more than {bound}"
