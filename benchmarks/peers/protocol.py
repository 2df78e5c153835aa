"""How a benchmark talks to its workers: one line of JSON each way.  Standard library only.

The parent starts a process that imports one framework, builds one network and then waits.  It
does something only when it is told to, so that the workers can take turns on one machine:

    {"do": "start", "task": {...}}   ->  {"parameters": ..., "logits": [[...]], ...}
    {"do": "round", "steps": 40}     ->  {"images": 5120, "seconds": 0.71, ...}

What goes wrong comes back as {"error": "..."}.  At the end of its standard input a worker leaves.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
import time
import traceback
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Any, Protocol

ROOT = Path(__file__).resolve().parents[2]
THREAD_VARIABLES = (
    "MINICNN_NUM_THREADS",
    "OMP_NUM_THREADS",
    "OPENBLAS_NUM_THREADS",
    "MKL_NUM_THREADS",
    "TF_NUM_INTRAOP_THREADS",
    "TF_NUM_INTEROP_THREADS",
)


class WorkerError(RuntimeError):
    """A worker couldn't do what it was told; the text is its own."""


class Worker:
    """The parent's end: a process of ``module`` under ``python``, with so many threads.

    variables: of its environment, besides those of `environment`.  patience: seconds to wait for
    an answer; who takes longer is ended.
    """

    def __init__(
        self,
        python: str,
        module: str,
        threads: int,
        log: Path,
        variables: dict[str, str] | None = None,
        patience: float = 3600.0,
    ) -> None:
        self.log, self.patience = log, patience
        try:
            with log.open("w") as stderr:
                self.process = subprocess.Popen(
                    [python, "-m", module],
                    stdin=subprocess.PIPE,
                    stdout=subprocess.PIPE,
                    stderr=stderr,
                    env=environment(python, threads) | (variables or {}),
                    cwd=ROOT,
                    text=True,
                )
        except OSError as error:
            raise WorkerError(f"it can't be started: {error}") from error

    def ask(self, do: str, **order: Any) -> dict[str, Any]:
        """Give an order, wait for the answer; raises `WorkerError` with what the worker says."""
        clock = threading.Timer(self.patience, self.process.kill)
        clock.daemon = True
        start = time.perf_counter()
        try:
            clock.start()
            self.process.stdin.write(json.dumps({"do": do, **order}) + "\n")
            self.process.stdin.flush()
            line = self.process.stdout.readline()
        except BrokenPipeError:
            line = ""
        finally:
            clock.cancel()
        if not line and time.perf_counter() - start >= self.patience:
            raise WorkerError(f"it gave no answer for {self.patience:.0f} seconds")
        if not line:
            last = self.log.read_text(errors="replace").strip().splitlines()[-1:]
            raise WorkerError(f"it ended: {''.join(last) or 'without a word'}")
        reply = json.loads(line)
        if "error" in reply:
            raise WorkerError(reply["error"])
        return reply

    def close(self) -> None:
        """Let the worker leave, and see to it that it does."""
        try:
            self.process.stdin.close()
            self.process.wait(timeout=10)
        except (subprocess.TimeoutExpired, BrokenPipeError):
            self.process.kill()
            self.process.wait()
        self.process.stdout.close()


def environment(python: str, threads: int) -> dict[str, str]:
    """Return the variables for a worker: the CPU alone, so many threads, this folder on the path.

    Another Python than ours isn't given our PYTHONPATH: what lies there is made for ours.
    """
    paths = [str(ROOT)]
    if python == sys.executable and os.environ.get("PYTHONPATH"):
        paths.append(os.environ["PYTHONPATH"])
    return os.environ | {
        "PYTHONPATH": os.pathsep.join(paths),
        "CUDA_VISIBLE_DEVICES": "",
        "TF_CPP_MIN_LOG_LEVEL": "2",
        "KERAS_BACKEND": "tensorflow",
        **dict.fromkeys(THREAD_VARIABLES, str(threads)),
    }


class Contender(Protocol):
    """The worker's end: what each framework has to offer."""

    parameters: int
    versions: dict[str, str]

    def logits(self, count: int) -> list[list[float]]:
        """Return the outputs for the first pictures: all contenders must agree on them."""

    def round(self, steps: int) -> dict[str, Any]:
        """Do so many steps; return {"images": ...}, and {"latency_us": ...} for batches of one."""


def serve(make: Callable[[dict[str, Any]], Contender]) -> None:
    """Be a worker: make a contender when it is to start, and then do its rounds."""
    contenders = []

    def obey(order: dict[str, Any]) -> dict[str, Any]:
        if order["do"] != "start":
            return timed(contenders[-1], order["steps"])
        contenders.append(make(order["task"]))
        return introduce(contenders[-1])

    answer(obey)


def answer(obey: Callable[[dict[str, Any]], dict[str, Any]]) -> None:
    """Answer orders until they end.  What a framework prints goes to standard error."""
    replies = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    for line in sys.stdin:
        try:
            reply = obey(json.loads(line))
        except Exception as error:  # whatever it is, the parent shall know and say it
            said = " ".join(str(error).split())[:300]
            where = traceback.extract_tb(error.__traceback__)[-1]
            place = f"{Path(where.filename).name}, line {where.lineno}"
            reply = {"error": f"{type(error).__name__}: {said} ({place})"}
        replies.write(json.dumps(reply) + "\n")
        replies.flush()


def introduce(contender: Contender) -> dict[str, Any]:
    """Say who is there, and how much memory it took before its first step.

    A contender may have more to say: ``introduction()``.
    """
    loaded = memory("VmRSS")
    return {
        "parameters": contender.parameters,
        "versions": contender.versions,
        "loaded_mb": loaded,
        "logits": contender.logits(4),
        **(contender.introduction() if hasattr(contender, "introduction") else {}),
    }


def timed(contender: Contender, steps: int) -> dict[str, Any]:
    """Do a round; say how long it took, how much work that was, and the memory's peak so far.

    A tenth more comes first and isn't timed: after a sleep, threads look for their cores anew.
    """
    cpu = processor_time()
    if steps >= 10:
        contender.round(steps // 10)
    start = time.perf_counter()
    done = contender.round(steps)
    seconds = time.perf_counter() - start
    cpu = processor_time() - cpu
    return {**done, "seconds": seconds, "cpu_seconds": cpu, "peak_mb": peak()}


def one_by_one(step: Callable[[], Any], steps: int) -> dict[str, Any]:
    """Do steps of one picture each; "latency_us" is the median time of one, in microseconds."""
    times = []
    for _ in range(steps):
        start = time.perf_counter()
        step()
        times.append(time.perf_counter() - start)
    return {"images": steps, "latency_us": median(times) * 1e6}


def children() -> list[str]:
    """Return the numbers of the processes that this one has started; on Linux alone."""
    try:
        threads = os.listdir("/proc/self/task")
        return [
            number
            for thread in threads
            for number in Path(f"/proc/self/task/{thread}/children").read_text().split()
        ]
    except OSError:
        return []


def processor_time() -> float:
    """Return the seconds that this process and its children were at work."""
    ticks = 0
    for number in children():
        fields = Path(f"/proc/{number}/stat").read_text().rpartition(")")[2].split()
        ticks += int(fields[11]) + int(fields[12])  # in user mode, and in the kernel for it
    return time.process_time() + (ticks / os.sysconf("SC_CLK_TCK") if ticks else 0)


def peak() -> float:
    """Return the most memory in MB that this process ever had, with what its children have now.

    What several share is counted once.
    """
    most, family = memory("VmHWM"), children()
    if family:
        most += sum(map(share, ["self", *family])) - memory("VmRSS")
    return most


def share(number: str) -> float:
    """Return a process's share of memory in MB: of pages that k processes have, the k-th part."""
    lines = Path(f"/proc/{number}/smaps_rollup").read_text().splitlines()
    found = next(line for line in lines if line.startswith("Pss:"))
    return int(found.split()[1]) * 1024 / 1e6


def memory(field: str) -> float:
    """Return this process's memory in MB: VmRSS is what it has now, VmHWM the most it ever had.

    Linux says both.  Elsewhere it is the peak for both; on Linux ru_maxrss wouldn't do, for it
    goes on counting what the parent had when it started us.
    """
    try:
        with open("/proc/self/status") as status:
            found = next(line for line in status if line.startswith(field + ":"))
        return int(found.split()[1]) * 1024 / 1e6
    except OSError:
        import resource

        unit = 1 if sys.platform == "darwin" else 1024
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 1e6
