"""The Python of README and guides, run line by line, with drawn pictures in CIFAR-10's place."""

import re
from pathlib import Path

import pytest

import minicnn as mc

HOUSE = Path(__file__).parent.parent
TEXT = (HOUSE / "README.md").read_text()


def blocks(text):
    return re.findall(r"```python\n(.*?)```", text, re.DOTALL)


@pytest.fixture
def drawn(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    train, test = mc.datasets.synthetic(300, seed=0), mc.datasets.synthetic(60, seed=1)
    monkeypatch.setattr(mc.datasets, "cifar10", lambda: (train, test))


def test_readme_python_runs(drawn, capsys):
    assert len(blocks(TEXT)) >= 3
    names = {}
    for block in blocks(TEXT):
        exec(block, names)
    printed = capsys.readouterr().out
    assert "122,570" in printed and "epoch  10" in printed and "passed" in printed


def test_guide_to_training_runs(drawn, capsys):
    pytest.importorskip("matplotlib")
    found = blocks((HOUSE / "docs" / "training.md").read_text())
    assert len(found) >= 10
    names = {}
    for block in found:
        exec(block, names)
    assert Path("rates.png").exists()
    assert names["found"].suggestion > 0 and names["stopping"].best_epoch > 0
    assert names["probabilities"].shape == (60, 10)
    assert "lr" in capsys.readouterr().out


def test_guide_to_evaluation_runs(drawn, capsys):
    found = blocks((HOUSE / "docs" / "evaluation.md").read_text())
    names = {}
    for block in found:
        exec(block, names)
    printed = capsys.readouterr().out
    assert "confusion matrix" in printed and "airplane" in printed and " was called " in printed
    assert names["bins"].count.sum() == 60


@pytest.mark.parametrize("path", sorted(set(re.findall(r"`((?:minicnn|examples)/[\w./]*)`", TEXT))))
def test_readme_names_files_that_exist(path):
    assert (HOUSE / path).exists()
