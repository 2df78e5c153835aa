"""One test body for every backend: fixtures that the whole suite shares."""

from __future__ import annotations

import gc
import signal
import zlib

import emulation
import numpy as np
import pytest
from backends import Backend
from standin import installed

from minicnn import backend as minicnn_backend


def pytest_configure(config: pytest.Config) -> None:
    """Listen to Ctrl-C and SIGTERM, and let child processes do so.

    Who starts the tests in the background may have had them ignored; tests send them.
    """
    for number, handler in (
        (signal.SIGINT, signal.default_int_handler),
        (signal.SIGTERM, signal.SIG_DFL),
    ):
        if signal.getsignal(number) is signal.SIG_IGN:
            signal.signal(number, handler)


def pytest_collection_finish(session: pytest.Session) -> None:
    """Spare the tests themselves, some ten thousand, from every collection of garbage to come."""
    gc.collect()
    gc.freeze()


@pytest.fixture(scope="session")
def gpu_reason() -> str:
    """Why no GPU can be used here; empty where one works."""
    try:
        minicnn_backend.probe_gpu()
    except minicnn_backend.DeviceError as error:
        return str(error)
    return ""


@pytest.fixture(params=["numpy", pytest.param("cupy", marks=pytest.mark.gpu)])
def backend(request: pytest.FixtureRequest) -> Backend:
    """NumPy, and CuPy where a GPU works; skipped with the reason where none does."""
    if request.param == "cupy" and (reason := request.getfixturevalue("gpu_reason")):
        pytest.skip(reason)
    return Backend(request.param)


@pytest.fixture
def rng(request: pytest.FixtureRequest) -> np.random.Generator:
    """Random numbers that depend on the test's name alone."""
    return np.random.default_rng(zlib.crc32(request.node.name.encode()))


@pytest.fixture
def standin():
    """The stand-in for CuPy, whose kernels run on the CPU, with the GPU's bodies in the book."""
    if emulation.compiler() is None:
        pytest.skip("the emulation of kernels needs a C++ compiler, g++")
    with installed() as found:
        minicnn_backend.import_cupy()
        yield found


@pytest.fixture(params=["emulated", pytest.param("real", marks=pytest.mark.gpu)])
def cupy(request):
    """The stand-in; and CuPy, skipped with the reason where no GPU works."""
    if request.param == "emulated":
        return request.getfixturevalue("standin")
    if reason := request.getfixturevalue("gpu_reason"):
        pytest.skip(reason)
    return minicnn_backend.import_cupy()
