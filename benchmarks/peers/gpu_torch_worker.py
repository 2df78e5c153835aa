"""The worker for PyTorch on a GPU: eager, compiled, or the whole step as one CUDA graph."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from benchmarks.peers.protocol import serve
from benchmarks.peers.torch_twin import copy_weights, twin

LOSSES = 6  # as in gpu_own_worker
MODES = {"compile": "reduce-overhead", "max-autotune": "max-autotune"}
WARM_UP = 5  # steps before a graph is captured: cuDNN tries its algorithms in the first


def multiply_in(precision: str) -> None:
    """Choose what float32 products are computed in: "float32", "tf32" or PyTorch's "default"."""
    torch.set_float32_matmul_precision("high" if precision == "tf32" else "highest")
    torch.backends.cudnn.allow_tf32 = precision in ("tf32", "default")


class TorchGpu:
    """Trains on batches that lie in order on the device; no step reads its loss.

    The pictures are floats, normalized beforehand, in the layout of the network, and in bfloat16
    where it computes in that.  Adam is the fused one.  Where there is no GPU, for the tests, a
    "graph" is the same step without capture.
    """

    def __init__(self, task: dict[str, Any]) -> None:
        torch.set_num_threads(task["threads"])
        torch.manual_seed(0)
        self.on_gpu = task["device"] == "gpu"
        if self.on_gpu and not torch.cuda.is_available():
            raise RuntimeError(f"PyTorch {torch.__version__} sees no GPU")
        self.device = torch.device("cuda" if self.on_gpu else "cpu")
        self.precision, self.how, self.batch = task["precision"], task["how"], task["batch"]
        torch.backends.cudnn.benchmark = self.precision != "default"
        self.free = torch.cuda.mem_get_info()[0] if self.on_gpu else 0
        folder = Path(task["folder"])
        self.x = torch.from_numpy(np.load(folder / f"{task['layout']}.npy")).to(self.device)
        self.y = torch.from_numpy(np.load(folder / "labels.npy")).to(self.device)
        model = twin(task["config"], task["shape"])
        with np.load(folder / "weights.npz") as weights:
            copy_weights(model, [weights[name] for name in weights.files])
        model.to(self.device)
        if task["layout"] == "nhwc":
            self.x = self.x.permute(0, 3, 1, 2)  # the same memory: channels_last
            model.to(memory_format=torch.channels_last)
        self.eager = model
        self.parameters = sum(p.numel() for p in model.parameters())
        self.versions = {"torch": torch.__version__}
        if self.on_gpu:
            cuda, cudnn = torch.version.cuda, torch.backends.cudnn.version()
            self.versions |= {"torch's CUDA": str(cuda), "cuDNN": str(cudnn)}
        self.optimizer = torch.optim.Adam(
            model.parameters(), 1e-3, fused=True, capturable=self.on_gpu and self.how == "graph"
        )
        self.position = 0

    def logits(self, count: int) -> list[list[float]]:
        """Return the network's outputs, eager and in float32: is it the same network?"""
        multiply_in("float32")
        with torch.no_grad():
            y = self.eager.eval()(self.x[:count]).tolist()
        self.eager.train()
        multiply_in(self.precision)
        return y

    def introduction(self) -> dict[str, Any]:
        """Get ready to train; return the losses of the first steps, and the memory taken."""
        if self.precision == "bfloat16":
            self.x = self.x.to(torch.bfloat16)
        self.loss_of = self.loss_of_batch
        if self.how in MODES:
            self.loss_of = torch.compile(self.loss_of_batch, mode=MODES[self.how])
        if self.how == "graph":
            self.prepare_graph()
        count = min(2, len(self.x) // self.batch)
        losses = [float(self.step(*self.cut(i % count))) for i in range(LOSSES)]
        if not self.on_gpu:
            return {"losses": losses, "gpu_mb": 0.0}
        torch.cuda.synchronize()
        return {"losses": losses, "gpu_mb": (self.free - torch.cuda.mem_get_info()[0]) / 1e6}

    def round(self, steps: int) -> dict[str, Any]:
        for _ in range(steps):
            self.step(*self.cut(self.position))
            self.position = (self.position + 1) % (len(self.x) // self.batch)
        if self.on_gpu:
            torch.cuda.synchronize()
        return {"images": steps * self.batch}

    def cut(self, number: int) -> tuple[Tensor, Tensor]:
        """Return a batch: a view."""
        part = slice(number * self.batch, (number + 1) * self.batch)
        return self.x[part], self.y[part]

    def loss_of_batch(self, x: Tensor, labels: Tensor) -> Tensor:
        """Return the loss, in the precision that was asked for."""
        with torch.autocast(
            self.device.type,
            torch.bfloat16,
            enabled=self.precision == "bfloat16",
            cache_enabled=self.how != "graph",  # what was cast before a capture isn't in it
        ):
            return cross_entropy(self.eager(x), labels)

    def learn(self, x: Tensor, labels: Tensor) -> Tensor:
        """Do one step; return its loss."""
        self.optimizer.zero_grad(set_to_none=True)
        loss = self.loss_of(x, labels)
        loss.backward()
        self.optimizer.step()
        return loss.detach()

    def step(self, x: Tensor, labels: Tensor) -> Tensor:
        """Do one step in the way that was asked for."""
        if self.how == "graph":
            self.static[0].copy_(x)
            self.static[1].copy_(labels)
            return self.replay()
        if self.how in MODES and self.on_gpu:
            torch.compiler.cudagraph_mark_step_begin()
        return self.learn(x, labels)

    def prepare_graph(self) -> None:
        """Capture forward, backward and update as one graph, on copies of the first batch.

        The steps before a capture train; afterwards everything is put back as it was.
        """
        self.static = tuple(part.clone() for part in self.cut(0))
        before = {name: value.clone() for name, value in self.eager.state_dict().items()}
        if self.on_gpu:
            self.replay = self.captured()
        else:
            self.replay = lambda: self.learn(*self.static)
            self.replay()
        with torch.no_grad():
            for name, value in self.eager.state_dict().items():
                value.copy_(before[name])
            for memory in self.optimizer.state.values():
                for value in memory.values():
                    value.zero_()  # Adam's step and moments all begin at 0

    def captured(self) -> Any:
        """Return what replays the graph of one step and gives its loss."""
        stream = torch.cuda.Stream()
        stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(stream):
            for _ in range(WARM_UP):
                self.learn(*self.static)
        torch.cuda.current_stream().wait_stream(stream)
        torch.cuda.synchronize()
        self.optimizer.zero_grad(set_to_none=True)  # gradients are made in the graph's own memory
        self.graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(self.graph):
            loss = self.learn(*self.static)

        def replay() -> Tensor:
            self.graph.replay()
            return loss

        return replay


if __name__ == "__main__":
    serve(TorchGpu)
