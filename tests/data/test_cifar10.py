from __future__ import annotations

import os
from dataclasses import replace

import numpy as np
import pytest

from minicnn.data import cifar10 as module
from minicnn.data.cifar10 import CLASSES, cifar10, describe, fetch, places
from minicnn.data.cifar10_files import BATCHES
from minicnn.data.errors import DatasetNotFound, DatasetWarning

LAYOUTS = ["python folder", "python archive", "binary folder", "binary archive"]


@pytest.mark.parametrize("layout", LAYOUTS)
def test_cifar10_is_the_same_from_every_layout(small, layout):
    (x_train, y_train), (x_test, y_test) = cifar10(small.paths[layout].parent)
    np.testing.assert_array_equal(x_train, small.x[:5].reshape(100, 32, 32, 3))
    np.testing.assert_array_equal(x_test, small.x[5])
    np.testing.assert_array_equal(y_train, small.labels[:5].ravel())
    np.testing.assert_array_equal(y_test, small.labels[5])
    for x, y in ((x_train, y_train), (x_test, y_test)):
        assert x.dtype == np.uint8 and x.flags.c_contiguous
        assert y.dtype == np.int64 and y.ndim == 1


@pytest.mark.parametrize("layout", LAYOUTS)
def test_cifar10_takes_the_path_of_the_copy_itself(small, layout):
    (x_train, _), _ = cifar10(str(small.paths[layout]))
    np.testing.assert_array_equal(x_train, small.x[:5].reshape(100, 32, 32, 3))


def test_cifar10_writes_nothing(small):
    before = sorted(small.root.rglob("*"))
    cifar10(small.paths["python archive"])
    assert sorted(small.root.rglob("*")) == before


def test_classes_are_ten():
    assert len(set(CLASSES)) == 10


@pytest.mark.parametrize(
    "place",
    [
        "home/cache/minicnn/datasets",
        "work/data",
        "home/.keras/datasets",
        "home/.keras/datasets/cifar-10-batches-py",
        "home/.keras/datasets/cifar-10-batches-py-target",
        "home/data",
    ],
)
def test_cifar10_finds_a_folder_in_the_usual_places(small, no_socket, place):
    folder = small.root / place / "cifar-10-batches-py"
    folder.parent.mkdir(parents=True)
    small.paths["python folder"].rename(folder)
    assert fetch().samefile(folder)


@pytest.mark.parametrize(
    "name",
    ["cifar-10-python.tar.gz", "cifar-10-batches-py.tar.gz", "cifar-10-batches-py-target_archive"],
)
def test_cifar10_finds_an_archive_of_keras(small, no_socket, monkeypatch, name):
    monkeypatch.setenv("KERAS_HOME", str(small.root / "keras"))
    path = small.root / "keras" / "datasets" / name
    path.parent.mkdir(parents=True)
    small.paths["python archive"].rename(path)
    assert fetch() == path


def test_cifar10_looks_only_in_data_dir(small, no_socket):
    (small.root / "empty").mkdir()
    os.symlink(small.paths["python folder"].parent, "data")
    with pytest.raises(DatasetNotFound):
        cifar10(small.root / "empty", download=False)


def test_places_begin_with_the_cache(monkeypatch, tmp_path):
    assert places()[0] == tmp_path / "home" / "cache" / "minicnn" / "datasets"
    monkeypatch.setenv("MINICNN_HOME", str(tmp_path / "mine"))
    assert places()[0] == tmp_path / "mine" / "datasets"


def test_cifar10_warns_once_about_other_bytes(small, monkeypatch):
    members = dict.fromkeys(BATCHES, "0" * 32)
    monkeypatch.setattr(module, "LAYOUTS", (replace(module.PYTHON, members=members),))
    with pytest.warns(DatasetWarning, match="not the official bytes") as caught:
        (x_train, _), _ = cifar10(small.paths["python folder"])
    assert len(caught) == 1 and caught[0].filename == __file__
    np.testing.assert_array_equal(x_train, small.x[:5].reshape(100, 32, 32, 3))
    assert "not the official bytes" in describe(small.paths["python folder"])


def test_describe_says_where_and_what(small):
    for layout, path in small.paths.items():
        line = describe(path.parent)
        assert line.startswith(str(path)) and "\n" not in line
        expected = "checksums aren't known" if layout == "binary folder" else "official files"
        assert expected in line
    with pytest.raises(DatasetNotFound):
        describe(small.root / "nowhere")


# Fetching.


@pytest.mark.parametrize("how", ["argument", "variable"])
def test_cifar10_offline_opens_no_socket(no_socket, monkeypatch, tmp_path, how):
    if how == "variable":
        monkeypatch.setenv("MINICNN_OFFLINE", "1")
    with pytest.raises(DatasetNotFound) as caught:
        cifar10(download=how == "variable")
    text = str(caught.value)
    for place in places():
        assert str(place) in text
    target = tmp_path / "home" / "cache" / "minicnn" / "datasets" / "cifar-10-python.tar.gz"
    for fact in ("https://", "170,498,071", module.PYTHON.sha256, str(target)):
        assert fact in text


def test_fetch_offline_opens_no_socket(no_socket, monkeypatch, tmp_path):
    monkeypatch.setenv("MINICNN_OFFLINE", "1")
    with pytest.raises(DatasetNotFound, match="MINICNN_OFFLINE"):
        fetch(tmp_path / "nowhere")


def test_fetch_downloads_once(small, server, page, monkeypatch):
    body = small.paths["python archive"].read_bytes()
    urls = server.url(page(b"", status=404)), server.url(page(body))
    monkeypatch.setenv("MINICNN_CIFAR10_URL", " ".join(urls))
    expected = small.root / "home" / "cache" / "minicnn" / "datasets" / "cifar-10-python.tar.gz"
    assert fetch() == expected and expected.read_bytes() == body
    assert fetch() == expected
    assert server.hits == ["/0", "/1"]
    np.testing.assert_array_equal(cifar10()[1][0], small.x[5])


@pytest.mark.parametrize("name", ["new folder", "new folder/mine.tar.gz"])
def test_fetch_downloads_to_data_dir(small, server, page, monkeypatch, name):
    body = small.paths["python archive"].read_bytes()
    monkeypatch.setenv("MINICNN_CIFAR10_URL", server.url(page(body)))
    path = fetch(small.root / name)
    assert path.parent == small.root / "new folder" and path.read_bytes() == body
    assert fetch(small.root / name) == path
