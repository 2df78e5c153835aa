"""The examples, run as a person runs them, on fewer pictures."""

import importlib.util
import json
import sys
from pathlib import Path

import numpy as np
import pytest

import minicnn as mc
from minicnn import cli

EXAMPLES = Path(__file__).parent.parent / "examples"


def load(name):
    """Import an example by its path."""
    spec = importlib.util.spec_from_file_location(name, EXAMPLES / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def train(monkeypatch, tmp_path):
    """Return train(*flags) -> exit code, on 1,500 drawn pictures, results in tmp_path/out."""
    draw = mc.datasets.synthetic
    monkeypatch.setattr(mc.datasets, "synthetic", lambda n, seed: draw(min(n, 1500), seed=seed))

    def run(*flags):
        argv = ["train_cifar.py", "--device", "cpu", "--out", str(tmp_path / "out"), *flags]
        monkeypatch.setattr(sys, "argv", argv)
        return load("train_cifar").main()

    return run


@pytest.fixture
def few(monkeypatch, train):
    """Let there be 24 pictures only: an emulated GPU is slow."""
    draw = mc.datasets.synthetic
    monkeypatch.setattr(mc.datasets, "synthetic", lambda n, seed: draw(min(n, 24), seed=seed))


def metrics(tmp_path):
    """Return what the example wrote down."""
    return json.loads((tmp_path / "out" / "metrics.json").read_text())


def test_train_cifar_writes_what_it_promises(train, tmp_path, capsys):
    assert train("--dataset", "synthetic", "--epochs", "2", "--seed", "3", "--augment") == 0
    found = metrics(tmp_path)
    assert set(found) == {
        "dataset", "dataset_note", "model", "device", "seed", "epochs", "test_loss",
        "test_accuracy", "images_per_second", "seconds", "versions", "parameters",
    }  # fmt: skip
    assert (found["dataset"], found["model"], found["device"]) == (
        "synthetic", "tutorial_cnn", "cpu",
    )  # fmt: skip
    assert found["seed"] == 3 and found["parameters"] == 122_570
    assert [e["epoch"] for e in found["epochs"]] == [1, 2]
    assert found["epochs"][1]["loss"] < found["epochs"][0]["loss"]
    assert 0 < found["epochs"][0]["val_accuracy"] < 1

    # The model in the file is the one that was measured.
    model = mc.load(tmp_path / "out" / "model.safetensors")
    x, y = mc.datasets.synthetic(4000, seed=1_000_003)
    assert mc.evaluate(model, x, y)["accuracy"] == found["test_accuracy"]
    assert model.classes == mc.datasets.SYNTHETIC_CLASSES
    printed = capsys.readouterr().out
    assert "122,570" in printed and f"test accuracy {found['test_accuracy']:.4f}" in printed


def test_train_cifar_same_seed_same_weights(train, tmp_path):
    files = []
    for out in ("one", "two"):
        flags = "--dataset synthetic --epochs 1 --augment --optimizer sgd --validation 0 --quiet"
        assert train(*flags.split(), "--out", str(tmp_path / out)) == 0
        files.append((tmp_path / out / "model.safetensors").read_bytes())
    assert files[0] == files[1]
    found = json.loads((tmp_path / "one" / "metrics.json").read_text())
    assert found["epochs"][0]["val_loss"] is None


def test_train_cifar_resume_gives_the_weights_of_a_run_in_one(train, tmp_path, capsys):
    def weights(out, *flags):
        assert train("--dataset", "synthetic", "--quiet", "--out", str(tmp_path / out), *flags) == 0
        return (tmp_path / out / "model.safetensors").read_bytes()

    whole = weights("one", "--epochs", "2", "--augment")
    first = weights("two", "--epochs", "1", "--augment")
    assert first != whole
    assert weights("two", "--epochs", "2", "--augment", "--resume") == whole
    assert len(json.loads((tmp_path / "two" / "metrics.json").read_text())["epochs"]) == 2
    assert train("--dataset", "synthetic", "--out", str(tmp_path / "two")) == 2
    assert "holds a run already" in capsys.readouterr().err


def test_train_cifar_says_that_it_took_other_data(train, tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("MINICNN_OFFLINE", "1")
    assert train("--data-dir", str(tmp_path / "nothing"), "--epochs", "1") == 0
    found = metrics(tmp_path)
    assert found["dataset"] == "synthetic" and "NOT CIFAR-10" in found["dataset_note"]
    assert "!!!!!!!!" in capsys.readouterr().err


def test_train_cifar_refuses_other_data_when_cifar10_is_asked_for(
    train, tmp_path, monkeypatch, capsys
):
    monkeypatch.setenv("MINICNN_OFFLINE", "1")
    assert train("--dataset", "cifar10", "--data-dir", str(tmp_path / "nothing")) == 2
    assert "CIFAR-10 isn't on this machine" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("flags", "text"),
    [
        ("--seed -1", "seed -1"),
        ("--lr -1", "lr -1.0"),
        ("--validation 2", "fraction 2.0"),
        ("--device gpu:x", "device 'gpu:x'"),
    ],
)
def test_train_cifar_wrong_flags_exit_with_2(train, capsys, flags, text):
    assert train("--dataset", "synthetic", *flags.split()) == 2
    assert text in capsys.readouterr().err


def test_train_cifar_lr_of_zero_learns_nothing(train, tmp_path):
    assert train("--dataset", "synthetic", "--epochs", "1", "--lr", "0", "--quiet") == 0
    assert metrics(tmp_path)["epochs"][0]["lr"] == 0


RECIPE = """
about = "a test's"
[model]
name = "tutorial_cnn"
[training]
epochs = 3
batch_size = 90
drop_last = true
accumulate = 2
[optimizer]
name = "AdamW"
ema_decay = 0.5
[schedule]
name = "one_cycle"
lr = 0.003
[[augment]]
name = "RandomFlip"
[loss]
label_smoothing = 0.1
[test]
tta = "flip"
[[freeze]]
layer = "conv2d_1"
after = 1
"""


@pytest.fixture
def recipe(monkeypatch, train, tmp_path):
    """Return the path of a recipe with something of everything, for 400 pictures."""
    draw = mc.datasets.synthetic
    monkeypatch.setattr(mc.datasets, "synthetic", lambda n, seed: draw(min(n, 400), seed=seed))
    path = tmp_path / "own.toml"
    path.write_text(RECIPE)
    return str(path)


def test_train_cifar_by_a_recipe(train, recipe, tmp_path, monkeypatch, capsys):
    flags = ["--dataset", "synthetic", "--quiet", "--seed", "1", "--lr", "0.002", "--epochs", "2"]
    assert train(*flags, "--recipe", recipe) == 0
    found = metrics(tmp_path)
    assert found["recipe"]["name"] == "own" and found["recipe"]["schedule"]["lr"] == 0.002
    assert found["recipe"]["training"]["epochs"] == 2 and found["model"] == "tutorial_cnn"
    assert 0 < found["training_seconds"] < found["seconds"]
    rate = mc.schedule.one_cycle(0.002, steps=8)  # 360 pictures: four batches of 90
    assert [e["lr"] for e in found["epochs"]] == pytest.approx([rate(3), rate(7)])

    # What is in the file are the averaged weights, judged with the recipe's views.
    model = mc.load(tmp_path / "out" / "model.safetensors")
    x, y = mc.datasets.synthetic(4000, seed=1_000_001)
    assert mc.evaluate(model, x, y, tta="flip")["loss"] == pytest.approx(found["test_loss"])
    assert mc.evaluate(model, x, y)["loss"] != pytest.approx(found["test_loss"])

    # The command measures the same on the same pictures, and says where it doesn't.
    monkeypatch.setattr("minicnn.cli.sources.DRAWN", {"test": (400, 1_000_000)})
    out = str(tmp_path / "out")
    capsys.readouterr()
    assert cli.main(["evaluate", out, "--device", "cpu", "--tta", "flip", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["loss"] == pytest.approx(found["test_loss"])
    assert cli.main(["evaluate", out, "--device", "cpu"]) == 0
    assert "the run's own test was made with --tta flip" in capsys.readouterr().err
    assert cli.main(["compare", out, out, "--json"]) == 0
    row = json.loads(capsys.readouterr().out)["runs"][0]
    assert (row["recipe"], row["state"], row["batch_size"]) == ("own", "finished", 90)
    assert row["test_accuracy"] == found["test_accuracy"] and row["parameters"] == 122_570


def test_train_cifar_by_a_recipe_resumes_behind_what_it_froze(train, recipe, tmp_path):
    def weights(out, *flags):
        given = ["--dataset", "synthetic", "--quiet", "--recipe", recipe]
        assert train(*given, "--out", str(tmp_path / out), *flags) == 0
        model = mc.load(tmp_path / out / "model.safetensors")
        return {name: array.copy() for name, array in model.params.items()}

    whole = weights("one")
    again = weights("one", "--resume")  # all epochs are done: the test alone is repeated
    for name, array in whole.items():
        assert (again[name] == array).all(), name
    stop = mc.Run.end_epoch

    def stopping(run, validation=None):
        record = stop(run, validation)
        if run.epoch == 2:
            raise OSError("the plug was pulled")
        return record

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(mc.Run, "end_epoch", stopping)
        given = ["--dataset", "synthetic", "--quiet", "--recipe", recipe]
        assert train(*given, "--out", str(tmp_path / "two")) == 2
    parts = weights("two", "--resume")
    for name, array in whole.items():
        assert (parts[name] == array).all(), name


@pytest.mark.parametrize(
    ("flags", "text"),
    [
        ("--recipe nothing", "recipe 'nothing': expected one of"),
        ("--recipe tutorial --lr -1", "schedule: lr -1.0"),
        ("--recipe tutorial --dtype float16", "dtype 'float16'"),
    ],
)
def test_train_cifar_wrong_recipes_exit_with_2(train, capsys, flags, text):
    assert train("--dataset", "synthetic", *flags.split()) == 2
    assert text in capsys.readouterr().err


def test_train_cifar_recipe_says_what_flags_would(train, capsys):
    with pytest.raises(SystemExit):
        train("--recipe", "tutorial", "--optimizer", "sgd")
    assert "are the recipe's" in capsys.readouterr().err


def test_train_cifar_without_a_gpu_exits_with_2_and_the_reason(train, monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "cupy", None)  # importing it raises ModuleNotFoundError
    assert train("--device", "gpu", "--dataset", "synthetic") == 2
    said = capsys.readouterr().err
    assert "pip install 'minicnn[cuda12]'" in said and "original error" in said


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_train_cifar_on_a_gpu(train, few, cupy, tmp_path, dtype):
    """The whole example by the GPU's kernels, emulated where there is no GPU, beside the CPU's."""
    flags = "--dataset synthetic --epochs 2 --batch-size 12 --validation 0.25 --quiet"
    losses = {}
    for device in (["cpu"], ["gpu", "--dtype", dtype]):
        out = tmp_path / device[0]
        assert train(*flags.split(), "--out", str(out), "--device", *device) == 0
        found = json.loads((out / "metrics.json").read_text())
        losses[device[0]] = [[e["loss"], e["val_loss"]] for e in found["epochs"]]
    assert found["device"] == "gpu:0"
    rtol = 1e-4 if dtype == "float32" else 0.05
    np.testing.assert_allclose(losses["gpu"], losses["cpu"], rtol=rtol)
    model = mc.load(tmp_path / "gpu" / "model.safetensors")  # on the CPU, from float32
    x, y = mc.datasets.synthetic(4000, seed=1_000_000)
    np.testing.assert_allclose(mc.evaluate(model, x, y)["loss"], found["test_loss"], rtol=rtol)


def test_train_cifar_on_a_gpu_varies_pictures_and_goes_on(train, few, cupy, tmp_path):
    flags = "--dataset synthetic --batch-size 12 --validation 0 --augment --quiet --device gpu"
    for out, runs in (("straight", [["--epochs", "2"]]), ("parts", [["--epochs", "1"], RESUMED])):
        for more in runs:
            assert train(*flags.split(), "--out", str(tmp_path / out), *more) == 0
    files = [(tmp_path / out / "model.safetensors").read_bytes() for out in ("straight", "parts")]
    assert files[0] == files[1]


RESUMED = ["--epochs", "2", "--resume"]


def test_read_a_gradient_agrees_with_differences(capsys):
    example = load("read_a_gradient")
    assert example.worst < 1e-7
    assert "dL/dw[2,2,1,0]" in capsys.readouterr().out
    assert np.shape(example.dw) == (3, 3, 2, 4)
