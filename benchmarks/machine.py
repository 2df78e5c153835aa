"""What a measurement was made on: machine, versions, date, command."""

from __future__ import annotations

import os
import platform
import shlex
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np

ROOT = Path(__file__).resolve().parents[1]
OTHERS = 0.15  # cores that something else keeps busy: above it, a report says so
PLACES = ("--data-dir", "--json", "--model", "--picture", "--torch-python", "--keras-python")


def cores() -> int:
    """Count the cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def describe() -> dict[str, Any]:
    """Return the machine: processor, cores usable, memory, system, load before we began."""
    load = os.getloadavg()[0] if hasattr(os, "getloadavg") else None
    return {
        "cpu": cpu_model(),
        "cores": cores(),
        "memory_gb": round(memory_bytes() / 1e9, 1),
        "system": f"{platform.system()} {platform.release()} {platform.machine()}",
        "load_before": load,
    }


def cpu_model() -> str:
    """Return the processor's name as it gives it itself."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    named = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return named[0] if named else platform.machine()


def memory_bytes() -> int:
    """Return the machine's memory, 0 where it doesn't say."""
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (ValueError, AttributeError, OSError):
        return 0


def versions() -> dict[str, str]:
    """Return the versions of what is ours: Python, NumPy and its BLAS, minicnn and its commit."""
    from threadpoolctl import threadpool_info

    import minicnn

    blas = [f"{p['internal_api']} {p['version']}" for p in threadpool_info() if p.get("version")]
    return {
        "python": platform.python_version(),
        "numpy": np.__version__,
        "blas": ", ".join(sorted(set(blas))) or "unknown",
        "minicnn": f"{minicnn.__version__}{commit()}",
    }


def commit() -> str:
    """Return " (commit, changed)" of the checkout, or nothing where it isn't one."""
    try:
        words = ["git", "describe", "--always", "--dirty", "--abbrev=8", "--exclude=*"]
        done = subprocess.run(words, cwd=ROOT, capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        return ""
    return f" ({done.stdout.strip()})"


def command() -> str:
    """Return the command line as others would type it: places on this machine are left out."""
    words, before = [], ""
    for word in sys.argv[1:]:
        flag, equals, _ = word.partition("=")
        if flag in PLACES and equals:
            word = flag + equals + placeholder(flag)
        elif before in PLACES and not word.startswith("-"):
            word = placeholder(before)
        words.append(word)
        before = word
    return shlex.join(["python", f"benchmarks/{Path(sys.argv[0]).name}", *words])


def placeholder(flag: str) -> str:
    """Return what stands for a place: "--data-dir" gives DATA_DIR."""
    return flag.strip("-").replace("-", "_").upper()


def record(kind: str) -> dict[str, Any]:
    """Begin the record of a measurement; what was measured is added to it."""
    return {
        "kind": kind,
        "date": time.strftime("%Y-%m-%d"),
        "command": command(),
        "machine": describe(),
        "versions": versions(),
    }


class Watch:
    """Looks how busy the machine is from now on."""

    def __init__(self) -> None:
        self.busy, self.clock = busy_seconds(), time.perf_counter()

    def others(self, own: float) -> float:
        """Return how many cores somebody else kept busy, if ``own`` seconds of it were ours.

        0 where the machine doesn't say.
        """
        busy, wall = busy_seconds(), time.perf_counter() - self.clock
        return 0.0 if busy is None or self.busy is None else max(0.0, busy - self.busy - own) / wall


def busy_seconds() -> float | None:
    """Return the time that all cores together have worked since the start; None if not said."""
    try:
        with open("/proc/stat") as stat:
            ticks = [int(word) for word in stat.readline().split()[1:9]]
    except OSError:
        return None
    user, nice, system, _, _, irq, softirq, steal = ticks
    return (user + nice + system + irq + softirq + steal) / os.sysconf("SC_CLK_TCK")
