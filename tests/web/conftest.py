"""A small network, and its file, for the page and the server."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
from networks import small_network

import minicnn as mc

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))  # for the benchmarks' parts


@pytest.fixture(scope="session")
def model():
    return small_network()


@pytest.fixture(scope="session")
def model_file(model, tmp_path_factory):
    path = tmp_path_factory.mktemp("served") / "model.safetensors"
    mc.save(model, path)
    return path
