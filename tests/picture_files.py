"""Picture files of all kinds, made on the spot, and what is to be seen on each.

`good` has whole pictures, `bad` what is none or does harm.  Where a picture has four quarters, they
are still its quarters when its middle is cut out.
"""

from __future__ import annotations

import io
import os
import struct
import zlib
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

RED, GREEN, BLUE, BLACK = (220, 30, 40), (20, 190, 60), (30, 60, 200), (10, 10, 10)
WHITE = (255, 255, 255)
QUARTERS = (RED, GREEN, BLUE, BLACK)  # upper left, upper right, lower left, lower right
Colours = tuple[tuple[float, float, float], ...]


def quartered(width: int, height: int, colours: Any = QUARTERS) -> np.ndarray:
    """Draw four quarters, uint8 (height, width, channels)."""
    upper = np.arange(height)[:, None, None] < height // 2
    left = np.arange(width)[None, :, None] < width // 2
    a, b, c, d = (np.array(colour) for colour in colours)
    return np.where(upper, np.where(left, a, b), np.where(left, c, d)).astype("uint8")


def grey(colour: Any) -> tuple[float, float, float]:
    """The grey of a colour, as ITU-R 601 weighs it."""
    value = float(np.dot(colour, (0.299, 0.587, 0.114)))
    return value, value, value


def over_white(colour: Any, alpha: float) -> tuple[float, ...]:
    """A colour of which so much is seen."""
    return tuple(alpha * c + (1 - alpha) * 255 for c in colour)


def png(width: int, height: int, depth: int, kind: int, lines: bytes, *chunks: Any) -> bytes:
    """Write a PNG by hand; kind 0: grey, 2: RGB, 4: grey and alpha."""

    def chunk(name: bytes, data: bytes) -> bytes:
        return (
            struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))
        )

    start = struct.pack(">IIBBBBB", width, height, depth, kind, 0, 0, 0)
    parts = ((b"IHDR", start), *chunks, (b"IDAT", zlib.compress(lines)), (b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunk(*part) for part in parts)


def deep(array: np.ndarray) -> bytes:
    """The lines of a 16-bit PNG; the lower eight bits are noise."""
    low = np.random.default_rng(0).integers(0, 256, array.shape)
    wide = (array.astype(np.uint16) * 256 + low).astype(">u2")
    return b"".join(b"\0" + line.tobytes() for line in wide)


def encoded(image: Any, format: str, **options: Any) -> bytes:
    file = io.BytesIO()
    image.save(file, format, **options)
    return file.getvalue()


def turned(picture: np.ndarray, orientation: int) -> np.ndarray:
    """What a camera stores of an upright picture that it says is turned so."""
    ways: dict[int, Callable[[np.ndarray], np.ndarray]] = {
        1: lambda a: a,
        2: lambda a: a[:, ::-1],
        3: lambda a: a[::-1, ::-1],
        4: lambda a: a[::-1],
        5: lambda a: a.transpose(1, 0, 2),
        6: lambda a: a.transpose(1, 0, 2)[::-1],
        7: lambda a: a.transpose(1, 0, 2)[::-1, ::-1],
        8: lambda a: a.transpose(1, 0, 2)[:, ::-1],
    }
    return np.ascontiguousarray(ways[orientation](picture))


def middle(width: int, height: int) -> np.ndarray:
    """A thin picture, green in its middle fifth, red before and blue behind."""
    length = max(width, height)
    line = np.array(
        [RED] * (2 * length // 5) + [GREEN] * (length // 5) + [BLUE] * (2 * length // 5)
    )
    return line.reshape(height, width, 3).astype("uint8")


@cache
def good() -> dict[str, tuple[bytes, Colours, int]]:
    """Each file by its name: its bytes, its quarters' colours, and how far off they may be."""
    from PIL import Image

    rgb = Image.fromarray(quartered(64, 48))
    files: dict[str, tuple[bytes, Colours, int]] = {}

    def add(name: str, data: bytes, colours: Any = QUARTERS, off: int = 1) -> None:
        files[name] = data, tuple(colours), off

    greys = [grey(c) for c in QUARTERS]
    add("rgb.png", encoded(rgb, "PNG"))
    add("palette.png", encoded(rgb.quantize(8), "PNG"))
    indices = Image.fromarray(quartered(64, 48, [[0], [1], [2], [3]])[..., 0], "L").convert("P")
    indices.putpalette(bytes(sum(QUARTERS, ())))
    add("clear palette.png", encoded(indices, "PNG", transparency=1), (RED, WHITE, BLUE, BLACK))
    half = [over_white(c, 128 / 255) for c in QUARTERS]
    add("half palette.png", encoded(indices, "PNG", transparency=b"\x80" * 4), half, 2)
    rgba = quartered(64, 48, [(*RED, 255), (*GREEN, 0), (*BLUE, 128), (*BLACK, 255)])
    seen = (RED, WHITE, over_white(BLUE, 128 / 255), BLACK)
    add("alpha.png", encoded(Image.fromarray(rgba), "PNG"), seen, 2)
    two = quartered(64, 48, [(200, 255), (200, 0), (90, 128), (10, 255)])
    clear = (200,) * 3, WHITE, over_white((90,) * 3, 128 / 255), (10,) * 3
    add("grey alpha.png", encoded(Image.fromarray(two, "LA"), "PNG"), clear, 2)
    add("16 bits grey alpha.png", png(64, 48, 16, 4, deep(two)), clear, 2)
    add("grey.png", encoded(rgb.convert("L"), "PNG"), greys)
    bright = quartered(64, 48, [[240], [100], [60], [5]])
    levels = [(v,) * 3 for v in (240, 100, 60, 5)]
    add("16 bits grey.png", png(64, 48, 16, 0, deep(bright)), levels)
    wide = bright.astype(np.uint16) * 257
    lines = b"".join(b"\0" + line.astype(">u2").tobytes() for line in wide)
    cut_out = (b"tRNS", struct.pack(">H", 100 * 257))
    add("16 bits clear.png", png(64, 48, 16, 0, lines, cut_out), [levels[0], WHITE, *levels[2:]])
    add("16 bits rgb.png", png(64, 48, 16, 2, deep(quartered(64, 48))))
    bits = Image.fromarray(quartered(64, 48, [[255], [0], [0], [255]])[..., 0]).convert("1")
    ink = (WHITE, (0, 0, 0), (0, 0, 0), WHITE)
    add("1 bit.png", encoded(bits, "PNG"), ink)
    moving = [rgb, *(Image.new("RGB", rgb.size, (k, 0, 0)) for k in range(9))]
    many = {"save_all": True, "append_images": moving[1:]}
    add("moving.png", encoded(rgb, "PNG", **many))

    add("plain.jpg", encoded(rgb, "JPEG", quality=95), off=12)
    add("progressive.jpg", encoded(rgb, "JPEG", quality=95, progressive=True), off=12)
    add("fine.jpeg", encoded(rgb, "JPEG", quality=100, subsampling=0), off=4)
    add("grey.jpg", encoded(rgb.convert("L"), "JPEG", quality=95), greys, 6)
    add("print.jpg", encoded(rgb.convert("CMYK"), "JPEG", quality=95), off=12)
    add("large.jpg", encoded(Image.fromarray(quartered(3000, 2000)), "JPEG", quality=60), off=12)
    add("two in one.jpg", encoded(rgb, "MPO", **many, quality=95), off=12)
    scan = b"\xff\xda\x00\x02"  # what looks like the start of a scan, where there is none
    behind = b"\x00\x02" + 1000 * scan
    add("movie behind.jpg", encoded(rgb, "JPEG", quality=95) + behind, off=12)
    add("remark before.jpg", encoded(rgb, "JPEG", quality=95, comment=1000 * scan), off=12)
    add("wrong exif.jpg", encoded(rgb, "JPEG", quality=95, exif=b"Exif\0\0II*\0\xff\xff"), off=12)
    for k in range(1, 9):
        exif = Image.Exif()
        exif[0x0112] = k
        stored = Image.fromarray(turned(quartered(64, 48), k))
        add(f"turned {k}.jpg", encoded(stored, "JPEG", quality=95, exif=exif), off=12)
    exif[0x0112] = 6
    stored = Image.fromarray(turned(quartered(64, 48), 6))
    add("turned.webp", encoded(stored, "WEBP", lossless=True, exif=exif))

    add("lossy.webp", encoded(rgb, "WEBP", quality=90), off=16)
    add("lossless.webp", encoded(rgb, "WEBP", lossless=True))
    add("alpha.webp", encoded(Image.fromarray(rgba), "WEBP", lossless=True), seen, 2)
    add("moving.webp", encoded(rgb, "WEBP", **many, lossless=True))
    add("plain.gif", encoded(rgb, "GIF"))
    add("clear.gif", encoded(indices, "GIF", transparency=1), (RED, WHITE, BLUE, BLACK))
    add("moving.gif", encoded(rgb, "GIF", **many, duration=50))
    add("24 bits.bmp", encoded(rgb, "BMP"))
    add("palette.bmp", encoded(rgb.quantize(8), "BMP"))
    add("grey.bmp", encoded(rgb.convert("L"), "BMP"), greys)
    add("1 bit.bmp", encoded(bits, "BMP"), ink)

    dot = Image.new("RGB", (1, 1), GREEN)
    for format in ("PNG", "BMP", "GIF"):
        add(f"1x1.{format.lower()}", encoded(dot, format), [GREEN] * 4)
    for size in ((5000, 1), (1, 5000)):
        thin = Image.fromarray(middle(*size))
        add(f"{size[0]}x{size[1]}.png", encoded(thin, "PNG"), [GREEN] * 4)
    thin = Image.fromarray(np.repeat(middle(5000, 1), 8, axis=0))
    add("5000x8.jpg", encoded(thin, "JPEG", quality=95), [GREEN] * 4, 12)
    add("really a png.jpg", encoded(rgb, "PNG"))
    add("really a webp.gif", encoded(rgb, "WEBP", lossless=True))
    add("no ending", encoded(rgb, "BMP"))
    add("ünïcödé 图片.png", encoded(rgb, "PNG"))
    add("=cmd(), \"a\" 'b'.png", encoded(rgb, "PNG"))
    add("line\nend\x1b[31m\u202e.png", encoded(rgb, "PNG"))
    return files


def scans(n: int) -> bytes:
    """A progressive JPEG whose last scan comes n times more."""
    from PIL import Image

    data = encoded(Image.new("RGB", (64, 64), RED), "JPEG", progressive=True)
    return data[:-2] + data[data.rindex(b"\xff\xda") : -2] * n + data[-2:]


@cache
def bad() -> dict[str, tuple[bytes, str]]:
    """Each file by its name: its bytes, and what is said of it."""
    from PIL import Image

    noise = np.random.default_rng(0).integers(0, 256, (64, 48, 3), dtype=np.uint8)
    image = Image.fromarray(noise)
    files = {
        f"cut at {part} %.{format.lower()}": (data[: len(data) * part // 100], "")
        for format in ("PNG", "JPEG", "WEBP", "GIF", "BMP")
        for data in [encoded(image, format)]
        for part in (2, 10, 50, 90)
    }
    lines = bytes(1 << 20)
    none = "it is no PNG, JPEG, WEBP, BMP or GIF picture"
    return files | {
        "900 million.png": (png(30_000, 30_000, 8, 0, lines), "bomb"),
        "100 million.png": (png(10_000, 10_000, 8, 0, lines), "bomb"),
        "80 million.png": (png(10_000, 8_000, 8, 0, lines), "10,000 x 8,000 pixels, expected"),
        "2 billion wide.png": (png(2**31 - 1, 1, 8, 0, lines), "bomb"),
        "scans.jpg": (scans(20_000), "more than 100 scans"),
        "text.jpg": (b"I am no picture", none),
        "empty.png": (b"", f"{none}, but empty"),
        "page.png": (b"<svg xmlns='http://www.w3.org/2000/svg'/>", f"{none}, but SVG: convert it"),
        "paper.png": (b"%PDF-1.7\n", f"{none}, but PDF: convert it"),
        "phone.jpg": (b"\0\0\0\x18ftypheic\0\0\0\0", f"{none}, but HEIC: convert it"),
        "fax.png": (encoded(image, "TIFF"), f"{none}, but TIFF: convert it"),
        "script.png": (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n", none),
        "zeros.png": (bytes(1000), none),
    }


def write(folder: Path, files: dict[str, Any]) -> list[Path]:
    """Write files into a folder and return their paths."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, (data, *_) in files.items():
        (folder / name).write_bytes(data)
    return [folder / name for name in files]


def quarters(x: np.ndarray) -> np.ndarray:
    """The colours of a picture's quarters, (4, C): the means of what isn't at their edges."""
    H, W, C = x.shape
    a, b = H // 2, W // 2
    parts = [x[:a, :b], x[:a, b:], x[a:, :b], x[a:, b:]]
    m, n = H // 8, W // 8
    return np.array([part[m : a - m, n : b - n].reshape(-1, C).mean(0) for part in parts])


def strange(folder: Path) -> dict[str, str]:
    """Make what isn't even a file in a folder; return what is said of each."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "folder.png").mkdir()
    os.symlink(folder / "nowhere", folder / "link.png")
    found = {
        "folder.png": "it is a folder",
        "link.png": "No such file or directory",
        "missing.png": "No such file or directory",
    }
    if hasattr(os, "mkfifo"):
        os.mkfifo(folder / "pipe.png")
        found["pipe.png"] = "it is no plain file"
    if hasattr(os, "geteuid") and os.geteuid():
        (folder / "secret.png").write_bytes(b"")
        (folder / "secret.png").chmod(0)
        found["secret.png"] = "Permission denied"
    return found
