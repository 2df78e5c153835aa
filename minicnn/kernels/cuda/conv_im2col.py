"""Convolution by columns: windows written out, and products by cuBLAS.

The readable way, and the fast one where the filters are many.  Columns are made for some pictures
at a time, so that they stay in the GPU's cache and memory is bounded.
"""

from __future__ import annotations

from collections.abc import Iterator

from ...backend import Array
from ..geometry import Geometry, chunks
from .blas import gemm, prepare
from .conv_choose import is_product
from .im2col import col2im, im2col
from .writer import Writer

COLUMN_BYTES = 32 << 20
"""Bytes of columns at a time: an H200's cache has 60 MB.  Not measured on a GPU yet."""


def forward(
    s: Writer, x: Array, w: Array, b: Array | None, y: Array, g: Geometry, relu: bool, tf32: bool
) -> None:
    """Write y = x * w + b; see `conv.conv_forward`."""
    filters = w.reshape(-1, g.O)  # (T*C, O)
    prepare()
    for part, cols in parts(s, len(x), g):
        if not is_product(g):
            im2col(s, x[part], cols[: len(x[part])], g)
        rows = matrix(x[part] if is_product(g) else cols[: len(x[part])], g.T * g.C)
        s.call(gemm, rows, filters, matrix(y[part], g.O), False, False, 0.0, tf32)
    if b is not None or relu:
        s.launch("conv_bias", y.size, y, b, y.size, g.O, relu)


def backward_x(s: Writer, dy: Array, w: Array, dx: Array, g: Geometry, tf32: bool) -> None:
    """Write dx; see `conv.conv_backward_x`."""
    filters = w.reshape(-1, g.O)
    prepare()
    for part, cols in parts(s, len(dx), g):
        slopes, windows = matrix(dy[part], g.O), dx[part]
        if not is_product(g):
            windows = cols[: len(dx[part])]
        # (M, T*C) = (M, O) @ (O, T*C)
        s.call(gemm, slopes, filters, matrix(windows, g.T * g.C), False, True, 0.0, tf32)
        if not is_product(g):
            col2im(s, windows, dx[part], g)


def backward_w(s: Writer, x: Array, dy: Array, dw: Array, g: Geometry, tf32: bool) -> None:
    """Write dw; see `conv.conv_backward_w`."""
    prepare()
    beta = 0.0
    for part, cols in parts(s, len(x), g):
        windows = x[part]
        if not is_product(g):
            windows = cols[: len(x[part])]
            im2col(s, x[part], windows, g)
        # (T*C, O) = (T*C, M) @ (M, O)
        rows, slopes = matrix(windows, g.T * g.C), matrix(dy[part], g.O)
        s.call(gemm, rows, slopes, dw.reshape(-1, g.O), True, False, beta, tf32)
        beta = 1.0  # the pictures to come are added


def parts(s: Writer, N: int, g: Geometry) -> Iterator[tuple[slice, Array]]:
    """Yield slices of pictures, and room for the columns of one; all at once without columns."""
    each = g.OH * g.OW * g.T * g.C
    if is_product(g):
        yield slice(0, N), None
        return
    slices = list(chunks(N, each * s.dtype.itemsize, COLUMN_BYTES))
    cols = s.new((slices[0].stop, g.OH, g.OW, g.T, g.C))
    for part in slices:
        yield part, cols
    s.free(cols)


def matrix(array: Array, columns: int) -> Array:
    """Return an array as a matrix of so many columns."""
    return array.reshape(-1, columns)
