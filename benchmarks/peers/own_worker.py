"""The worker for minicnn: its ordinary public path, fed uint8 pictures."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

import minicnn as mc
from benchmarks import nets
from benchmarks.peers.protocol import one_by_one, serve


class Own:
    """Trains with `mc.train_step` on shuffled `mc.Batches`, or predicts with `mc.predict`."""

    def __init__(self, task: dict[str, Any]) -> None:
        folder, self.batch = Path(task["folder"]), task["batch"]
        self.x, y = np.load(folder / "uint8.npy"), np.load(folder / "labels.npy")
        self.model = nets.get(task["net"]).build(self.x.shape[1:], seed=0)
        self.parameters = self.model.params.count
        self.versions = {"minicnn": mc.__version__, "numpy": np.__version__}
        self.training = task["mode"] == "train"
        self.optimizer = mc.Adam(1e-3)
        self.pictures = (self.x[i : i + 1] for i in itertools.cycle(range(len(self.x))))
        self.batches = endless(
            mc.Batches(self.x, y, self.batch, stream=mc.Stream(0, "shuffle"), drop_last=True)
        )

    def logits(self, count: int) -> list[list[float]]:
        return self.model.infer(self.x[:count]).tolist()

    def round(self, steps: int) -> dict[str, Any]:
        if self.training:
            for _ in range(steps):
                x, labels = next(self.batches)
                mc.train_step(self.model, self.optimizer, x, labels)
        elif self.batch == 1:
            return one_by_one(lambda: mc.predict(self.model, next(self.pictures), 1), steps)
        else:
            left = steps * self.batch
            while left:
                block = self.x[:left]
                mc.predict(self.model, block, batch_size=self.batch)
                left -= len(block)
        return {"images": steps * self.batch}


def endless(batches: mc.Batches) -> Iterator[tuple[Any, Any]]:
    """Yield batches for ever, epoch after epoch."""
    while True:
        yield from batches


if __name__ == "__main__":
    serve(Own)
