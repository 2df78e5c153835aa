"""How emulated kernels are run."""

from __future__ import annotations

import emulation
import pytest


@pytest.fixture(params=[False, True], ids=["forwards", "backwards"])
def order(request, monkeypatch):
    """Emulated blocks and threads run from the first to the last, and the other way round."""
    monkeypatch.setattr(emulation, "backwards", request.param)
