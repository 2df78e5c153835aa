"""Archives made to do harm."""

from __future__ import annotations

import gzip
import hashlib
import io
import tarfile
from dataclasses import replace
from pathlib import Path

import pytest
from hostile import refused

from minicnn.data import cifar10 as module
from minicnn.data import cifar10_files as files
from minicnn.data.cifar10 import cifar10
from minicnn.data.cifar10_files import BATCHES, Copy

# Archives. Their checksum is looked at first: these stand for one that has the right checksum.


def tar(path: Path, *members: tuple[tarfile.TarInfo, bytes]) -> Path:
    with tarfile.open(path, "w:gz") as file:
        for info, data in members:
            file.addfile(info, io.BytesIO(data))
    return path


def info(
    name: str, size: int = 0, kind: bytes = tarfile.REGTYPE, link: str = ""
) -> tarfile.TarInfo:
    member = tarfile.TarInfo(name)
    member.size, member.type, member.linkname = size, kind, link
    return member


FIRST = f"cifar-10-batches-py/{BATCHES[0]}"

MEMBERS = {
    "symbolic link": info(FIRST, kind=tarfile.SYMTYPE, link="/etc/passwd"),
    "hard link": info(FIRST, kind=tarfile.LNKTYPE, link="../../etc/passwd"),
    "device": info(FIRST, kind=tarfile.CHRTYPE),
    "pipe": info(FIRST, kind=tarfile.FIFOTYPE),
    "folder": info(FIRST, kind=tarfile.DIRTYPE),
    "way up": info(f"../{FIRST}"),
    "way round": info(f"cifar-10-batches-py/../{FIRST}"),
    "absolute": info(f"/{FIRST}"),
}


def raw_tar(path: Path, header: bytes, data: bytes = b"") -> None:
    """Write a tar of one header, with its sum made right, and data."""
    body = header[:148] + b" " * 8 + header[156:512]
    header = header[:148] + b"%06o\0 " % sum(body) + header[156:]
    path.write_bytes(gzip.compress(header + data + bytes(1024)))


def header(**changes: bytes) -> bytes:
    """The header of the first member, with some fields as given."""
    places = {"size": 124, "type": 156}
    block = bytearray(info(FIRST, 61_000).tobuf(tarfile.GNU_FORMAT))
    for name, value in changes.items():
        block[places[name] : places[name] + len(value)] = value
    return bytes(block)


def official(path: Path) -> Copy:
    sha256 = hashlib.sha256(path.read_bytes()).hexdigest()
    return Copy(path, replace(module.PYTHON, size=path.stat().st_size, sha256=sha256))


@pytest.fixture
def archive(tmp_path):
    (tmp_path / "hostile").mkdir()
    return tmp_path / "hostile" / "bad.tar.gz"


@pytest.mark.parametrize("member", MEMBERS.values(), ids=MEMBERS)
def test_copy_takes_no_member_but_plain_files_of_its_name(small, archive, member):
    tar(archive, (member, b""))
    with refused(archive, f"lacks .*{FIRST}"):
        official(archive).read()


@pytest.mark.parametrize(
    "block, data, found",
    [
        (header(size=b"7" * 11), b"", "has 8,589,934,591 bytes, expected 31 million"),
        (header(size=b"\xff" * 12), b"", "can't be unpacked|lacks|no whole pickle"),  # -1
        (header(size=b"x" * 11), b"", "can't be unpacked|lacks"),
        (header(size=b"%011o\0" % 61_000), b"a" * 1024, "can't be unpacked|no whole|don't have"),
        (header(type=b"L", size=b"7" * 11), b"", "can't be unpacked|lacks"),
        (header(type=b"x", size=b"%011o\0" % 512), b"99 path=a\n" + bytes(502), "unpacked|lacks"),
        (header(type=b"S"), b"", "can't be unpacked|lacks"),
        (b"\xff" * 512, b"", "can't be unpacked|lacks"),
        (b"", b"", "can't be unpacked|lacks"),
    ],
    ids=[
        "huge",
        "negative",
        "no number",
        "short",
        "long name",
        "bad pax",
        "sparse",
        "noise",
        "none",
    ],
)
def test_copy_refuses_wrong_headers(small, archive, block, data, found):
    raw_tar(archive, block, data) if block else archive.write_bytes(gzip.compress(data))
    with refused(archive, found):
        official(archive).read()


def test_copy_refuses_a_chain_of_long_names(small, archive):
    one = info("a", 512, tarfile.GNUTYPE_LONGNAME).tobuf(tarfile.GNU_FORMAT) + bytes(512)
    archive.write_bytes(gzip.compress(one * 3000))
    with refused(archive, "can't be unpacked|lacks"):
        official(archive).read()


def test_copy_refuses_an_archive_that_unpacks_to_very_much(small, archive, monkeypatch):
    monkeypatch.setattr(files, "LARGEST_ARCHIVE", 1 << 20)
    for name in ("other", FIRST):
        tar(archive, (info(name, 4 << 20), bytes(4 << 20)))
        with refused(archive, "holds more than 1,048,576 bytes"):
            official(archive).read()


def test_copy_bounds_the_memory_of_a_long_name(small, archive, monkeypatch):
    monkeypatch.setattr(files, "LARGEST_ARCHIVE", 4 << 20)
    raw_tar(archive, header(type=b"L", size=b"7" * 11), bytes(16 << 20))
    with refused(archive, "holds more than"):
        official(archive).read()


def test_copy_refuses_a_damaged_gz(small, archive):
    whole = small.paths["python archive"].read_bytes()
    middle = len(whole) // 2
    for damaged in (
        whole[:middle],
        whole[:middle] + bytes(64) + whole[middle + 64 :],
        whole[:10],
        b"\x1f\x8b",
        b"<html>502 Bad Gateway</html>",
        gzip.decompress(whole)[:5000],
    ):
        archive.write_bytes(damaged)
        with refused(archive, "can't be unpacked|lacks|no whole pickle|don't have"):
            official(archive).read()


@pytest.mark.parametrize("kind", ["bomb", "text", "empty"])
def test_cifar10_looks_at_the_checksum_of_an_archive_first(small, archive, kind):
    path = archive.with_name("cifar-10-python.tar.gz")
    path.write_bytes({"bomb": gzip.compress(bytes(8 << 20)), "text": b"<html>", "empty": b""}[kind])
    with refused(path, r"has [\d,]+ bytes, expected [\d,]+ .*half a download"):
        cifar10(path)
