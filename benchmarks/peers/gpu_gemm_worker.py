"""The worker for a GPU's roofline: the product of two large matrices, by cuBLAS through CuPy."""

from __future__ import annotations

from typing import Any

import numpy as np

from benchmarks.peers.protocol import serve


class Gemm:
    """Multiplies two matrices of random numbers; a "picture" here is one product.

    With CUPY_TF32=1 in its environment, CuPy multiplies float32 in TF32.
    """

    parameters = 0

    def __init__(self, task: dict[str, Any]) -> None:
        self.gpu = task["device"] == "gpu"
        side = task["side"]
        self.flops = 2 * side**3
        self.xp: Any = np
        self.versions = {"numpy": np.__version__}
        if self.gpu:
            import cupy

            self.xp, self.versions = cupy, {"cupy": cupy.__version__}
        rng = np.random.default_rng(0)
        kind = number_type(task["precision"])
        self.a, self.b = (
            self.xp.asarray(rng.standard_normal((side, side), dtype="float32")).astype(kind)
            for _ in "ab"
        )
        self.c = self.xp.matmul(self.a, self.b)

    def logits(self, count: int) -> list[list[float]]:
        return []

    def introduction(self) -> dict[str, Any]:
        """Say how many operations a product is, after a look at one of its rows."""
        expected = self.a[:1].astype("float32") @ self.b.astype("float32")
        error = float(abs(self.c[:1].astype("float32") - expected).max() / abs(expected).max())
        if not error < 2e-2:
            raise ValueError(f"the product is wrong: it differs by {error:.1g} of the largest")
        return {"flops": self.flops}

    def round(self, steps: int) -> dict[str, Any]:
        for _ in range(steps):
            self.xp.matmul(self.a, self.b, out=self.c)
        if self.gpu:
            self.xp.cuda.Device().synchronize()
        return {"images": steps}


def number_type(precision: str) -> Any:
    """Return the type of the matrices' numbers."""
    if precision == "bfloat16":
        import ml_dtypes  # NumPy's and CuPy's bfloat16; without it the roofline isn't measured

        return ml_dtypes.bfloat16
    return {"tf32": "float32"}.get(precision, precision)


if __name__ == "__main__":
    serve(Gemm)
