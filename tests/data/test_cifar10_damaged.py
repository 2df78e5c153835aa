"""Copies of CIFAR-10 that are damaged, and what its pickles may and may not do."""

from __future__ import annotations

import hashlib
import pickle
import tarfile
from dataclasses import replace

import numpy as np
import pytest

from minicnn.data import cifar10 as module
from minicnn.data.cifar10 import cifar10
from minicnn.data.cifar10_files import BATCHES, Copy
from minicnn.data.cifar10_pickle import load_batch
from minicnn.data.errors import DatasetError

# Damaged copies.


def damaged(pickled, small, kind: str) -> bytes:
    """The bytes of a batch file with one thing wrong."""
    pixels, labels = small.pixels[2], small.labels[2].tolist()
    good = {"data": pickled.array(pixels), "labels": pickled.labels(labels)}
    whole = pickled.batch(**good)
    return {
        "empty": b"",
        "no pickle": b"<html>502 Bad Gateway</html>",
        "cut at the end": whole[:-1],
        "cut in the middle": whole[: len(whole) // 2],
        "no dictionary": b"\x80\x02" + pickled.labels(labels) + b".",
        "no labels": pickled.batch(data=good["data"]),
        "pixels are a list": pickled.batch(data=good["labels"], labels=good["labels"]),
        "no state": pickled.batch(labels=good["labels"], data=pickled.call("numpy", "ndarray")),
        "short array": pickled.batch(data=pickled.array(pixels[1:]), labels=good["labels"]),
        "wide array": pickled.batch(
            data=pickled.array(np.repeat(pixels, 2, 1)), labels=good["labels"]
        ),
        "floats": pickled.batch(data=pickled.array(pixels, b"f8"), labels=good["labels"]),
        "objects": pickled.batch(data=pickled.array(pixels, b"O8"), labels=good["labels"]),
        "label 10": pickled.batch(data=good["data"], labels=pickled.labels([10] + labels[1:])),
        "label -1": pickled.batch(data=good["data"], labels=pickled.labels([-1] + labels[1:])),
        "few labels": pickled.batch(data=good["data"], labels=pickled.labels(labels[1:])),
        "text labels": pickled.batch(
            data=good["data"], labels=b"(" + pickled.string(b"3") * len(labels) + b"l"
        ),
    }[kind]


@pytest.mark.parametrize(
    "kind, found",
    [
        ("empty", "no whole pickle"),
        ("no pickle", "its byte 0 is 0x3c, an instruction that CIFAR-10's pickles don't have"),
        ("cut at the end", "no whole pickle"),
        ("cut in the middle", "no whole pickle"),
        ("no dictionary", "it holds list, expected a dictionary"),
        ("no labels", r"it holds \[b'data'\], expected"),
        ("pixels are a list", "data is a list"),
        ("no state", "can't be put together"),
        ("short array", r"its array is \(19, 3072\), expected \(20, 3072\)"),
        ("wide array", r"its array is \(20, 6144\), expected \(20, 3072\)"),
        ("floats", "type b'f8', expected 'u1'"),
        ("objects", "type b'O8', expected 'u1'"),
        ("label 10", "labels go from . to 10, expected 0 to 9"),
        ("label -1", "labels go from -1 to ., expected 0 to 9"),
        ("few labels", "19 labels, expected 20 integers"),
        ("text labels", "20 labels, expected 20 integers"),
    ],
)
def test_cifar10_names_what_is_wrong_with_a_batch(small, pickled, kind, found):
    path = small.paths["python folder"] / "data_batch_3"
    path.write_bytes(damaged(pickled, small, kind))
    with pytest.raises(DatasetError, match=found) as caught:
        cifar10(path.parent)
    assert str(path) in str(caught.value) and "minicnn data fetch" in str(caught.value)


@pytest.mark.parametrize("layout", ["python folder", "binary folder"])
def test_cifar10_names_a_missing_file(small, layout):
    path = sorted(small.paths[layout].glob("data_batch_*"))[3]
    path.unlink()
    with pytest.raises(DatasetError, match=r"data_batch_4.* can't be read \(No such file"):
        cifar10(path.parent)


def test_cifar10_names_a_binary_file_of_wrong_size(small):
    path = small.paths["binary folder"] / "test_batch.bin"
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(
        DatasetError, match=r"test_batch\.bin: it has 61,459 bytes, expected 61,460"
    ):
        cifar10(path.parent)


def test_cifar10_names_a_binary_label_out_of_range(small):
    path = small.paths["binary folder"] / "test_batch.bin"
    path.write_bytes(b"\x0a" + path.read_bytes()[1:])
    with pytest.raises(DatasetError, match="to 10, expected 0 to 9"):
        cifar10(path.parent)


def test_cifar10_reads_no_huge_file(small):
    path = small.paths["python folder"] / "data_batch_1"
    with open(path, "wb") as file:
        file.truncate(1 << 40)  # a hole: takes no room on the disk
    with pytest.raises(DatasetError, match=r"1,099,511,627,776 bytes, expected 31 million"):
        cifar10(path.parent)


@pytest.mark.parametrize("layout", ["python archive", "binary archive"])
def test_cifar10_names_a_damaged_archive(small, layout):
    path = small.paths[layout]
    data = path.read_bytes()
    path.write_bytes(data[:1000])
    with pytest.raises(DatasetError, match=f"has 1,000 bytes, expected {len(data):,}"):
        cifar10(path.parent)
    changed = data[:1000] + bytes([data[1000] ^ 1]) + data[1001:]
    path.write_bytes(changed)
    got, expected = (hashlib.sha256(d).hexdigest() for d in (changed, data))
    with pytest.raises(DatasetError, match=f"has SHA-256 {got}, expected {expected}"):
        cifar10(path.parent)


def pretend_official(path):
    """A copy whose archive has the right checksum, whatever is in it."""
    sha256 = hashlib.sha256(path.read_bytes()).hexdigest()
    return Copy(path, replace(module.PYTHON, size=path.stat().st_size, sha256=sha256))


def test_copy_takes_only_plain_files_from_an_archive(small):
    path = small.root / "links.tar.gz"
    with tarfile.open(path, "w:gz") as tar:
        for name in BATCHES[1:]:
            tar.add(small.paths["python folder"] / name, f"cifar-10-batches-py/{name}")
        link = tarfile.TarInfo("cifar-10-batches-py/data_batch_1")
        link.type, link.linkname = tarfile.SYMTYPE, str(small.paths["python folder"] / BATCHES[0])
        tar.addfile(link)
    with pytest.raises(
        DatasetError, match=r"links\.tar\.gz lacks cifar-10-batches-py/data_batch_1"
    ):
        pretend_official(path).read()


def test_copy_names_an_archive_that_is_cut(small):
    path = small.root / "cut.tar.gz"
    path.write_bytes(small.paths["python archive"].read_bytes()[:20_000])
    with pytest.raises(DatasetError, match=r"cut\.tar\.gz can't be unpacked"):
        pretend_official(path).read()


# Pickles.


def test_load_batch_equals_pickle(small):
    data = (small.paths["python folder"] / "data_batch_1").read_bytes()
    expected = pickle.loads(data, encoding="bytes")
    pixels, labels = load_batch(data)
    np.testing.assert_array_equal(pixels, expected[b"data"])
    assert labels == expected[b"labels"]


def test_load_batch_knows_the_new_name_of_numpy_core(pickled):
    x = np.arange(6, dtype=np.uint8).reshape(2, 3)
    data = pickled.batch(
        data=pickled.array(x, numpy_core="numpy._core"), labels=pickled.labels([1])
    )
    np.testing.assert_array_equal(load_batch(data)[0], x)


@pytest.mark.parametrize(
    "module_name, name",
    [
        ("os", "system"),
        ("posix", "system"),
        ("__builtin__", "eval"),  # Python 2's name, which pickle would translate
        ("builtins", "exec"),
        ("numpy", "load"),
        ("numpy.core.multiarray", "fromfile"),
        ("_codecs", "encode"),
    ],
)
def test_load_batch_runs_nothing(pickled, tmp_path, module_name, name):
    trace = tmp_path / "trace"
    command = f"touch {trace}" if name == "system" else f"open({str(trace)!r}, 'w')"
    attack = pickled.call(module_name, name, pickled.string(command.encode()))
    with pytest.raises(DatasetError, match=f"asks for .*{name}.*was not run"):
        load_batch(pickled.batch(labels=pickled.labels([1]), data=attack))
    assert not trace.exists()
