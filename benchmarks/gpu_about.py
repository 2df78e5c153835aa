"""Which GPU, driver and CUDA a measurement was made on."""

from __future__ import annotations

import subprocess
from typing import Any


def about(device: str) -> dict[str, Any]:
    """Return the GPU's name, memory, driver and CUDA versions; nothing for the CPU.

    Raises `DeviceError` where none works.
    """
    import minicnn as mc

    if device == "cpu":
        return {"name": "no GPU: the CPU in its place"}
    chosen = mc.device("gpu")
    runtime = chosen.xp.cuda.runtime
    found = {"name": mc.backend.probe_gpu(chosen.index).partition(" (CuPy")[0]}
    questions = {
        "memory": lambda: f"{runtime.memGetInfo()[1] / 2**30:.0f} GiB",
        "driver": driver,
        "driver's CUDA": lambda: written(runtime.driverGetVersion()),
        "CUDA": lambda: written(runtime.runtimeGetVersion()),
        "compute capability": lambda: capability(runtime.getDeviceProperties(chosen.index)),
    }
    for name, ask in questions.items():
        try:
            found[name] = ask()
        except Exception as error:  # a fact that can't be had is no reason to measure nothing
            found[name] = f"unknown ({type(error).__name__})"
    return found


def driver() -> str:
    """Return the driver's version, as nvidia-smi tells it."""
    words = ["nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader"]
    done = subprocess.run(words, capture_output=True, text=True, check=True, timeout=60)
    return done.stdout.split()[0]


def written(version: int) -> str:
    """Write CUDA's version as people do: 13010 is 13.1."""
    return f"{version // 1000}.{version % 1000 // 10}"


def capability(properties: dict[str, Any]) -> str:
    """Return the compute capability, such as 9.0."""
    return f"{properties['major']}.{properties['minor']}"
