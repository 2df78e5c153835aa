"""Passes that treat each element by itself: copies, sums, multiples, casts (``elementwise.cu``)."""

from __future__ import annotations

from ...backend import Array
from .writer import Writer


def copy(s: Writer, x: Array, y: Array) -> None:
    """Write y = x.  Both of one size, in the storage type."""
    s.launch("copy_elements", per_pack(s, x.size), x, y, x.size)


def add(s: Writer, a: Array, b: Array, y: Array) -> None:
    """Write y = a + b.  All of one size; y may be one of them."""
    s.launch("add_elements", per_pack(s, y.size), a, b, y, y.size)


def scale(s: Writer, x: Array, factor: float, y: Array) -> None:
    """Write y = factor x.  Both of one size; y may be x."""
    s.launch("scale_elements", per_pack(s, y.size), x, factor, y, y.size)


def fill(s: Writer, y: Array, value: float) -> None:
    """Write y = value.  y: in the storage type, or in that of sums."""
    name = "fill_elements" if y.dtype == s.dtype else "fill_sums"
    s.launch(name, y.size, y, value, y.size)


def cast_to(s: Writer, master: Array, copy: Array) -> None:
    """Write the copy of parameters in the storage type.  master: in that of sums."""
    s.launch("round_elements", master.size, master, copy, master.size)


def widen(s: Writer, x: Array, y: Array) -> None:
    """Write y = x, from the storage type into that of sums."""
    s.launch("widen_elements", x.size, x, y, x.size)


def copy_channels(s: Writer, x: Array, y: Array, first: int) -> None:
    """Write x, (..., P), into the channels first to first + P of y, (..., C)."""
    between(s, "insert_channels", x, y, x, y, first)


def copy_channels_back(s: Writer, y: Array, x: Array, first: int) -> None:
    """Write the channels first to first + P of y, (..., C), into x, (..., P)."""
    between(s, "extract_channels", y, x, x, y, first)


def between(
    s: Writer, name: str, source: Array, target: Array, part: Array, whole: Array, first: int
) -> None:
    """Write a copy between a piece of the channels and all of them."""
    piece, width = part.shape[-1], whole.shape[-1]
    if part.shape[:-1] != whole.shape[:-1] or not 0 <= first <= width - piece:
        raise ValueError(
            f"channels {first} to {first + piece} of {whole.shape} aren't {part.shape}"
        )
    rows = part.size // piece if piece else 0
    s.launch(name, part.size, source, target, rows, piece, width, first)


def per_pack(s: Writer, size: int) -> int:
    """How many threads there are for so many elements: one for each 16 bytes."""
    return -(-size * s.dtype.itemsize // 16)
