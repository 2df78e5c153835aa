"""The worker for the roofline: NumPy's product of two float32 matrices, all threads."""

from __future__ import annotations

from typing import Any

import numpy as np

from benchmarks.peers.protocol import serve

SIDE = 1024
FLOPS = 2 * SIDE**3


class Blas:
    """Multiplies two matrices of 1024 x 1024; a "picture" here is one product."""

    parameters = 0

    def __init__(self, task: dict[str, Any]) -> None:
        rng = np.random.default_rng(0)
        self.a, self.b = rng.standard_normal((2, SIDE, SIDE), dtype="float32")
        self.c = np.empty_like(self.a)
        self.versions = {"numpy": np.__version__}

    def logits(self, count: int) -> list[list[float]]:
        return []

    def round(self, steps: int) -> dict[str, Any]:
        for _ in range(steps):
            np.matmul(self.a, self.b, out=self.c)
        return {"images": steps}


if __name__ == "__main__":
    serve(Blas)
