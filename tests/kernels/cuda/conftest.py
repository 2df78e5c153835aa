"""The GPU's floor under tests of its kernels."""

from __future__ import annotations

import pytest

from minicnn.kernels.cuda.module import KINDS

from .floor import Floor


@pytest.fixture(params=KINDS)
def floor(request, cupy):
    """A writer, and ways in and out, for each of the storage types."""
    return Floor(cupy, request.param)


@pytest.fixture
def floor32(cupy):
    """The same for float32 alone."""
    return Floor(cupy, "float32")
