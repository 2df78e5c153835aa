"""The worker of `accuracy.py`: trains once, in minicnn or in PyTorch, and is judged once.

    {"do": "train", "task": {"framework": "torch", ...}}   ->  {"accuracy": 0.71, ...}

Both take the same way through the same batches; only the learner differs.
"""

from __future__ import annotations

import sys
import time
from typing import Any, Protocol

import numpy as np

import minicnn as mc
from benchmarks.accuracy_work import Work, prepare
from benchmarks.gpu_about import about
from benchmarks.peers.protocol import answer


class Learner(Protocol):
    """What each framework has to do."""

    device: str
    versions: dict[str, str]

    def freeze(self, epoch: int) -> None:
        """Freeze what the recipe freezes when ``epoch`` epochs are done."""

    def step(self, x: Any, labels: Any) -> None:
        """Learn from one batch."""

    def so_far(self) -> dict[str, float]:
        """Return loss and accuracy of the steps since the last call; wait for a GPU."""

    def evaluate(self, x: np.ndarray, y: np.ndarray) -> dict[str, float]:
        """Return loss and accuracy, by the weights and the views that the recipe tests with."""


class Own:
    """minicnn, by its public functions."""

    def __init__(self, work: Work) -> None:
        self.recipe, self.model = work.recipe, work.model
        self.optimizer = work.recipe.optimizer(len(work.batches))
        self.loss, self.meter = work.recipe.loss(), mc.Meter()
        gpu = work.model.device.kind == "gpu"
        self.device = about("gpu")["name"] if gpu else "CPU"
        self.versions = {"minicnn": mc.__version__, "numpy": np.__version__}
        if gpu:
            self.versions["cupy"] = work.model.device.xp.__version__

    def freeze(self, epoch: int) -> None:
        self.recipe.freeze(self.model, epoch)

    def step(self, x: Any, labels: Any) -> None:
        parts = self.recipe.accumulate
        mc.train_step(
            self.model, self.optimizer, x, labels, self.loss, self.meter, accumulate=parts
        )

    def so_far(self) -> dict[str, float]:
        found = {"loss": self.meter.loss, "accuracy": self.meter.accuracy}
        self.meter = mc.Meter()
        return found

    def evaluate(self, x: np.ndarray, y: np.ndarray) -> dict[str, float]:
        with self.recipe.weights_to_test(self.model, self.optimizer):
            return mc.evaluate(self.model, x, y, tta=self.recipe.tta)


class Torch:
    """PyTorch, by the twin of `peers.torch_recipe`."""

    def __init__(self, work: Work, task: dict[str, Any]) -> None:
        import torch

        from benchmarks.peers.torch_recipe import TorchRecipe

        torch.set_num_threads(task["threads"])
        torch.manual_seed(task["seed"])
        gpu = task["device"] == "gpu"
        if gpu and not torch.cuda.is_available():
            raise RuntimeError(f"PyTorch {torch.__version__} sees no GPU")
        torch.backends.cudnn.benchmark = gpu
        steps = len(work.batches)
        self.twin = TorchRecipe(work.recipe, work.model, steps, "cuda" if gpu else "cpu")
        self.device = torch.cuda.get_device_name() if gpu else "CPU"
        self.versions = {"torch": torch.__version__}
        self.seen, self.loss, self.right = 0, torch.zeros(()), torch.zeros(())

    def freeze(self, epoch: int) -> None:
        self.twin.freeze(epoch)

    def step(self, x: Any, labels: Any) -> None:
        loss, right = self.twin.step(x, labels)
        self.loss, self.right = loss * len(x) + self.loss, right + self.right
        self.seen += len(x)

    def so_far(self) -> dict[str, float]:
        loss, right, seen = float(self.loss), float(self.right), max(self.seen, 1)
        self.seen, self.loss, self.right = 0, self.loss * 0, self.right * 0
        return {"loss": loss / seen, "accuracy": right / seen}

    def evaluate(self, x: np.ndarray, y: np.ndarray) -> dict[str, float]:
        with self.twin.weights_to_test():
            return self.twin.evaluate(x, y)


def run(task: dict[str, Any]) -> dict[str, Any]:
    """Train and judge; return everything about it.

    "training seconds" begin before the recipe's preparation and the learner's making, and end
    before the judging; "total seconds" begin with the process (task["began"]).
    """
    own = task["framework"] == "minicnn"
    work = prepare(task, task["device"] if own else "cpu")
    recipe, summary = work.recipe, work.model.summary()
    start = time.perf_counter()
    recipe.prepare(work.model, work.pictures)
    learner: Learner = Own(work) if own else Torch(work, task)
    limit = task["minutes"] * 60 if task["minutes"] else float("inf")
    records: list[dict[str, Any]] = []
    steps = 0
    for epoch in range(recipe.epochs):
        learner.freeze(epoch)
        before, stopped = time.perf_counter(), False
        for x, labels in work.batches:
            learner.step(x, labels)
            steps += 1
            if time.perf_counter() - start > limit:
                stopped = True
                break
        found = learner.so_far()
        seconds = time.perf_counter() - before
        records.append({"epoch": epoch + 1, **found, "seconds": seconds})
        print(records[-1], file=sys.stderr, flush=True)
        if stopped:
            break
    training = time.perf_counter() - start
    scores = learner.evaluate(*work.judged)
    whole = time.perf_counter() - start
    return {
        "framework": task["framework"],
        "recipe": recipe.name,
        "tables": recipe.tables,
        "network": recipe.tables["model"]["name"],
        "seed": task["seed"],
        "epochs": recipe.epochs,
        "steps": steps,
        "stopped": steps < recipe.epochs * len(work.batches),
        "training_seconds": training,
        "judging_seconds": whole - training,
        "total_seconds": time.time() - task["began"],
        "judged_on": work.judged_on,
        **scores,
        "records": records,
        "parameters": work.model.params.count,
        "multiply_adds": summary.multiply_adds,
        "device": learner.device,
        "data": work.data,
        "versions": learner.versions,
    }


def obey(order: dict[str, Any]) -> dict[str, Any]:
    """Do what was ordered."""
    if order["do"] != "train":
        raise ValueError(f"order {order['do']!r}: expected 'train'")
    return run(order["task"])


if __name__ == "__main__":
    answer(obey)
