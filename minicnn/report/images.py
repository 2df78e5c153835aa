"""Pictures inside a page: PNG of arrays, SVG and PNG of figures, all as data URIs."""

from __future__ import annotations

import struct
import zlib
from base64 import b64encode
from typing import Any

import numpy as np

from ..plots.figure import written
from .page import scrolling, text

READABLE = 0.68
"""Of its size, how small a chart may be shown: beyond, it scrolls."""


def png(picture: np.ndarray) -> bytes:
    """Return a picture, (H, W, 1 or 3) uint8, as the bytes of a PNG file."""
    H, W, C = picture.shape
    rows = np.zeros((H, 1 + W * C), np.uint8)  # each row begins with its filter: none
    rows[:, 1:] = picture.reshape(H, W * C)

    def chunk(kind: bytes, content: bytes) -> bytes:
        check = struct.pack(">I", zlib.crc32(kind + content))
        return struct.pack(">I", len(content)) + kind + content + check

    head = struct.pack(">IIBBBBB", W, H, 8, 2 if C == 3 else 0, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", head)
        + chunk(b"IDAT", zlib.compress(rows.tobytes(), 9))
        + chunk(b"IEND", b"")
    )


def uri(kind: str, content: bytes) -> str:
    """Return a data URI."""
    return f"data:{kind};base64,{b64encode(content).decode()}"


def pixels(picture: np.ndarray, alt: str) -> str:
    """Return an <img> of a small picture, whose pixels stay squares.  alt: a plain text."""
    picture = smaller(picture)
    H, W, _ = picture.shape
    source = uri("image/png", png(picture))
    return f'<img src="{source}" width="{W}" height="{H}" alt="{text(alt)}">'


def smaller(picture: np.ndarray, most: int = 128) -> np.ndarray:
    """Return a picture of at most ``most`` pixels along its sides: means of squares of pixels."""
    H, W, C = picture.shape
    k = -(-max(H, W) // most)
    if k == 1 or min(H, W) < k:
        return picture
    squares = picture[: H // k * k, : W // k * k].reshape(H // k, k, W // k, k, C)
    return squares.mean(axis=(1, 3)).round().astype(np.uint8)


def chart(figure: Any, alt: str, narrow: Any = None) -> str:
    """Return a <figure> of curves or numbers, SVG, which in the dark is drawn light on dark.

    narrow: another figure of the same, for a phone.  alt: a plain text.
    """
    source = uri("image/svg+xml", written(figure, "svg", transparent=True))
    other = ""
    if narrow is not None:
        small = uri("image/svg+xml", written(narrow, "svg", transparent=True))
        other = f'<source media="(max-width: 40rem)" srcset="{small}"{size(narrow)}>'
    wide = 96 * figure.get_size_inches()[0]
    least, basis = round(READABLE * wide), round(0.8 * wide)
    image = f'<img src="{source}"{size(figure)} style="--least:{least}px" alt="{text(alt)}">'
    held = f"<picture>{other}{image}</picture>"
    body = held if other else scrolling(alt.partition(":")[0], held)
    return f'<figure class="chart" style="--basis:{basis}px">{body}</figure>'


def sheet(figure: Any, alt: str, caption: str) -> str:
    """Return a <figure> of pictures that matplotlib drew, PNG on white.  caption: HTML."""
    source = uri("image/png", written(figure, "png", dpi=110))
    image = f'<img src="{source}"{size(figure)} alt="{text(alt)}">'
    return (
        f'<figure class="sheet">{scrolling(alt, image)}<figcaption>{caption}</figcaption></figure>'
    )


def size(figure: Any) -> str:
    """Return the width and height of a figure as attributes, in CSS pixels."""
    width, height = (round(96 * side) for side in figure.get_size_inches())
    return f' width="{width}" height="{height}"'
