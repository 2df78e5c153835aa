"""One test body for every backend: fixtures that the whole suite shares."""

from __future__ import annotations

import zlib
from typing import Any

import numpy as np
import pytest

from minicnn import backend as minicnn_backend


class Backend:
    """An array library under test: ``xp``, and the ways in and out."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.xp = minicnn_backend.device("cpu" if name == "numpy" else "gpu").xp

    def array(self, x: Any) -> Any:
        """Return x in this library, in its dtype."""
        return self.xp.asarray(x)

    def numpy(self, x: Any) -> np.ndarray:
        """Return x as a NumPy array, after making sure that it was in this library."""
        assert isinstance(x, self.xp.ndarray), f"{type(x)} isn't an array of {self.name}"
        return minicnn_backend.to_numpy(x)


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
