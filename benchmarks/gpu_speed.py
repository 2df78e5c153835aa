"""Training speed on a GPU: minicnn and PyTorch in turns, each precision against its own class."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks import nets
from benchmarks.comparison import write_files
from benchmarks.gpu_settings import FIRST_LOSS, GEMM, LEARNED, class_of
from benchmarks.peers.protocol import WorkerError
from benchmarks.rounds import checker, run
from benchmarks.settings import Setting

PATIENCE = 600.0  # seconds for one answer: to compile a network takes minutes


@dataclass(frozen=True)
class Work:
    """What all contenders do."""

    net: str
    batch: int
    device: str
    threads: int
    rounds: int
    seconds: float
    data: str = "drawn pictures"
    side: int = 8192  # of the roofline's matrices


class SameWork:
    """Checks that a worker has the same network, and that it learns the same from its first steps.

    Whoever comes first, minicnn in float32, says what the losses should be.
    """

    def __init__(self, logits: list[list[float]], parameters: int) -> None:
        self.check_network = checker(logits, parameters)
        self.losses: list[float] = []

    def __call__(self, setting: Setting, reply: dict[str, Any]) -> None:
        """Raise `WorkerError` if it isn't so."""
        if setting.peer == GEMM:
            return
        self.check_network(setting, reply)
        losses = reply["losses"]
        if not np.isfinite(losses).all():
            raise WorkerError(f"its losses aren't finite: {losses}")
        if not self.losses:
            self.losses = losses
        check_losses(losses, self.losses, class_of(setting))


def check_losses(losses: list[float], expected: list[float], precision: str) -> None:
    """Raise `WorkerError` unless the first loss, and what they fall by, are as expected."""
    first = abs(losses[0] - expected[0]) / abs(expected[0])
    if first > FIRST_LOSS[precision]:
        raise WorkerError(f"other work: its first loss is {losses[0]:.5g}, not {expected[0]:.5g}")
    learned, wanted = (sum(a[:2]) / 2 - sum(a[-2:]) / 2 for a in (losses, expected))
    if abs(learned - wanted) > LEARNED[precision] * abs(wanted):
        raise WorkerError(
            f"other work: in {len(losses)} steps its loss falls by {learned:.3g}, not {wanted:.3g}"
        )


def measure(
    work: Work,
    data: tuple[np.ndarray, np.ndarray],
    settings: list[Setting],
    pythons: dict[str, str],
    say: Callable[[str], None],
) -> dict[str, Any]:
    """Measure all settings on the same work, in turns; return the record.

    data: uint8 pictures (N, H, W, C) and labels (N,).
    """
    x, y = (array[: len(array) // work.batch * work.batch] for array in data)
    if len(x) == 0:
        raise ValueError(f"{len(data[0])} pictures make no batch of {work.batch}")
    model = nets.get(work.net).build(x.shape[1:], seed=0)
    summary = model.summary()
    check = SameWork(model.infer(x[:4]).tolist(), summary.parameters)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_files(folder, model, x, y, {setting.layout for setting in settings})
        task = {
            "folder": name,
            "net": work.net,
            "config": model.config(),
            "shape": x.shape[1:],
            "batch": work.batch,
            "device": work.device,
            "threads": work.threads,
            "side": work.side,
            "patience": PATIENCE,
        }
        schedule = work.rounds, work.seconds
        ahead = work.device == "gpu" and work.threads >= 8
        runners, skipped = run(
            settings, task, folder, pythons, check, schedule, say, needed=(), ahead=ahead
        )
    return {
        "net": work.net,
        "batch": work.batch,
        "pictures": len(x),
        "data": work.data,
        "parameters": summary.parameters,
        "multiply_adds": summary.multiply_adds,
        "versions": {k: v for runner in runners for k, v in runner.start["versions"].items()},
        "contenders": [r.report() | {"precision": class_of(r.setting)} for r in runners],
        "skipped": skipped,
    }
