"""The dense layer: a convolution of pictures of one pixel, with filters of one tap."""

from __future__ import annotations

from ...backend import Array
from ..geometry import Geometry
from .conv import conv_backward_w, conv_backward_x, conv_forward
from .writer import Writer


def dense_forward(
    s: Writer,
    x: Array,
    w: Array,
    b: Array | None,
    y: Array,
    relu: bool = False,
    algorithm: str = "auto",
) -> None:
    """Write y = x w + b, and max(0, y) where relu is True.

    x: (N, I)  w: (I, O)  y: (N, O), in the storage type.  b: (O,), of the type of sums, or None.
    """
    g = geometry(*w.shape)
    conv_forward(s, pixels(x), filters(w), b, pixels(y), g, relu, algorithm)


def dense_backward_x(s: Writer, dy: Array, w: Array, dx: Array, algorithm: str = "auto") -> None:
    """Write dx, the gradient of the input.

    dy: (N, O)  w: (I, O)  dx: (N, I), in the storage type.
    """
    conv_backward_x(s, pixels(dy), filters(w), pixels(dx), geometry(*w.shape), algorithm)


def dense_backward_w(
    s: Writer, x: Array, dy: Array, dw: Array, db: Array | None = None, algorithm: str = "auto"
) -> None:
    """Write dw, the gradient of the weights, and db, that of the biases, unless it is None.

    x: (N, I)  dy: (N, O), in the storage type.  dw: (I, O)  db: (O,), of the type of sums.
    """
    g = geometry(*dw.shape)
    conv_backward_w(s, pixels(x), pixels(dy), filters(dw), g, db, algorithm)


def geometry(I: int, O: int) -> Geometry:
    """Return the convolution that a dense layer is."""
    return Geometry(1, 1, I, O, 1, 1, 1, 1, 1, 1, ((0, 0), (0, 0)), 1)


def pixels(x: Array) -> Array:
    """Return rows (N, I) as pictures (N, 1, 1, I)."""
    return x.reshape(len(x), 1, 1, x.shape[1])


def filters(w: Array) -> Array:
    """Return weights (I, O) as filters (1, 1, I, O)."""
    return w.reshape(1, 1, *w.shape)
