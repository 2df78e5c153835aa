"""Small CIFAR-10 files in their real formats, a local web server, and no other network."""

from __future__ import annotations

import hashlib
import importlib.util
import socket
import struct
import tarfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from downloads import BODY
from webserver import Page, Server, running

from minicnn.data import cifar10 as module
from minicnn.data import cifar10_files as files

PER_FILE = 20


@pytest.fixture(
    params=[
        "numpy",
        pytest.param(
            "cupy",
            marks=[
                pytest.mark.gpu,
                pytest.mark.skipif(not importlib.util.find_spec("cupy"), reason="no CuPy here"),
            ],
        ),
    ]
)
def xp(request: pytest.FixtureRequest) -> Any:
    return importlib.import_module(request.param)


@pytest.fixture(autouse=True)
def alone(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Hide this machine's copies of CIFAR-10 and everything but its own loopback."""
    for name in ("MINICNN_HOME", "MINICNN_OFFLINE", "MINICNN_CIFAR10_URL", "KERAS_HOME"):
        monkeypatch.delenv(name, raising=False)
    for name in ("HOME", "USERPROFILE"):
        monkeypatch.setenv(name, str(tmp_path / "home"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "home" / "cache"))
    monkeypatch.setenv("no_proxy", "*")
    (tmp_path / "work").mkdir()
    monkeypatch.chdir(tmp_path / "work")

    connect = socket.socket.connect

    def local_only(self: socket.socket, address: Any) -> None:
        if address[0] != "127.0.0.1":
            pytest.fail(f"a test tried to reach {address}")
        connect(self, address)

    monkeypatch.setattr(socket.socket, "connect", local_only)


@pytest.fixture
def no_socket(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let nothing open a socket or look up a name."""

    def refuse(*args: Any, **options: Any) -> None:
        pytest.fail("a socket was opened")

    monkeypatch.setattr(socket, "socket", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)


# Pickles as Python 2 wrote them (protocol 2), put together from their opcodes.


def integer(value: int) -> bytes:
    return b"J" + struct.pack("<i", value)


def string(value: bytes) -> bytes:
    return b"T" + struct.pack("<i", len(value)) + value


def several(*items: bytes) -> bytes:
    return b"(" + b"".join(items) + b"t"


def call(module_name: str, name: str, *arguments: bytes) -> bytes:
    return f"c{module_name}\n{name}\n".encode() + several(*arguments) + b"R"


def array(x: np.ndarray, code: bytes = b"u1", numpy_core: str = "numpy.core") -> bytes:
    start = call(
        f"{numpy_core}.multiarray",
        "_reconstruct",
        b"cnumpy\nndarray\n",
        several(integer(0)),
        string(b"b"),
    )
    dtype = call("numpy", "dtype", string(code), integer(0), integer(1))
    dtype += several(integer(3), string(b"|"), b"N", b"N", b"N", *map(integer, (-1, -1, 0))) + b"b"
    shape = several(*map(integer, x.shape))
    return start + several(integer(1), shape, dtype, b"\x89", string(x.tobytes())) + b"b"


def batch(**parts: bytes) -> bytes:
    """A pickled dictionary of parts that are pickled already."""
    pairs = b"".join(string(name.encode()) + part for name, part in parts.items())
    return b"\x80\x02(" + pairs + b"d."


def labels(values: list[int]) -> bytes:
    return b"(" + b"".join(map(integer, values)) + b"l"


@dataclass
class Small:
    """CIFAR-10 with 20 pictures in a file: the arrays, and its files in all four layouts."""

    root: Path
    pixels: np.ndarray  # uint8 (6, 20, 3072)
    labels: np.ndarray  # int64 (6, 20)
    paths: dict[str, Path] = field(default_factory=dict)

    @property
    def x(self) -> np.ndarray:
        """Written out by hand: the byte of channel c at (h, w) is number 1024 c + 32 h + w."""
        x = np.empty((6, PER_FILE, 32, 32, 3), dtype=np.uint8)
        for h in range(32):
            for w in range(32):
                x[:, :, h, w] = self.pixels[
                    :, :, [32 * h + w, 1024 + 32 * h + w, 2048 + 32 * h + w]
                ]
        return x


@pytest.fixture
def small(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Small:
    """Write four small copies and let the package take them for the official ones."""
    rng = np.random.default_rng(7)
    data = Small(
        tmp_path,
        rng.integers(0, 256, (6, PER_FILE, 3072), dtype=np.uint8),
        rng.integers(0, 10, (6, PER_FILE)),
    )
    python, binary = {}, {}
    for name, pixels, values in zip(files.BATCHES, data.pixels, data.labels, strict=True):
        python[name] = batch(
            batch_label=string(b"a batch"),
            labels=labels(values.tolist()),
            data=array(pixels),
            filenames=b"(" + b"".join(string(b"%d.png" % k) for k in range(PER_FILE)) + b"l",
        )
        rows = np.concatenate([values[:, None].astype(np.uint8), pixels], axis=1)
        binary[f"{name}.bin"] = rows.tobytes()

    layouts = {}
    for key, layout, contents in (
        ("python", files.PYTHON, python),
        ("binary", files.BINARY, binary),
    ):
        folder = tmp_path / f"{key} folder" / layout.folder
        folder.mkdir(parents=True)
        for name, content in contents.items():
            (folder / name).write_bytes(content)
        (folder / "readme.html").write_text("read me")
        archive = tmp_path / f"{key} archive" / layout.archive
        archive.parent.mkdir()
        with tarfile.open(archive, "w:gz") as tar:
            for path in sorted(folder.iterdir(), reverse=True):  # in no useful order, as in truth
                tar.add(path, f"{layout.folder}/{path.name}")
        data.paths[f"{key} folder"], data.paths[f"{key} archive"] = folder, archive
        layouts[key] = replace(
            layout,
            size=archive.stat().st_size,
            sha256=hashlib.sha256(archive.read_bytes()).hexdigest(),
            members={
                name: layout.members[name] and hashlib.md5(content).hexdigest()
                for name, content in contents.items()
            },
        )
    monkeypatch.setattr(files, "PER_FILE", PER_FILE)
    monkeypatch.setattr(module, "PYTHON", layouts["python"])
    monkeypatch.setattr(module, "BINARY", layouts["binary"])
    monkeypatch.setattr(module, "LAYOUTS", (layouts["binary"], layouts["python"]))
    return data


@pytest.fixture
def server() -> Iterator[Server]:
    with running() as server:
        yield server


@pytest.fixture
def path(tmp_path):
    return tmp_path / "there" / "file"


@pytest.fixture
def part(path):
    """What a download that was cut has left: 1000 right bytes, with no note."""
    path.parent.mkdir()
    part = path.with_name("file.part")
    part.write_bytes(BODY[:1000])
    return part


@pytest.fixture
def page() -> Callable[..., Page]:
    return Page


@pytest.fixture
def pickled() -> Any:
    """The writers of pickles, as one object."""
    from types import SimpleNamespace

    return SimpleNamespace(
        integer=integer, string=string, call=call, array=array, batch=batch, labels=labels
    )
