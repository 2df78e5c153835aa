"""``minicnn compare``: runs side by side."""

from __future__ import annotations

import json
import shutil

import pytest
from run_helpers import SHAPE, net, pictures

import minicnn as mc
from minicnn import cli
from minicnn.cli.compare import blocks

EPOCH = {
    "loss": 1.5, "accuracy": 0.4, "val_loss": 1.4, "val_accuracy": 0.5, "lr": 0.01, "seconds": 2.0,
    "images_per_second": 1000.0,
}  # fmt: skip
RECIPE = {
    "name": "mine", "about": "...", "optimizer": {"name": "SGD", "momentum": 0.9},
    "schedule": {"name": "constant", "lr": 0.02}, "training": {"epochs": 2, "batch_size": 64},
}  # fmt: skip


def metrics(**changed):
    """What examples/train_cifar.py writes."""
    second = EPOCH | {"epoch": 2, "val_loss": 1.2, "val_accuracy": 0.45, "lr": 0.005}
    return {
        "dataset": "cifar10", "model": "tutorial_cnn", "device": "cpu", "seed": 0,
        "epochs": [EPOCH | {"epoch": 1}, second], "test_loss": 1.25, "test_accuracy": 0.55,
        "images_per_second": 1000.0, "seconds": 5.0, "parameters": 122570,
    } | changed  # fmt: skip


@pytest.fixture
def run(tmp_path, monkeypatch):
    """Writes a run's folder; returns its name."""
    monkeypatch.chdir(tmp_path)

    def write(name, **changed):
        (tmp_path / name).mkdir()
        (tmp_path / name / "metrics.json").write_text(json.dumps(metrics(**changed)))
        return name

    return write


def trained(name, epochs=2):
    """A run's folder with checkpoints alone."""
    x, y = pictures()
    options = {"batch_size": 11, "checkpoint": name, "validation": 0.3, "progress": False}
    model = net().build(SHAPE)
    return model, list(mc.fit(model, x, y, optimizer=mc.Adam(), epochs=epochs, **options))


def table(capsys, *args, code=0):
    """The rows of a table, and what is said on stderr."""
    assert cli.main(["compare", *args]) == code
    said = capsys.readouterr()
    rows = [line for line in said.out.splitlines() if line]
    return {line[2:22].strip(): (line[0], line[22:].split()) for line in rows}, said.err


def as_json(capsys, *args, code=0):
    assert cli.main(["compare", *args, "--json"]) == code
    return json.loads(capsys.readouterr().out)


def test_runs_stand_side_by_side(capsys, run):
    run("one")
    run("two", test_accuracy=0.6, test_loss=1.3, seed=1, model="vgg11")
    rows, said = table(capsys, "one", "two")
    assert said == ""
    assert rows["run"] == (" ", ["one", "two"])
    assert rows["state"] == (" ", ["finished", "finished"])
    assert rows["model"] == ("!", ["tutorial_cnn", "vgg11"])
    assert rows["seed"] == ("!", ["0", "1"]) and rows["device"] == (" ", ["cpu", "cpu"])
    assert rows["epochs"] == (" ", ["2", "2"]) and rows["lr"] == (" ", ["0.01", "0.01"])
    assert rows["test accuracy"] == (" ", ["0.5500", "0.6000*"])
    assert rows["test loss"] == (" ", ["1.2500*", "1.3000"])
    assert rows["best val. loss"] == (" ", ["1.2000", "1.2000"])  # equal: none is the best
    assert rows["training, s"] == (" ", ["4.0", "4.0"])


def test_recipes_are_compared_setting_by_setting(capsys, run):
    other = RECIPE | {"optimizer": {"name": "SGD", "momentum": 0.8}, "loss": {"smoothing": 0.1}}
    run("one", recipe=RECIPE)
    run("two", recipe=other)
    run("three")
    found = as_json(capsys, "one", "two", "three")
    assert found["differing"] == ["optimizer.momentum", "loss.smoothing"]
    first = found["runs"][0]
    assert (first["recipe"], first["optimizer"], first["batch_size"]) == ("mine", "SGD", 64)
    assert first["lr"] == 0.02 and found["runs"][2]["lr"] == 0.01
    rows, _ = table(capsys, "one", "two", "three")
    assert rows["optimizer.momentum"] == ("!", ["0.9", "0.8", "-"])


@pytest.mark.parametrize(
    ("key", "order"),
    [("test_accuracy", "cab"), ("test_loss", "bac"), ("parameters", "bca"), ("epochs", "abc")],
)
def test_runs_are_sorted(capsys, run, key, order):
    run("a", test_accuracy=0.5, test_loss=1.1, parameters=None)
    run("b", test_accuracy=0.4, test_loss=1.0, parameters=10)
    run("c", test_accuracy=0.6, test_loss=float("nan"), parameters=20)
    found = as_json(capsys, "a", "b", "c", "--sort", key)
    assert "".join(each["run"] for each in found["runs"]) == order
    assert found["best"]["test_accuracy"] == 0.6 and found["best"]["test_loss"] == 1.0


def test_other_data_sets_are_warned_of(capsys, run):
    run("one")
    run("two", dataset="synthetic", test_accuracy=0.9, images_per_second=1.0)
    rows, said = table(capsys, "one", "two")
    assert "losses and accuracies can't be compared: synthetic (two), cifar10 (one)" in said
    assert rows["data set"] == ("!", ["cifar10", "synthetic"])
    assert rows["test accuracy"] == (" ", ["0.5500", "0.9000"])  # no best among these
    assert len(as_json(capsys, "one", "two")["warnings"]) == 1


def test_other_drawn_pictures_are_warned_of(capsys, run):
    run("one", dataset="synthetic")
    run("two", dataset="synthetic", seed=5)
    assert "drawn with other seeds (0, 5)" in table(capsys, "one", "two")[1]


def test_unfinished_run_says_what_its_checkpoints_know(capsys, run):
    model, records = trained("half")
    found = as_json(capsys, "half")["runs"][0]
    assert found["state"] == "unfinished" and found["epochs"] == 2
    assert found["val_loss"] == min(record.val_loss for record in records)
    assert found["val_accuracy"] == max(record.val_accuracy for record in records)
    assert found["training_seconds"] == pytest.approx(sum(record.seconds for record in records))
    assert (found["optimizer"], found["batch_size"], found["lr"]) == ("Adam", 11, 1e-3)
    assert found["parameters"] == model.params.count
    assert found["test_accuracy"] is None and found["dataset"] is None
    rows, _ = table(capsys, "half")
    assert rows["test accuracy"] == (" ", ["-"]) and rows["state"] == (" ", ["unfinished"])


def test_unfinished_run_is_not_the_quickest_nor_of_another_rate(capsys, run):
    trained("half")
    run("one", recipe=RECIPE)
    run("two", recipe=RECIPE, epochs=[EPOCH | {"seconds": 90.0}])
    found = as_json(capsys, "half", "one", "two")
    assert found["best"]["training_seconds"] == 4.0
    assert [each["lr"] for each in found["runs"]] == [1e-3, 0.02, 0.02]
    assert "lr" not in found["differing"] and "optimizer" in found["differing"]
    run("three", recipe=RECIPE | {"schedule": {"name": "constant", "lr": 0.03}})
    assert "lr" in as_json(capsys, "half", "one", "three")["differing"]


def test_unfinished_run_has_the_data_of_its_twin(capsys, run, tmp_path):
    trained("half")
    shutil.copytree("half", "whole")
    (tmp_path / "whole" / "metrics.json").write_text(json.dumps(metrics(dataset="mine")))
    found = as_json(capsys, "half", "whole")
    assert [each["dataset"] for each in found["runs"]] == ["mine", "mine"]
    assert found["warnings"] == [] and found["runs"][1]["batch_size"] == 11


def test_run_that_went_on_after_its_figures_is_said(capsys, run, tmp_path):
    trained("more", epochs=3)
    (tmp_path / "more" / "metrics.json").write_text(json.dumps(metrics()))
    rows, said = table(capsys, "more")
    assert rows["state"] == (" ", ["finished,", "gone", "on"]) and rows["epochs"] == (" ", ["2"])
    assert "more: its figures are of 2 epochs, it has done 3" in said


def test_damaged_checkpoint_is_said_and_an_older_one_taken(capsys, run, tmp_path):
    trained("half")
    (tmp_path / "half" / "last.safetensors").unlink()
    (tmp_path / "half" / "last.safetensors").write_bytes(b"nothing")
    rows, said = table(capsys, "half")
    assert rows["epochs"] == (" ", ["2"])
    assert "last.safetensors isn't a whole" in said and "(taken: epoch-0002.safetensors)" in said


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("{", "metrics.json isn't JSON"),
        ("[" * 100_000, "metrics.json isn't JSON"),
        ("[]", "expected a dictionary"),
        (f'{{"recipe": {"[" * 800}{"]" * 800}}}', "expected a dictionary, as"),
        ("{}", "epochs is missing"),
        (json.dumps(metrics(epochs=3)), "epochs is 3, expected a list"),
        (json.dumps(metrics(epochs=[3])), "epochs holds 3, expected dictionaries"),
        (json.dumps(metrics(epochs=[{"lr": "x"}])), "lr of an epoch is 'x', expected a number"),
        (json.dumps(metrics(test_accuracy="good")), "test_accuracy is 'good', expected a number"),
        (json.dumps(metrics(recipe="mine")), "recipe is 'mine', expected a dictionary"),
        (json.dumps(metrics(parameters=True)), "parameters is True, expected a number"),
        (b"\xff\xfe", "metrics.json isn't JSON"),
    ],
)
def test_broken_run_gets_a_line_and_the_others_go_on(capsys, run, tmp_path, text, why):
    run("good")
    (tmp_path / "bad").mkdir()
    data = text if isinstance(text, bytes) else text.encode()
    (tmp_path / "bad" / "metrics.json").write_bytes(data)
    rows, said = table(capsys, "bad", "good", code=1)
    assert rows["run"] == (" ", ["good"])
    assert said.startswith("minicnn: bad: ") and why in said and said.count("\n") == 1
    found = as_json(capsys, "bad", "good", code=1)
    assert found["broken"][0]["run"] == "bad" and why in found["broken"][0]["why"]


def test_folders_that_hold_no_run(capsys, run, tmp_path):
    (tmp_path / "empty").mkdir()
    (tmp_path / "broken").mkdir()
    (tmp_path / "broken" / "last.safetensors").write_bytes(b"x")
    assert cli.main(["compare", "empty", "nowhere", "broken"]) == 2
    said = capsys.readouterr().err.splitlines()
    assert said[0] == "minicnn: empty: it holds no run: neither metrics.json nor a checkpoint"
    assert said[1] == "minicnn: nowhere: there is no such folder"
    assert "last.safetensors isn't a whole safetensors file" in said[2]


def test_table_fits_the_terminal(capsys, run, monkeypatch):
    names = [run(f"run-{i}-with-a-long-name") for i in range(7)]
    monkeypatch.setenv("COLUMNS", "80")
    assert cli.main(["compare", *names]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert max(map(len, lines)) <= 80
    assert sum(line.startswith("  run  ") for line in lines) == 3
    assert sum(line.count("run-") for line in lines) == 7


def test_runs_of_the_same_name_are_told_apart(capsys, run, tmp_path):
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    rows, _ = table(capsys, run("a/one"), run("b/one"))
    assert rows["run"][1] == ["a/one", "b/one"]


def test_columns_are_divided():
    assert blocks([10, 10, 10], 24) == [[0, 1], [2]]
    assert blocks([50, 10], 24) == [[0], [1]]
    assert blocks([10, 10], 23) == [[0], [1]]
