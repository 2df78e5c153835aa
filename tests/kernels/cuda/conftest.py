"""A GPU for the kernels of layers: the emulated one, and a real one where there is one."""

from __future__ import annotations

import importlib

import emulation
import pytest
from standin import installed

from minicnn.kernels.cuda.module import KINDS

from .floor import Floor

DEVICES = [
    pytest.param("emulated", marks=pytest.mark.skipif(not emulation.compiler(), reason="no g++")),
    pytest.param("real", marks=pytest.mark.gpu),
]


@pytest.fixture(params=DEVICES)
def device(request):
    """CuPy, or its stand-in."""
    if request.param == "emulated":
        with installed() as cupy:
            yield cupy
    else:
        if reason := request.getfixturevalue("gpu_reason"):
            pytest.skip(reason)
        yield importlib.import_module("cupy")


@pytest.fixture(params=KINDS)
def floor(request, device):
    """The GPU's floor for each of the storage types."""
    return Floor(device, request.param)


@pytest.fixture
def floor32(device):
    """The same for float32 alone."""
    return Floor(device, "float32")
