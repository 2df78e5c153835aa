"""Downloads that go on from what has arrived, and disks that are full."""

from __future__ import annotations

import errno
import io
import os
import shutil
from types import SimpleNamespace

import pytest
from downloads import BODY, SIZE, fetch, names

from minicnn.data import download as module
from minicnn.data import part as part_module
from minicnn.data.errors import DownloadError

# Going on from what has arrived.


@pytest.mark.parametrize(
    "known, asked",
    [
        ({"etag": '"a"'}, '"a"'),
        ({"modified": "Mon, 02 Nov 2026 10:00:00 GMT"}, "Mon, 02 Nov 2026 10:00:00 GMT"),
        ({"etag": 'W/"a"', "modified": "yesterday"}, "yesterday"),  # no weak one in If-Range
        ({}, ""),
    ],
)
def test_download_asks_only_for_missing_bytes(server, page, path, known, asked):
    url = server.url(page(BODY, cut=300_000, **known), page(BODY, **known))
    assert fetch(path, url).read_bytes() == BODY
    assert server.asked == [("/0", "", ""), ("/0", "bytes=300000-", asked)]


@pytest.mark.parametrize(
    "second",
    [{"etag": '"b"'}, {"etag": '"a"', "ranges": False}],
    ids=["changed etag", "ignored range"],
)
def test_download_begins_anew_when_it_must(server, page, path, second):
    url = server.url(page(bytes(SIZE), cut=300_000, etag='"a"'), page(BODY, **second))
    assert fetch(path, url).read_bytes() == BODY
    assert server.asked[1:] == [("/0", "bytes=300000-", '"a"')]


def test_download_goes_on_from_another_source(server, page, path):
    first = server.url(page(BODY, cut=300_000, etag='"a"'), page(status=404))
    assert fetch(path, first, server.url(page(BODY, etag='"b"'))).read_bytes() == BODY
    assert server.asked[1] == ("/1", "bytes=300000-", "")  # the validator is of the first


def test_download_drops_wrong_bytes_of_another_source(server, page, path):
    first = server.url(page(bytes(SIZE), cut=300_000))
    assert fetch(path, first, server.url(page(BODY))).read_bytes() == BODY
    assert server.hits == ["/0", "/1", "/1"] and server.ranges == ["", "bytes=300000-", ""]


@pytest.mark.parametrize("note", [None, b"", b"one line", b"\xff\xfe", b"a\nb\nc\n"])
def test_download_goes_on_without_a_right_note(server, page, path, part, note):
    if note is not None:
        path.with_name("file.part.source").write_bytes(note)
    assert fetch(path, server.url(page(BODY))).read_bytes() == BODY
    assert server.asked == [("/0", "bytes=1000-", "")] and names(path) == ["file"]


@pytest.mark.parametrize("left", [bytes(1000), bytes(SIZE), bytes(SIZE + 1), b""])
def test_download_recovers_from_a_bad_part(server, page, path, part, left):
    part.write_bytes(left)
    assert fetch(path, server.url(page(BODY))).read_bytes() == BODY
    assert names(path) == ["file"]


@pytest.mark.parametrize(
    "answer, reason",
    [
        ({"content_range": "bytes 0-767999/768000"}, "it offers bytes 0-767999/768000, expected"),
        ({"content_range": "bytes 1000-5/6"}, "expected bytes 1000-767999/768000"),
        ({"content_range": "all"}, "it offers all"),
        ({"status": 416}, "HTTP 416"),
    ],
)
def test_download_refuses_a_wrong_range(server, page, path, part, answer, reason):
    with pytest.raises(DownloadError, match=reason):
        fetch(path, server.url(page(BODY, **answer)))
    assert part.read_bytes() == BODY[:1000] and not path.exists()


# The disk.


def test_download_names_what_cannot_be_written(server, page, path, part):
    part.unlink()
    part.mkdir()
    with pytest.raises(DownloadError, match=r"file\.part can't be written"):
        fetch(path, server.url(page(BODY)))


def test_download_names_a_folder_that_cannot_be_made(tmp_path):
    (tmp_path / "there").write_text("a file")
    with pytest.raises(DownloadError, match=r"there can't be written: (File exists|Not a dir)"):
        fetch(tmp_path / "there" / "file")


def test_download_checks_the_free_space_first(no_socket, path, part, monkeypatch):
    monkeypatch.setattr(shutil, "disk_usage", lambda folder: SimpleNamespace(free=1234))
    needed = SIZE - 1000 + module.MARGIN
    with pytest.raises(DownloadError, match=f"1,234 bytes free, but file needs {needed:,}"):
        fetch(path, "http://127.0.0.1/")
    assert names(path) == ["file.part"]


class FullDisk(io.FileIO):
    """A file on a disk that has room for 300,000 bytes."""

    def write(self, data):
        room = 300_000 - self.tell()
        if room <= 0:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return super().write(memoryview(data)[:room])


def test_download_keeps_what_a_full_disk_took(server, page, path, monkeypatch):
    url = server.url(page(BODY, etag='"a"'))
    with monkeypatch.context() as patch:
        patch.setattr(
            part_module,
            "open",
            lambda path, mode: io.BufferedWriter(FullDisk(path, mode)),
            raising=False,
        )
        with pytest.raises(DownloadError, match=r"file\.part can't be written: No space"):
            fetch(path, url)
    assert names(path) == ["file.part", "file.part.source"]
    assert fetch(path, url).read_bytes() == BODY
    assert server.asked[1] == ("/0", "bytes=300000-", '"a"')
