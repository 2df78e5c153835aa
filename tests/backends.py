"""An array library under test."""

from __future__ import annotations

from typing import Any

import numpy as np

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
