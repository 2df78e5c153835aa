"""The worker for minicnn on a GPU: its ordinary public path, pictures resident on the device."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

import minicnn as mc
from benchmarks import nets
from benchmarks.peers.own_worker import endless
from benchmarks.peers.protocol import serve

LOSSES = 6  # steps, on two batches in turn, whose losses are compared


class OwnGpu:
    """Trains with `mc.train_step` on shuffled `mc.Batches`, gathered on the device."""

    def __init__(self, task: dict[str, Any]) -> None:
        folder, self.batch = Path(task["folder"]), task["batch"]
        dtype = "float32" if task["precision"] == "tf32" else task["precision"]
        self.device = mc.device(task["device"])
        self.device.free_memory()
        self.free = free_bytes(self.device)
        self.model = nets.get(task["net"]).build(
            tuple(task["shape"]), seed=0, device=self.device, dtype=dtype
        )
        self.x = self.device.asarray(np.load(folder / "uint8.npy"))
        self.y = self.device.asarray(np.load(folder / "labels.npy"))
        self.parameters = self.model.params.count
        self.versions = {"minicnn": mc.__version__, "numpy": np.__version__}
        if self.device.kind == "gpu":
            self.versions["cupy"] = self.device.xp.__version__
        self.optimizer = mc.Adam(1e-3)
        self.batches = endless(
            mc.Batches(self.x, self.y, self.batch, stream=mc.Stream(0, "shuffle"), drop_last=True)
        )

    def logits(self, count: int) -> list[list[float]]:
        return mc.to_numpy(self.model.infer(self.x[:count])).tolist()

    def introduction(self) -> dict[str, Any]:
        """Return the losses of the first steps, and the memory taken on the device since."""
        parts = [slice(i * self.batch, (i + 1) * self.batch) for i in (0, 1)]
        if len(self.x) < 2 * self.batch:
            parts = parts[:1]
        losses = []
        for number in range(LOSSES):
            part = parts[number % len(parts)]
            loss = mc.train_step(self.model, self.optimizer, self.x[part], self.y[part])
            losses.append(float(loss))
        return {"losses": losses, "gpu_mb": (self.free - free_bytes(self.device)) / 1e6}

    def round(self, steps: int) -> dict[str, Any]:
        for _ in range(steps):
            x, labels = next(self.batches)
            mc.train_step(self.model, self.optimizer, x, labels)
        wait(self.device)
        return {"images": steps * self.batch}


def wait(device: mc.backend.Device) -> None:
    """Wait for everything on the device, whichever stream it was launched in."""
    if device.kind == "gpu":
        device.xp.cuda.Device(device.index).synchronize()


def free_bytes(device: mc.backend.Device) -> int:
    """Return the bytes that are free on the device; 0 for the CPU."""
    return int(device.xp.cuda.runtime.memGetInfo()[0]) if device.kind == "gpu" else 0


if __name__ == "__main__":
    serve(OwnGpu)
