"""The README's Python, run line by line, with drawn pictures in CIFAR-10's place."""

import re
from pathlib import Path

import pytest

import minicnn as mc

TEXT = (Path(__file__).parent.parent / "README.md").read_text()
BLOCKS = re.findall(r"```python\n(.*?)```", TEXT, re.DOTALL)


def test_readme_python_runs(monkeypatch, tmp_path, capsys):
    assert len(BLOCKS) >= 3
    monkeypatch.chdir(tmp_path)
    train, test = mc.datasets.synthetic(300, seed=0), mc.datasets.synthetic(60, seed=1)
    monkeypatch.setattr(mc.datasets, "cifar10", lambda: (train, test))
    names = {}
    for block in BLOCKS:
        exec(block, names)
    printed = capsys.readouterr().out
    assert "122,570" in printed and "epoch  10" in printed and "passed" in printed


@pytest.mark.parametrize("path", sorted(set(re.findall(r"`((?:minicnn|examples)/[\w./]*)`", TEXT))))
def test_readme_names_files_that_exist(path):
    assert (Path(__file__).parent.parent / path).exists()
