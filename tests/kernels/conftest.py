"""GPUs to run kernels on: the emulated one, and a real one where there is one."""

from __future__ import annotations

import emulation
import pytest
from standin import installed

from minicnn import backend


@pytest.fixture
def standin():
    """The stand-in for CuPy, whose kernels run on the CPU, with the GPU's bodies in the book."""
    if emulation.compiler() is None:
        pytest.skip("the emulation of kernels needs a C++ compiler, g++")
    with installed() as found:
        backend.import_cupy()
        yield found


@pytest.fixture(params=["emulated", pytest.param("real", marks=pytest.mark.gpu)])
def cupy(request):
    """The stand-in; and CuPy, skipped with the reason where no GPU works."""
    if request.param == "emulated":
        return request.getfixturevalue("standin")
    if reason := request.getfixturevalue("gpu_reason"):
        pytest.skip(reason)
    return backend.import_cupy()


@pytest.fixture(params=[False, True], ids=["forwards", "backwards"])
def order(request, monkeypatch):
    """Emulated blocks and threads run from the first to the last, and the other way round."""
    monkeypatch.setattr(emulation, "backwards", request.param)
