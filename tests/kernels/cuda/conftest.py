"""A GPU for the kernels: the emulated one, and a real one where there is one."""

from __future__ import annotations

import importlib

import emulation
import pytest
from standin import installed

from minicnn import backend
from minicnn.kernels.cuda import module

from .floor import Floor

KINDS = tuple(module.KINDS)
DEVICES = ["emulated", pytest.param("real", marks=pytest.mark.gpu)]


@pytest.fixture
def cupy():
    """The stand-in for CuPy, with the GPU's bodies behind the book."""
    if emulation.compiler() is None:
        pytest.skip("the emulation of kernels needs a C++ compiler, g++")
    with installed() as found:
        backend.import_cupy()
        yield found


@pytest.fixture(params=DEVICES)
def device(request):
    """CuPy, or its stand-in."""
    if request.param == "emulated":
        yield request.getfixturevalue("cupy")
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


@pytest.fixture(params=[False, True], ids=["forwards", "backwards"])
def order(request, monkeypatch):
    """Blocks and threads run from the first to the last, and the other way round."""
    monkeypatch.setattr(emulation, "backwards", request.param)
