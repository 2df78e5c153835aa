"""Pictures made to do harm."""

from __future__ import annotations

import io
import os
import struct
import subprocess
import sys
import zlib
from pathlib import Path

import numpy as np
import pytest
from hostile import refused

from minicnn.data import cifar10 as module
from minicnn.data.datasets import from_directory


def png(width: int, height: int, *chunks: tuple[bytes, bytes]) -> bytes:
    """A PNG of zeros, with other chunks before its data."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return (
            struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        )

    start = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    pixels = zlib.compress(bytes(min(height * (width + 1), 1 << 20)))
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        chunk(*part) for part in ((b"IHDR", start), *chunks, (b"IDAT", pixels), (b"IEND", b""))
    )


def pictures() -> dict[str, tuple[bytes, str]]:
    """Each bad picture, and what is said of it."""
    Image = pytest.importorskip("PIL.Image")

    def encoded(format: str) -> bytes:
        file = io.BytesIO()
        noise = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
        Image.fromarray(noise).save(file, format=format)
        return file.getvalue()

    jpeg, webp, gif, bmp = map(encoded, ("JPEG", "WEBP", "GIF", "BMP"))
    frame = jpeg.index(b"\xff\xc0") + 5
    text = zlib.compress(bytes(64 << 20))
    return {
        "30000 x 30000.png": (png(30_000, 30_000), "bomb"),
        "9000 x 9000.png": (png(9_000, 9_000), "9,000 x 9,000 pixels, expected at most"),
        "12000 x 12000.png": (png(12_000, 12_000), "bomb"),
        "2 billion wide.png": (png(2**31 - 1, 1), "bomb"),
        "no width.png": (png(0, 5), ""),
        "text bomb.png": (png(8, 8, (b"zTXt", b"a\0\0" + text)), "too large"),
        "profile bomb.png": (png(8, 8, (b"iCCP", b"a\0\0" + text)), "too large"),
        "few pixels.png": (png(8, 8)[:40], ""),
        "wrong crc.png": (png(8, 8)[:29] + b"abcd" + png(8, 8)[33:], ""),
        "cut.jpg": (jpeg[: len(jpeg) // 2], "runcated"),
        "65535 x 65535.jpg": (jpeg[:frame] + b"\xff" * 4 + jpeg[frame + 4 :], "bomb"),
        "cut.webp": (webp[: len(webp) // 2], ""),
        "cut.gif": (gif[: len(gif) // 2], ""),
        "60000 x 60000.gif": (gif[:6] + b"\x60\xea" * 2 + gif[10:], "bomb"),
        "cut.bmp": (bmp[: len(bmp) // 2], "runcated"),
        "huge.bmp": (bmp[:18] + struct.pack("<ii", 40_000, 40_000) + bmp[26:], "bomb"),
        "text.png": (b"I am no picture", "it is no PNG"),
        "script.png": (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n", "it is no PNG"),
        "page.png": (b"<svg xmlns='http://www.w3.org/2000/svg'/>", "it is no PNG"),
        "fax.png": (b"II*\x00\x08\x00\x00\x00\x00\x00", "it is no PNG"),
        "start.png": (b"\x89PNG\r\n\x1a\n", "it is no PNG"),
        "start.jpg": (b"\xff\xd8\xff", ""),
        "nothing.png": (b"", "it is no PNG"),
    }


def test_from_directory_refuses_hostile_pictures(tmp_path):
    folder = tmp_path / "set" / "class"
    folder.mkdir(parents=True)
    for name, (data, found) in pictures().items():
        path = folder / name
        path.write_bytes(data)
        with refused(path, found or path.name):
            from_directory(folder.parent)
        path.unlink()


@pytest.mark.skipif(sys.platform != "linux", reason="reads the memory of a process as Linux tells")
def test_from_directory_takes_little_memory_for_bombs(tmp_path):
    """Pillow's memory isn't Python's, so a process of its own looks at all it has taken."""
    folder = tmp_path / "set" / "class"
    folder.mkdir(parents=True)
    for name, (data, _) in pictures().items():
        (folder / name).write_bytes(data)
    script = """
import resource, sys
import PIL.Image
from minicnn.data.datasets import from_directory
from minicnn.data.errors import DatasetError
peak = lambda: resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
PIL.Image.preinit()
before = peak()
try:
    from_directory(sys.argv[1])
except DatasetError as error:
    print(len(str(error).splitlines()), (peak() - before) >> 10)
"""
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", script, str(folder.parent)],
        env={**os.environ, "PYTHONPATH": str(Path(module.__file__).parents[2])},
        capture_output=True,
        text=True,
        timeout=60,
    )
    lines, megabytes = map(int, done.stdout.split() or pytest.fail(done.stderr))
    assert lines == 1 + 20 + 1 + 1 and megabytes < 100
