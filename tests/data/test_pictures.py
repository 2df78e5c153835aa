"""`read_picture` on files of all kinds; more of it is in test_folder.py."""

from __future__ import annotations

import io
import time
import tracemalloc

import numpy as np
import picture_files as files
import pytest

Image = pytest.importorskip("PIL.Image")

from minicnn.data import pictures as module  # noqa: E402
from minicnn.data.errors import DatasetError  # noqa: E402
from minicnn.data.pictures import read_picture  # noqa: E402

GOOD, BAD = files.good(), files.bad()


@pytest.mark.parametrize("name", GOOD)
def test_read_picture_gives_colours_and_sides(name):
    data, colours, off = GOOD[name]
    x = read_picture(io.BytesIO(data))
    assert x.shape == (32, 32, 3) and x.dtype == np.uint8
    assert abs(files.quarters(x) - colours).max() <= off


@pytest.mark.parametrize("name", GOOD)
def test_read_picture_makes_grey_ones(name):
    data, colours, off = GOOD[name]
    x = read_picture(io.BytesIO(data), (16, 24), channels=1)
    assert x.shape == (16, 24, 1) and x.dtype == np.uint8
    levels = np.array([files.grey(c)[:1] for c in colours])
    assert abs(files.quarters(x) - levels).max() <= off + 1


@pytest.mark.parametrize("name", BAD)
def test_read_picture_says_what_is_wrong(name):
    data, wanted = BAD[name]
    tracemalloc.start()
    start = time.process_time()
    try:
        with pytest.raises(DatasetError) as caught:
            read_picture(io.BytesIO(data))
        assert tracemalloc.get_traced_memory()[1] < 3 * len(data) + (8 << 20)
    finally:
        tracemalloc.stop()
    said = str(caught.value)
    assert wanted in said and "\n" not in said and 5 < len(said) < 300
    assert time.process_time() - start < 1


def test_read_picture_allows_as_many_scans_as_it_says():
    ten = files.scans(0).count(b"\xff\xda")
    x = read_picture(io.BytesIO(files.scans(module.SCANS - ten)))
    assert abs(x.mean((0, 1)) - files.RED).max() < 6
    with pytest.raises(DatasetError, match="more than 100 scans"):
        read_picture(io.BytesIO(files.scans(module.SCANS - ten + 1)))


def test_read_picture_asks_for_no_more_pixels_than_allowed():
    data = files.encoded(Image.new("RGB", (30, 20)), "PNG")
    assert read_picture(io.BytesIO(data), largest=600).shape == (32, 32, 3)
    with pytest.raises(DatasetError, match="30 x 20 pixels, expected at most 599 in all"):
        read_picture(io.BytesIO(data), largest=599)


def test_read_picture_reads_no_giant_file(tmp_path):
    """A file with a hole in it: it takes no room on the disk, and would take all memory."""
    path = tmp_path / "giant.webp"
    path.write_bytes(files.encoded(Image.new("RGB", (8, 8)), "WEBP"))
    with path.open("r+b") as file:
        file.truncate(module.HEAVIEST + 1)
    tracemalloc.start()
    with pytest.raises(DatasetError, match="it has more than 256 MiB"):
        read_picture(path)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 1 << 20


class Pipe(io.RawIOBase):
    """What can be read once, without going back."""

    def __init__(self, data):
        self.data = io.BytesIO(data)

    def readable(self):
        return True

    def read(self, size=-1):
        return self.data.read(size)


def test_read_picture_takes_what_comes_through_a_pipe():
    data, colours, off = GOOD["plain.jpg"]
    assert abs(files.quarters(read_picture(Pipe(data))) - colours).max() <= off


def test_read_picture_refuses_other_channels():
    with pytest.raises(ValueError, match="channels 4: expected 3, or 1 for grey"):
        read_picture(io.BytesIO(GOOD["rgb.png"][0]), channels=4)


def test_jpeg_of_millions_of_markers_takes_little_time():
    flood = io.BytesIO(b"\xff\xd8" + b"\xff\x01" * 2_500_000)  # 01 has no length
    started = time.process_time()
    with pytest.raises(DatasetError):
        read_picture(flood)
    assert time.process_time() - started < 1


def test_picture_is_turned_without_reading_its_other_exif_data():
    exif = Image.Exif()
    exif[0x0112], exif[0xC000] = 6, tuple(range(1, 30_000)) * 10
    page = io.BytesIO()
    wide = Image.fromarray(np.repeat(np.uint8([[[250, 0, 0], [0, 0, 250]]]), 16, axis=1))
    wide.resize((32, 32)).save(page, "PNG", exif=exif)
    tracemalloc.start()
    x = read_picture(page)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 6e6 and x[2, 16, 0] > 200 and x[29, 16, 2] > 200
