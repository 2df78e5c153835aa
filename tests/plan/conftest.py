from __future__ import annotations

import gc

import pytest
from worker_helpers import children

from minicnn import parallel
from minicnn.kernels.cpu import team


@pytest.fixture
def small_slices(monkeypatch):
    """Cut small batches, too: no slice is too small for a thread."""
    monkeypatch.setattr(team, "LEAST", 1)
    if not parallel.blas_can_be_limited():
        pytest.skip("this BLAS keeps its threads: one slice")


@pytest.fixture
def at_once(monkeypatch, small_slices):
    """Start processes for the first step already; afterwards none are left, nor zombies."""
    monkeypatch.setattr(team, "OFTEN", 0)
    monkeypatch.delenv("MINICNN_PROCESSES", raising=False)
    before = children()
    yield
    gc.collect()
    assert children() <= before
