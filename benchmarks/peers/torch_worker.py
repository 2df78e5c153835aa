"""The worker for PyTorch."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from benchmarks.peers.protocol import one_by_one, serve
from benchmarks.peers.torch_twin import copy_weights, twin


class Torch:
    """Trains or predicts in one layout, eager or compiled, on batches as they lie or shuffled.

    The pictures are floats, normalized beforehand, in the layout of the network.  No step reads
    its loss; Adam is the fused one, the fastest of PyTorch's.
    """

    def __init__(self, task: dict[str, Any]) -> None:
        torch.set_num_threads(task["threads"])
        torch.manual_seed(0)
        folder, self.batch = Path(task["folder"]), task["batch"]
        self.x = torch.from_numpy(np.load(folder / f"{task['layout']}.npy"))
        self.y = torch.from_numpy(np.load(folder / "labels.npy"))
        model = twin(task["config"], task["shape"])
        with np.load(folder / "weights.npz") as weights:
            copy_weights(model, [weights[name] for name in weights.files])
        if task["layout"] == "nhwc":
            self.x = self.x.permute(0, 3, 1, 2)  # the same memory: channels_last
            model.to(memory_format=torch.channels_last)
        self.parameters = sum(p.numel() for p in model.parameters())
        self.versions = {"torch": torch.__version__}
        self.training, self.shuffled = task["mode"] == "train", task["shuffled"]
        self.model = torch.compile(model.train(self.training)) if task["compiled"] else model
        self.optimizer = torch.optim.Adam(model.parameters(), 1e-3, fused=True)
        self.eager, self.position = model, len(self.x)

    def logits(self, count: int) -> list[list[float]]:
        with torch.inference_mode():
            y = self.eager.eval()(self.x[:count]).tolist()
        self.eager.train(self.training)
        return y

    def round(self, steps: int) -> dict[str, Any]:
        if self.training:
            for _ in range(steps):
                self.train_step()
            return {"images": steps * self.batch}
        with torch.inference_mode():
            if self.batch == 1:
                return one_by_one(lambda: self.model(self.next_batch()[0]), steps)
            for _ in range(steps):
                self.model(self.next_batch()[0])
        return {"images": steps * self.batch}

    def train_step(self) -> None:
        """Learn from one batch."""
        x, labels = self.next_batch()
        self.optimizer.zero_grad()
        loss = cross_entropy(self.model(x), labels)
        loss.backward()
        self.optimizer.step()

    def next_batch(self) -> tuple[Tensor, Tensor]:
        """Return the next batch: a view, or pictures gathered from all over the data."""
        if self.position + self.batch > len(self.x):
            self.position = 0
            if self.shuffled:
                self.order = torch.randperm(len(self.x))
        part = slice(self.position, self.position + self.batch)
        self.position += self.batch
        chosen = self.order[part] if self.shuffled else part
        return self.x[chosen], self.y[chosen]


if __name__ == "__main__":
    serve(Torch)
