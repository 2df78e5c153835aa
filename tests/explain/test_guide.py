"""The Python of docs/explain.md, run as it stands, with drawn pictures in CIFAR-10's place."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

import minicnn as mc

GUIDE = Path(__file__).parents[2] / "docs" / "explain.md"


def test_guide_to_explanations_runs(monkeypatch, tmp_path, capsys):
    Image = pytest.importorskip("PIL.Image")
    monkeypatch.chdir(tmp_path)
    drawn = mc.datasets.synthetic(20, seed=1)
    monkeypatch.setattr(mc.datasets, "cifar10", lambda: (drawn, drawn))
    mc.save(mc.models.tutorial_cnn().build((32, 32, 3), seed=0), "cifar.safetensors")
    blocks = re.findall(r"```python\n(.*?)```", GUIDE.read_text(encoding="utf-8"), re.DOTALL)
    assert len(blocks) >= 5
    names = {}
    for block in blocks:
        exec(block, names)
    assert names["said"].shape == names["true"].shape == (names["wrong"].sum(), 32, 32)
    assert names["maps"].shape == (8, 13, 13, 64)
    with Image.open("why.png") as picture:
        assert picture.size == (256, 256)
    assert capsys.readouterr().out.startswith("[")
