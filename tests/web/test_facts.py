"""What a run's folder tells of its model."""

from __future__ import annotations

import json

import pytest

from minicnn.web.facts import LARGEST, read_facts

METRICS = {
    "dataset": "cifar10",
    "dataset_note": "/home/me/data: secret",
    "model": "resnet20",
    "epochs": [{}, {}],
    "test_accuracy": 0.8097,
}


def test_facts_are_those_of_the_run(tmp_path):
    (tmp_path / "metrics.json").write_text(json.dumps(METRICS), encoding="utf-8")
    assert read_facts(tmp_path / "model.safetensors") == {
        "Architecture": "resnet20",
        "Trained on": "CIFAR-10",
        "Epochs": "2",
        "Right on test pictures": "81.0 %",
    }


def test_the_accuracy_is_not_that_of_another_file_of_the_run(tmp_path):
    (tmp_path / "metrics.json").write_text(json.dumps(METRICS), encoding="utf-8")
    assert "Right on test pictures" not in read_facts(tmp_path / "best.safetensors")


@pytest.mark.parametrize(
    "told",
    [
        b"", b"no JSON", b"[]", b"[" * 100_000, b"\xff\xfe", b'{"test_accuracy": NaN}',
        b'{"test_accuracy": "1", "dataset": 5, "model": [], "epochs": 3}',
        b'{"test_accuracy": 7.0}', b'{"test_accuracy": true}', b" " * (LARGEST + 1),
    ],
)  # fmt: skip
def test_a_file_that_tells_nothing_is_no_error(tmp_path, told):
    (tmp_path / "metrics.json").write_bytes(told)
    assert read_facts(tmp_path / "model.safetensors") == {}


def test_no_file_is_no_error(tmp_path):
    assert read_facts(tmp_path / "model.safetensors") == {}
    (tmp_path / "metrics.json").mkdir()
    assert read_facts(tmp_path / "model.safetensors") == {}


def test_long_names_are_cut(tmp_path):
    told = {"model": "x" * 10_000, "dataset": "/" * 10_000}
    (tmp_path / "metrics.json").write_text(json.dumps(told), encoding="utf-8")
    assert all(len(text) <= 100 for text in read_facts(tmp_path / "model.safetensors").values())
