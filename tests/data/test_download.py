from __future__ import annotations

import io
import os
import re
import sys
import time

import pytest
from downloads import BODY, QUICK, SHA256, SIZE, fetch, names

from minicnn.data import transfer as transfer_module
from minicnn.data.download import download
from minicnn.data.errors import DownloadError


def test_download_writes_the_file(server, page, path, capsys):
    assert fetch(path, server.url(page(BODY))) == path
    assert path.read_bytes() == BODY and names(path) == ["file"]
    assert capsys.readouterr().err == ""  # no bar where nobody looks


class Terminal(io.StringIO):
    def isatty(self):
        return True


@pytest.mark.parametrize("progress", [True, False])
def test_download_shows_rate_and_time_left(server, page, path, part, monkeypatch, progress):
    monkeypatch.setattr("sys.stderr", Terminal())
    url = server.url(page(BODY, rate=1.5e6, ranges=False))  # goes back to the first byte
    download([url], path, SIZE, SHA256, progress, QUICK)
    shown = sys.stderr.getvalue()
    assert bool(shown) == progress
    if progress:
        assert re.search(r"file: +\d+%.*\d+k/768k \[00:00<00:00, [\d.]+[kM]B/s\]", shown)


def test_download_makes_it_safe_on_the_disk(server, page, path, monkeypatch):
    synced = []
    monkeypatch.setattr(os, "fsync", lambda fd: synced.append(os.fstat(fd).st_ino))
    fetch(path, server.url(page(BODY)))
    assert synced == [path.stat().st_ino, path.parent.stat().st_ino]


def test_download_needs_no_content_length(server, page, path):
    assert fetch(path, server.url(page(BODY, length=None))).read_bytes() == BODY


def test_download_asks_nobody_for_what_is_there(server, page, path):
    url = server.url(page(BODY))
    fetch(path, url)
    path.rename(path.with_name("file.part"))  # as if killed before the last step
    assert fetch(path, url).read_bytes() == BODY
    assert fetch(path, url) == path and server.hits == ["/0"]


# Every way in which a source can fail.

BAD = {
    "404": ({"status": 404}, "HTTP 404 Not Found"),
    "503": ({"status": 503}, r"HTTP 503 Service Unavailable \(2 times\)"),
    "204": ({"status": 204}, "HTTP 204"),
    "a page of text": ({"body": b"<html>"}, r"it offers 6 bytes \(unknown type, HTTP 200\), exp"),
    "a page of any length": (
        {"body": b"<html>", "length": None, "headers": {"Content-Type": "text/html"}},
        r"\(text/html, HTTP 200\), expected 768000",
    ),
    "wrong length": ({"body": BODY[:-1]}, "it offers 767999 bytes"),
    "cut": ({"body": BODY, "cut": 1000}, "it ended after 1,000 bytes, expected 768,000"),
    "short": ({"body": BODY[:1000], "length": None}, "it ended after 1,000 bytes"),
    "long": ({"body": BODY + b"!", "length": None}, "it gives more than the 768,000 bytes"),
    "wrong bytes": ({"body": BODY[:-1] + b"!"}, f"SHA-256 [0-9a-f]{{64}}, expected {SHA256}"),
    "late": ({"body": BODY, "wait": 1.0}, r"[Tt]imed? ?out"),
    "stall": ({"body": BODY, "stall": 1000}, r"[Tt]imed? ?out"),
    "loop": ({"status": 302, "headers": {"Location": "/0"}}, "HTTP 302 .*infinite loop"),
    "nowhere": ({"status": 302}, "HTTP 302"),
    "to a file": ({"status": 302, "headers": {"Location": "file:///etc/passwd"}}, "not allowed"),
    "to ftp": ({"status": 302, "headers": {"Location": "ftp://127.0.0.1/"}}, "isn't followed"),
    "nonsense": ({"headers": {"Content-Length": "many"}}, "it offers many bytes"),
}


@pytest.mark.parametrize("answer, reason", BAD.values(), ids=BAD)
def test_download_never_leaves_a_bad_file(server, page, path, answer, reason):
    with pytest.raises(DownloadError, match=reason) as caught:
        fetch(path, server.url(page(**answer)))
    assert names(path) in ([], ["file.part", "file.part.source"])
    if names(path):
        left = path.with_name("file.part").read_bytes()
        assert f"{len(left):,} bytes are kept at" in str(caught.value)
        assert 1000 <= len(left) < SIZE and BODY.startswith(left)


@pytest.mark.parametrize("answer", [answer for answer, _ in BAD.values()], ids=BAD)
def test_download_goes_on_to_the_next_mirror(server, page, path, answer, capsys):
    urls = server.url(page(**answer)), server.url(page(BODY))
    assert fetch(path, *urls).read_bytes() == BODY
    assert names(path) == ["file"]
    assert server.hits[-1] == "/1" and set(server.hits[:-1]) == {"/0"}
    assert capsys.readouterr().err.startswith("file: 127.0.0.1: ")


def test_download_tries_again_after_a_pause(server, page, path):
    url = server.url(page(status=503), page(status=429), page(BODY))
    start = time.monotonic()
    assert fetch(path, url, tries=3, pause=0.1).read_bytes() == BODY
    assert 0.3 <= time.monotonic() - start < 2


def test_download_asks_no_source_again_that_refused(server, page, path):
    urls = server.url(page(status=404)), server.url(page(bytes(SIZE)))
    with pytest.raises(DownloadError):
        fetch(path, *urls)
    assert server.hits == ["/0", "/1"]


def test_download_keeps_the_old_file_when_it_fails(server, page, tmp_path):
    path = tmp_path / "file"
    path.write_bytes(b"old")
    with pytest.raises(DownloadError):
        fetch(path, server.url(page(status=500)))
    assert path.read_bytes() == b"old"


def test_download_lists_each_source_with_its_reason(server, page, path):
    urls = server.url(page(status=404)), "http://127.0.0.1:1/closed", "no address", "file:///etc"
    with pytest.raises(DownloadError) as caught:
        fetch(path, *urls)
    lines = str(caught.value).splitlines()
    assert [line.strip().split(": ")[0] for line in lines[1:5]] == list(urls)
    assert "404" in lines[1] and "refused" in lines[2]
    assert "unknown url type" in lines[3] and "unknown url type" in lines[4]
    assert SHA256 in lines[5] and "768,000" in lines[5] and str(path) in lines[5]


def test_download_reads_no_body_of_a_redirection(server, page, path):
    end = server.url(page(BODY))
    start = server.url(page(bytes(100), 302, stall=10, headers={"Location": end}))
    assert fetch(path, start).read_bytes() == BODY
    assert server.hits == ["/1", "/0"]


# Slow sources.


def test_download_leaves_a_source_that_crawls(server, page, path, capsys):
    crawl, good = page(BODY, rate=5e4), page(BODY)
    assert fetch(path, server.url(crawl), server.url(good)).read_bytes() == BODY
    assert server.hits == ["/0", "/1"]
    assert "it crawls:" in capsys.readouterr().err
    assert int(server.ranges[1].removeprefix("bytes=").rstrip("-")) > 0  # goes on from there


def test_download_takes_the_best_of_sources_that_crawl(server, page, path):
    urls = [server.url(page(BODY, rate=rate)) for rate in (2e5, 8e5, 1e5)]
    urls.append(server.url(page(status=404)))
    assert fetch(path, *urls).read_bytes() == BODY
    assert server.hits == ["/0", "/1", "/2", "/3", "/1"]


def test_download_is_patient_with_a_single_source(server, page, path):
    assert fetch(path, server.url(page(BODY, rate=9e5))).read_bytes() == BODY
    assert server.hits == ["/0"]


# Time-outs.


def test_download_has_two_timeouts(server, page, path, monkeypatch):
    seen = []

    class Connection(transfer_module.Connection):
        def connect(self):
            super().connect()
            seen.append((self.timeout, self.sock.gettimeout()))

    monkeypatch.setattr(transfer_module, "Connection", Connection)
    fetch(path, server.url(page(BODY)), connect=7, stall=11)
    assert seen == [(7, 11)]
