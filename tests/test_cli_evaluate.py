"""``minicnn evaluate``, and how it finds the pictures."""

from __future__ import annotations

import json
import sys

import numpy as np
import pytest

import minicnn as mc
from minicnn import cli
from minicnn.cli import sources


def net(classes=10):
    layers = [mc.AveragePool2D(8), mc.Flatten(), mc.Dense(classes)]
    return mc.Sequential(mc.Normalize(), *layers).build((32, 32, 3), seed=1)


@pytest.fixture
def model(tmp_path):
    """Saves a model; returns the file's name."""

    def save(classes=(), net=net, folder=tmp_path, **metrics):
        made = net(len(classes) or 10)
        made.classes = tuple(classes)
        if metrics:
            (folder / "metrics.json").write_text(json.dumps(metrics))
        return str(mc.save(made, folder / "model.safetensors"))

    return save


@pytest.fixture
def cifar10(monkeypatch):
    """Drawn pictures in CIFAR-10's place; the folders that it was asked to look in."""
    asked = []
    train, test = mc.datasets.synthetic(30, seed=3), mc.datasets.synthetic(20, seed=4)
    give = lambda folder=None: asked.append(folder) or (train, test)  # noqa: E731
    monkeypatch.setattr("minicnn.data.cifar10.cifar10", give)
    return asked


@pytest.fixture
def drawn(monkeypatch):
    monkeypatch.setattr(sources, "DRAWN", {"train": (40, 0), "test": (25, 1_000_000)})


def out_of(capsys, *args, code=0):
    assert cli.main(["evaluate", "--device", "cpu", *args]) == code
    return capsys.readouterr()


def test_evaluate_prints_what_it_measured_and_on_what(capsys, model, cifar10):
    path = model(mc.datasets.CIFAR10_CLASSES)
    said = out_of(capsys, path, "--data-dir", "somewhere", "--tta", "flip")
    x, y = mc.datasets.synthetic(20, seed=4)
    expected = mc.evaluate(mc.load(path), x, y, tta="flip")
    assert said.out == f"CIFAR-10, test set, --tta flip: 20 pictures, on cpu\n\n{expected}\n"
    assert cifar10 == ["somewhere"] and "airplane" in said.out


def test_evaluate_writes_json(capsys, model, cifar10, tmp_path):
    path, file = model(mc.datasets.CIFAR10_CLASSES), tmp_path / "found.json"
    only_json = out_of(capsys, path, "--json", "--batch-size", "7").out
    both = out_of(capsys, path, "--json", str(file)).out
    x, y = mc.datasets.synthetic(20, seed=4)
    expected = mc.evaluate(mc.load(path), x, y).as_dict()
    head = {"model": path, "dataset": "CIFAR-10, test set", "tta": None, "device": "cpu"}
    assert json.loads(file.read_text()) == head | expected
    assert json.loads(only_json)["confusion"] == expected["confusion"]
    assert both.startswith("CIFAR-10, test set: 20 pictures") and "macro mean" in both


def test_evaluate_measures_the_training_set_too(capsys, model, cifar10):
    said = out_of(capsys, model(), "--dataset", "cifar10", "--split", "train").out
    assert said.startswith("CIFAR-10, train set: 30 pictures") and "class 9" in said


def test_auto_takes_what_the_run_was_made_with(capsys, model, drawn, tmp_path):
    model(mc.datasets.SYNTHETIC_CLASSES, dataset="synthetic", seed=7)
    said = out_of(capsys, str(tmp_path), "--json")
    assert "--dataset synthetic, as the run's metrics.json says" in said.err
    found = json.loads(said.out)
    x, y = mc.datasets.synthetic(25, seed=1_000_007)  # as examples/train_cifar.py draws them
    expected = mc.evaluate(mc.load(tmp_path / "model.safetensors"), x, y)
    assert found["dataset"] == "drawn pictures, test set of seed 7"
    assert found["loss"] == expected["loss"] and found["confusion"] == expected.confusion.tolist()


@pytest.mark.parametrize(
    ("classes", "name", "note"),
    [
        (mc.datasets.CIFAR10_CLASSES, "CIFAR-10", "the model's classes are called as those are"),
        (mc.datasets.SYNTHETIC_CLASSES, "drawn pictures", "called as those are"),
        ((), "CIFAR-10", "have no names, but there are ten"),
    ],
)
def test_auto_says_what_it_guesses(capsys, model, cifar10, drawn, classes, name, note):
    said = out_of(capsys, model(classes))
    assert said.out.startswith(name) and said.err.startswith("note: --dataset ")
    assert note in said.err


def test_auto_never_guesses_wildly(capsys, model):
    said = out_of(capsys, model(["cat", "dog"]), code=2)
    assert "(cat, dog) tell which pictures; name them with --dataset" in said.err


@pytest.mark.parametrize("recipe", [3, {"test": 3}, {"test": {"tta": "sideways"}}, {}])
def test_recipe_that_says_nothing_of_views(capsys, model, cifar10, recipe):
    path = model(mc.datasets.CIFAR10_CLASSES, dataset="cifar10", recipe=recipe)
    assert "--tta" not in out_of(capsys, path).err


def test_broken_metrics_are_said(capsys, model, cifar10, tmp_path):
    path = model(mc.datasets.CIFAR10_CLASSES)
    (tmp_path / "metrics.json").write_text("{")
    said = out_of(capsys, path)
    assert "metrics.json can't be read, and counts as if it weren't there" in said.err


@pytest.mark.parametrize(
    ("classes", "flags", "text"),
    [
        (["a"] * 10, ["--dataset", "cifar10"], "but those of CIFAR-10 are airplane, automobile"),
        (
            ["cat", "dog"],
            ["--dataset", "synthetic"],
            "classes are cat, dog, but those of the drawn",
        ),
        ((), ["--dataset", "nowhere"], "nowhere isn't there"),
        ((), ["--dataset", "nowhere", "--split", "train"], "a folder is taken whole"),
        ((), ["--batch-size", "0"], "--batch-size 0: expected an integer >= 1"),
        ((), ["--device", "tpu"], "device 'tpu': expected"),
        ((), ["--device", "gpu"], "CuPy isn't installed"),
    ],
)
def test_evaluate_refuses(capsys, monkeypatch, model, classes, flags, text):
    monkeypatch.setitem(sys.modules, "cupy", None)
    if "nowhere" in flags and "train" not in flags:
        pytest.importorskip("PIL")
    said = out_of(capsys, model(classes), *flags, code=2)
    assert text in said.err and not said.out


def test_evaluate_says_that_there_is_no_model(capsys, tmp_path):
    assert "holds no model" in out_of(capsys, str(tmp_path), code=2).err


def pets(folder, *names, count=3):
    """A folder of pictures; class i has i + 1 times as many as the first."""
    image = pytest.importorskip("PIL.Image")
    rng = np.random.default_rng(0)
    for i, name in enumerate(names):
        (folder / name).mkdir(parents=True)
        for k in range(count * (i + 1)):
            picture = image.fromarray(rng.integers(0, 256, (40, 36, 3), "uint8"))
            picture.save(folder / name / f"{k}.png")
    return str(folder)


def test_folder_has_the_models_class_ids(capsys, model, tmp_path):
    folder = pets(tmp_path / "pets", "cat", "zebra")
    said = out_of(capsys, model(["zebra", "emu", "cat"]), "--dataset", folder, "--json").out
    support = {each["name"]: each["support"] for each in json.loads(said)["per_class"]}
    assert support == {"zebra": 6, "emu": 0, "cat": 3}
    assert json.loads(said)["undefined"]["recall"] == ["emu"]


def test_folder_is_read_in_grey_for_a_grey_model(capsys, tmp_path):
    layers = [mc.Normalize(), mc.Flatten(), mc.Dense(2)]
    grey = mc.Sequential(*layers).build((32, 32, 1), seed=0)
    grey.classes = ("cat", "dog")
    path = str(mc.save(grey, tmp_path / "model.safetensors"))
    folder = pets(tmp_path / "pets", "cat", "dog")
    said = json.loads(out_of(capsys, path, "--dataset", folder, "--json").out)
    x, y, _ = mc.datasets.from_directory(folder, channels=1)
    assert x.shape == (9, 32, 32, 1)
    assert said["accuracy"] == mc.evaluate(grey, x, y)["accuracy"]


def test_folder_of_a_model_without_names_goes_by_order(capsys, tmp_path):
    folder = pets(tmp_path / "pets", "cat", "dog")
    path = str(mc.save(net(2), tmp_path / "model.safetensors"))
    said = out_of(capsys, path, "--dataset", folder)
    assert "the model's classes have no names: taken in the order cat, dog" in said.err


def test_folder_with_other_classes_is_refused(capsys, model, tmp_path):
    folder = pets(tmp_path / "pets", "cat", "cow", count=1)
    said = out_of(capsys, model(["cat", "dog"]), "--dataset", folder, code=2)
    assert (
        "sub-folders that aren't classes of the model: cow; expected some of cat, dog" in said.err
    )


def test_model_that_takes_floats_is_refused(capsys, model, cifar10):
    def plain(classes):
        layers = [mc.AveragePool2D(8), mc.Flatten(), mc.Dense(classes)]
        return mc.Sequential(*layers).build((32, 32, 3))

    said = out_of(capsys, model(net=plain), code=2)
    assert "how its pictures are to be prepared isn't known here" in said.err
