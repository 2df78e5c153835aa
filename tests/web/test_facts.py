"""What a run tells of its model on the page about the network."""

from __future__ import annotations

import json

import pytest

import minicnn as mc
from minicnn import cli, web
from minicnn.web.facts import LONGEST, facts_of

RUN = {
    "dataset": "cifar10",
    "dataset_note": "/home/me/data: secret",
    "model": "resnet20",
    "epochs": [{}, {}],
    "test_accuracy": 0.8097,
}


def test_facts_are_those_of_the_run():
    assert facts_of(RUN, finished=True) == {
        "Architecture": "resnet20",
        "Trained on": "CIFAR-10",
        "Epochs": "2",
        "Right on test pictures": "81.0 %",
    }


@pytest.mark.parametrize(
    "run",
    [
        {},
        {"test_accuracy": float("nan")},
        {"test_accuracy": "1", "dataset": 5, "model": [], "epochs": 3},
        {"test_accuracy": 7.0},
        {"test_accuracy": True},
    ],
)
def test_a_run_that_tells_nothing_is_no_error(run):
    assert facts_of(run, finished=True) == {}


def test_long_names_are_cut():
    told = facts_of({"model": "x" * 10_000, "dataset": "/" * 10_000}, finished=True)
    assert len(told) == 2 and all(len(text) == LONGEST for text in told.values())


def test_the_command_hands_them_on(model, tmp_path, monkeypatch, capsys):
    """The accuracy is that of the finished model, not of the others in the folder."""
    served = []
    monkeypatch.setattr(web, "serve", lambda *given: served.append(given))
    for name in ("model", "best"):
        mc.save(model, tmp_path / f"{name}.safetensors")
    file = tmp_path / "metrics.json"
    file.write_text(json.dumps(RUN), encoding="utf-8")
    for given in (tmp_path, tmp_path / "best.safetensors"):
        assert cli.main(["serve", str(given), "--device", "cpu"]) == 0
    file.write_bytes(b"no JSON")
    assert cli.main(["serve", str(tmp_path), "--device", "cpu"]) == 0
    assert [facts for *_, facts in served] == [facts_of(RUN, True), facts_of(RUN, False), {}]
    assert "Right on test pictures" not in served[1][-1]
    assert "metrics.json can't be read" in capsys.readouterr().err
