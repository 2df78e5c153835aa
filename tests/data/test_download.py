from __future__ import annotations

import hashlib
from pathlib import Path

import pytest

from minicnn.data import download as module
from minicnn.data.download import download
from minicnn.data.errors import DownloadError

BODY = bytes(range(256)) * 3000
SHA256 = hashlib.sha256(BODY).hexdigest()


def fetch(path: Path, *urls: str) -> Path:
    return download(urls, path, len(BODY), SHA256)


def test_download_writes_the_file(server, page, tmp_path, capsys):
    path = tmp_path / "new" / "folder" / "file.bin"
    assert fetch(path, server.url(page(BODY))) == path
    assert path.read_bytes() == BODY
    assert list(path.parent.iterdir()) == [path]
    assert capsys.readouterr().err == ""  # no bar where nobody looks


def test_download_needs_no_content_length(server, page, tmp_path):
    assert fetch(tmp_path / "file", server.url(page(BODY, length=None))).read_bytes() == BODY


def test_download_goes_on_to_the_next_mirror(server, page, tmp_path):
    bad, wrong = server.url(page(b"gone", status=404)), server.url(page(bytes(len(BODY))))
    path = fetch(tmp_path / "file", bad, wrong, server.url(page(BODY)))
    assert path.read_bytes() == BODY
    assert server.hits == ["/0", "/1", "/2"]


@pytest.mark.parametrize(
    "answer, reason",
    [
        ({"body": BODY[:-1] + b"!"}, f"other bytes: SHA-256 [0-9a-f]{{64}}, expected {SHA256}"),
        ({"body": b"<html>"}, r"it offers 6 bytes \(unknown type\), expected 768000"),
        ({"body": BODY[:1000], "length": len(BODY)}, "ended after 1,000 bytes|IncompleteRead"),
        ({"body": BODY[:1000], "length": None}, "ended after 1,000 bytes, expected 768,000"),
        ({"body": BODY + b"!", "length": None}, "gives more than the 768,000 bytes"),
        ({"body": b"", "status": 503}, "HTTP 503"),
        ({"body": BODY, "wait": 1.0}, "timed out"),
    ],
)
def test_download_never_leaves_a_bad_file(server, page, tmp_path, monkeypatch, answer, reason):
    monkeypatch.setattr(module, "TIMEOUT", 0.3)
    with pytest.raises(DownloadError, match=reason):
        fetch(tmp_path / "there" / "file", server.url(page(**answer)))
    assert list((tmp_path / "there").iterdir()) == []


def test_download_keeps_the_old_file_when_it_fails(server, page, tmp_path):
    path = tmp_path / "file"
    path.write_bytes(b"old")
    with pytest.raises(DownloadError):
        fetch(path, server.url(page(b"", status=500)))
    assert path.read_bytes() == b"old"


def test_download_lists_each_source_with_its_reason(server, page, tmp_path):
    urls = server.url(page(b"", status=404)), "http://127.0.0.1:1/closed", "not an address"
    with pytest.raises(DownloadError) as caught:
        fetch(tmp_path / "file", *urls)
    lines = str(caught.value).splitlines()
    assert [line.strip().split(": ")[0] for line in lines[1:4]] == list(urls)
    assert "404" in lines[1] and "refused" in lines[2] and "unknown url type" in lines[3]
    assert SHA256 in lines[4] and str(tmp_path / "file") in lines[4]


def test_download_blames_no_source_for_the_disk(server, page, tmp_path):
    (tmp_path / "file.part").mkdir()  # can't be opened for writing
    with pytest.raises(OSError, match=r"file\.part"):
        fetch(tmp_path / "file", server.url(page(BODY)))
