"""The worker for what is looked at once on a GPU: each task in a process of its own.

    {"do": "about", "task": {...}}   ->  {"name": "NVIDIA H200", ...}

Nothing heavy is imported before it is asked for: how long that takes is measured.
"""

from __future__ import annotations

import importlib
import sys
import tempfile
from pathlib import Path
from typing import Any

from benchmarks.gpu_settings import visible
from benchmarks.peers.protocol import Worker, answer

TASKS = {
    "about": "benchmarks.gpu_about",
    "steps": "benchmarks.gpu_steps",
    "launches": "benchmarks.gpu_host",
    "step_cost": "benchmarks.gpu_host",
    "first_step": "benchmarks.gpu_host",
    "epochs": "benchmarks.gpu_epochs",
}
PATIENCE = 400.0  # seconds for a task


def run(
    name: str,
    device: str,
    threads: int,
    variables: dict[str, str] | None = None,
    patience: float = PATIENCE,
    **task: Any,
) -> dict[str, Any]:
    """Do a task in a process of its own; return what it found.

    variables: of its environment.  Raises `WorkerError` with its own words if it fails.
    """
    with tempfile.TemporaryDirectory() as folder:
        log = Path(folder) / "log"
        seen = visible(device) | (variables or {})
        worker = Worker(sys.executable, __name__, threads, log, seen, patience)
        try:
            return worker.ask(name, task={"device": device, **task})
        finally:
            worker.close()


def obey(order: dict[str, Any]) -> dict[str, Any]:
    """Do what was ordered: the function of that name, in the file that has it."""
    module = importlib.import_module(TASKS[order["do"]])
    found: dict[str, Any] = getattr(module, order["do"])(**order["task"])
    return found


if __name__ == "__main__":
    answer(obey)
