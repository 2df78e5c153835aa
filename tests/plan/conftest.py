from __future__ import annotations

import pytest

from minicnn import parallel
from minicnn.kernels.cpu import team


@pytest.fixture
def small_slices(monkeypatch):
    """Cut small batches, too: no slice is too small for a thread."""
    monkeypatch.setattr(team, "LEAST", 1)
    if not parallel.blas_can_be_limited():
        pytest.skip("this BLAS keeps its threads: one slice")
