"""Transfer learning as people meet it: docs/transfer.md, line by line, and the example."""

import importlib.util
import json
import re
import sys
from pathlib import Path

import numpy as np
import pytest

import minicnn as mc

ROOT = Path(__file__).parent.parent
TEXT = (ROOT / "docs" / "transfer.md").read_text()
BLOCKS = re.findall(r"```python\n(.*?)```", TEXT, re.DOTALL)


def test_page_runs(monkeypatch, capsys):
    assert len(BLOCKS) >= 5
    draw = mc.datasets.synthetic
    monkeypatch.setattr(mc.datasets, "synthetic", lambda n, seed: draw(min(n, 200), seed=seed))
    names = {}
    for block in BLOCKS:
        exec(block, names)
    printed = capsys.readouterr().out
    assert "130 of the parameters are trained, 121,920 are frozen" in printed
    assert "'conv2d_1/b', 'conv2d_1/w'" in printed
    assert names["model"].classes == ("disc", "ring")


@pytest.mark.parametrize("path", sorted(set(re.findall(r"`((?:minicnn|examples)/[\w./]*)`", TEXT))))
def test_page_names_files_that_exist(path):
    assert (ROOT / path).exists()


@pytest.fixture
def transfer(monkeypatch, tmp_path):
    """Return transfer(*flags) -> exit code, on 200 drawn pictures, results in tmp_path/out."""
    draw = mc.datasets.synthetic
    monkeypatch.setattr(mc.datasets, "synthetic", lambda n, seed: draw(min(n, 200), seed=seed))
    spec = importlib.util.spec_from_file_location("transfer", ROOT / "examples" / "transfer.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    few = [
        "--dataset",
        "synthetic",
        "--epochs",
        "1",
        "--steps",
        "3",
        "--per-class",
        "2,5",
        "--seeds",
        "2",
    ]

    def run(*flags):
        argv = ["transfer.py", "--device", "cpu", "--out", str(tmp_path / "out"), *few, *flags]
        monkeypatch.setattr(sys, "argv", argv)
        return module.main()

    return run


def test_transfer_prints_and_writes_the_table(transfer, tmp_path, capsys):
    assert transfer() == 0
    found = json.loads((tmp_path / "out" / "transfer.json").read_text())
    assert found["classes"] == ["star", "crescent"] and len(found["first_classes"]) == 8
    seen = [(r["seed"], r["pictures_per_class"]) for r in found["results"]]
    assert seen == [(0, 2), (0, 5), (1, 2), (1, 5)]
    printed = capsys.readouterr().out
    assert "\n".join(found["table"]) in printed
    accuracies = [r["accuracy"]["unfrozen"] for r in found["results"] if r["seed"] == 1]
    row = [r["accuracy"]["frozen"] for r in found["results"] if r["pictures_per_class"] == 5]
    assert f"| 5 | {np.mean(row):.1%} ({min(row):.1%} to {max(row):.1%}) |" in found["table"][-1]

    model = mc.load(tmp_path / "out" / "model.safetensors")
    assert model.classes == ("star", "crescent")
    x, y = mc.datasets.synthetic(4000, seed=1)
    rows = (y == 5) | (y == 6)
    assert mc.evaluate(model, x[rows], (y[rows] == 6).astype(int))["accuracy"] == accuracies[-1]


def test_transfer_moves_to_pictures_of_ones_own(transfer, tmp_path, capsys):
    image = pytest.importorskip("PIL.Image")
    x, y = mc.datasets.synthetic(60, seed=9)
    for name, label in (("round", 0), ("square", 2), ("star", 5)):
        folder = tmp_path / "own" / name
        folder.mkdir(parents=True)
        for i, picture in enumerate(x[y == label]):
            image.fromarray(picture).save(folder / f"{i}.png")
    assert transfer("--pictures", str(tmp_path / "own"), "--seeds", "1", "--quiet") == 0
    found = json.loads((tmp_path / "out" / "transfer.json").read_text())
    assert found["classes"] == ["round", "square", "star"]
    assert found["test_pictures"] == 6
    # Of 6 pictures of a class 4 are left to train with: the table doesn't say 5.
    assert [r["pictures_per_class"] for r in found["results"]] == [2, 4]
    assert [line.split()[1] for line in found["table"][2:]] == ["2", "4"]
    assert "there are 4 pictures of a class" in capsys.readouterr().err
    assert mc.load(tmp_path / "out" / "model.safetensors").output_shape == (3,)


@pytest.mark.parametrize(
    ("flags", "text"),
    [
        ("--targets cat,dog", "--targets cat,dog: expected two or more of disc, ring"),
        ("--targets star", "expected two or more of"),
        ("--targets star,star", "expected two or more of"),
    ],
)
def test_transfer_wrong_flags_exit_with_2(transfer, capsys, flags, text):
    assert transfer(*flags.split()) == 2
    assert text in capsys.readouterr().err


def test_transfer_to_a_folder_that_is_not_there(transfer, capsys):
    pytest.importorskip("PIL")
    assert transfer("--pictures", "nowhere") == 2
    assert "nowhere isn't there; expected a folder" in capsys.readouterr().err


def test_transfer_to_own_pictures_without_pillow(transfer, capsys, monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "PIL", None)
    assert transfer("--pictures", str(tmp_path)) == 2
    assert "pip install 'minicnn[image]'" in capsys.readouterr().err


def test_transfer_refuses_numbers_that_are_none(transfer, capsys):
    for flags in ("--per-class ten", "--per-class 0", "--seeds 0"):
        with pytest.raises(SystemExit):
            transfer(*flags.split())
    assert "expected numbers such as 10,50,200" in capsys.readouterr().err
