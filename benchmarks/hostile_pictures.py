"""Files that no honest client sends: damaged pictures, bombs, and what is no picture at all."""

from __future__ import annotations

import gzip
import io
import struct
import zipfile
import zlib
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

MB = 1 << 20
HOST = b"127.0.0.1:8000"  # stands for the server's own
FINE, NO_PICTURE, BROKEN = frozenset({200}), frozenset({415}), frozenset({400})
HUNG_UP = 0
FORMATS = ("PNG", "JPEG", "WEBP", "BMP", "GIF")


@dataclass(frozen=True)
class Hostile:
    """What is sent on a new connection, and what may come back.

    statuses: 0, the server hangs up.  leave: the client hangs up and reads nothing.
    """

    name: str
    data: bytes
    statuses: frozenset[int]
    leave: bool = False


def request(
    body: bytes, *headers: bytes, method: bytes = b"POST", path: bytes = b"/api/predict"
) -> bytes:
    """Return a request with a right length."""
    head = [method + b" " + path + b" HTTP/1.1", b"Host: " + HOST, *headers]
    return b"\r\n".join([*head, b"Content-Length: %d" % len(body), b"", body])


def encoded(format: str, size: tuple[int, int] = (64, 48), mode: str = "RGB", **more) -> bytes:
    """Return a picture of noise as a file."""
    from PIL import Image

    noise = np.random.default_rng(0).integers(0, 256, (size[1], size[0], 3), dtype=np.uint8)
    file = io.BytesIO()
    Image.fromarray(noise).convert(mode).save(file, format, **more)
    return file.getvalue()


def pictures() -> Iterator[Hostile]:
    """Yield damaged pictures of every format."""
    rng = np.random.default_rng(1)
    either = FINE | NO_PICTURE | {413}
    for format in FORMATS:
        whole = encoded(format)
        for percent in (1, 5, 30, 60, 90, 99):
            cut = whole[: len(whole) * percent // 100]
            yield Hostile(f"{format} cut to {percent} %", request(cut), either)
        for number in range(8):
            damaged = bytearray(whole)
            first = 0 if number % 2 else len(whole) // 4
            for place in rng.integers(first, len(whole), 1 + 4 * number):
                damaged[place] = rng.integers(256)
            yield Hostile(f"{format} damaged {number}", request(bytes(damaged)), either)
        yield Hostile(f"{format} with zeros", request(whole[:60] + bytes(2000)), either)
        yield Hostile(f"{format} and 4 MB more", request(whole + bytes(4 * MB)), either)
        yield Hostile(f"{format} twice", request(whole * 2), either)
        yield Hostile(f"half a {format}", request(whole[len(whole) // 2 :]), NO_PICTURE)


def chunk(kind: bytes, data: bytes = b"") -> bytes:
    """Return a chunk of a PNG."""
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png(width: int, height: int, *chunks: bytes, depth: int = 8, color: int = 0) -> bytes:
    """Return a PNG that says it is so large, and holds at most a million zeros."""
    start = struct.pack(">IIBBBBB", width, height, depth, color, 0, 0, 0)
    pixels = zlib.compress(bytes(min(height * (width + 1), MB)))
    parts = [chunk(b"IHDR", start), *chunks, chunk(b"IDAT", pixels), chunk(b"IEND")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(parts)


def bombs() -> Iterator[Hostile]:
    """Yield small files that would be much work."""
    from PIL import Image

    too_much = frozenset({413, 415})
    for width, height in ((30_000, 30_000), (5000, 4001), (2**31 - 1, 1), (1, 2**31 - 1), (0, 0)):
        yield Hostile(f"PNG {width} x {height}", request(png(width, height)), too_much)
    text = zlib.compress(bytes(16 * MB))
    yield Hostile("text bomb", request(png(8, 8, chunk(b"zTXt", b"a\0\0" + text))), too_much)
    profile = chunk(b"iCCP", b"a\0\0" + text)
    yield Hostile("profile bomb", request(png(8, 8, profile)), too_much | FINE)
    flat = io.BytesIO()
    Image.new("P", (5000, 4000)).save(flat, "PNG", compress_level=1, transparency=0)  # RGBA
    yield Hostile("PNG of as many pixels as may be", request(flat.getvalue()), FINE)
    pixels = chunk(b"IDAT", zlib.compress(bytes(50 * MB), 1))
    yield Hostile("pixel bomb", request(png(64, 64, pixels)), too_much | FINE)
    for kind in (b"prVt", b"IDAT", b"tEXt"):
        many = chunk(kind) * (4 * MB // 12)
        yield Hostile(f"PNG of many {kind!r}", request(png(8, 8, many)), too_much | FINE)
    jpeg, gif = encoded("JPEG", progressive=True), encoded("GIF")
    frame, scan = jpeg.index(b"\xff\xc2") + 5, jpeg[jpeg.rindex(b"\xff\xda") : -2]
    for name, filling in {
        "comments": b"\xff\xfe\0\2",
        "remarks": b"\xff\xe1\0\2",
        "profiles": b"\xff\xe2\0\x10ICC_PROFILE\0\1\1",
        "fill bytes": b"\xff",
        "restarts": b"\xff\xd0",
        "tables": b"\xff\xdb\0\x43\0" + b"\1" * 64,
    }.items():
        many = jpeg[:2] + filling * (4 * MB // len(filling)) + jpeg[2:]
        yield Hostile(f"JPEG of many {name}", request(many), too_much | FINE)
    yield Hostile("JPEG of many scans", request(jpeg[:-2] + scan * 9000 + jpeg[-2:]), NO_PICTURE)
    large = jpeg[:frame] + b"\xff" * 4 + jpeg[frame + 4 :]
    yield Hostile("JPEG 65535 x 65535", request(large), too_much)
    yield Hostile("JPEG nested", request(jpeg[:2] * 50_000), too_much)
    yield Hostile("GIF 60000 x 60000", request(gif[:6] + b"\x60\xea" * 2 + gif[10:]), too_much)
    place = gif.index(b",", 13)
    comments = gif[:place] + b"!\xfe\1a\0" * 800_000 + gif[place:]
    yield Hostile("GIF of many comments", request(comments), too_much | FINE)
    file = io.BytesIO()
    frames = [Image.new("P", (8, 8), i % 250) for i in range(2000)]
    frames[0].save(file, "GIF", save_all=True, append_images=frames[1:])
    yield Hostile("GIF of 2000 pictures", request(file.getvalue()), FINE)
    bmp = encoded("BMP")
    large = bmp[:18] + struct.pack("<ii", 40_000, 40_000) + bmp[26:]
    yield Hostile("BMP 40000 x 40000", request(large), too_much)
    webp = encoded("WEBP", lossless=True)
    large = webp[:21] + b"\xff\xff\xff\x0f" + webp[25:]
    yield Hostile("WEBP 16384 x 16384", request(large), too_much)
    extended = b"VP8X\n\0\0\0\2\0\0\0" + b"\xff\xff\xff" * 2
    animated = b"RIFF" + struct.pack("<I", 4 + len(extended)) + b"WEBP" + extended
    yield Hostile("WEBP canvas of 16777216", request(animated), too_much)


def no_pictures() -> Iterator[Hostile]:
    """Yield files of other kinds."""
    from PIL import Image

    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w") as file:
        file.writestr("a.png", encoded("PNG"))
    kinds = {
        "text": b"I am no picture",
        "page": b"<!doctype html><script>alert(1)</script>",
        "SVG": b"<svg xmlns='http://www.w3.org/2000/svg' onload='alert(1)'/>",
        "EPS": b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n",
        "PDF": b"%PDF-1.7\n1 0 obj\n",
        "ZIP": archive.getvalue(),
        "gzip": gzip.compress(encoded("PNG")),
        "pickle": b"\x80\x04cos\nsystem\n(S'id'\ntR.",
        "program": b"\x7fELF" + bytes(500),
        "Windows program": b"MZ" + bytes(500),
        "JSON": b'{"picture": "x"}',
        "URL": b"file:///etc/passwd",
        "data URI": b"data:image/png;base64,iVBORw0KGgo=",
        "MP4": b"\0\0\0\x18ftypmp42" + bytes(200),
        "HEIC": b"\0\0\0\x18ftypheic" + bytes(200),
        "FITS": b"SIMPLE  =                    T" + bytes(2880),
        "PSD": b"8BPS\0\1" + bytes(500),
        "icon": b"\0\0\1\0\1\0" + bytes(100),
        "zeros": bytes(5 * MB),
        "noise": np.random.default_rng(2).bytes(MB),
        "one byte": b"\x89",
        "PNG's start": b"\x89PNG\r\n\x1a\n",
        "JPEG's start": b"\xff\xd8\xff",
        "GIF's start": b"GIF89a",
    }
    for format in ("TIFF", "ICO", "PPM", "TGA", "PCX"):
        file = io.BytesIO()
        Image.new("RGB", (32, 32)).save(file, format)
        kinds[format] = file.getvalue()
    for name, data in kinds.items():
        yield Hostile(name, request(data, b"Content-Type: image/png"), NO_PICTURE)
    yield Hostile("nothing", request(b""), BROKEN)
    yield Hostile("too large", request(bytes(5 * MB + 1)), frozenset({413}))
    yield Hostile("far too large", request(bytes(30 * MB)), frozenset({413}))
