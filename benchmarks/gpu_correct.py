"""Is a GPU right?  The same steps on the CPU and on it, by graph and without, in every dtype.

Every line says what was compared, how far apart it was, and how far it may be:

- float32 and float64 against the CPU, from the same seed: the loss of one step, its gradients and
  the weights after it, each relative to the largest of them.  In float32 the CPU is itself
  some way from float64: four times as much is allowed, 1e-4 in any case, 1e-2 at most.  In deep
  networks that says little: a ReLU that a rounding switches changes a gradient by percents.  There
  float64 is the proof.
- An epoch's losses, step by step, likewise; not of deep networks on small batches, in which one
  rounding soon changes everything.
- A graph against kernel by kernel, and a second run against the first: bit for bit.
- TF32, bfloat16 and float16 against float32 on the same GPU: the norm of what differs.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks import gpu_tasks
from benchmarks.peers.protocol import WorkerError
from benchmarks.report import aligned

NETS = {"tutorial_cnn": (64, 2048, 32), "vgg_like": (32, 128, 4), "resnet18": (16, 64, 4)}
"""Batch size, pictures, steps."""
QUICK = {"tutorial_cnn": (64, 2048, 32), "resnet18": (16, 64, 4)}
MOST, MOST_DEEP = 1e-2, 0.3
CURVES = ("tutorial_cnn",)
SHORT = {"tf32": (2e-3, 0.25, 0.02), "bfloat16": (2e-2, 1.0, 0.05), "float16": (5e-3, 0.25, 0.05)}
"""Bounds for the loss, for the gradients in parts of `GRADIENTS`, for the epoch's last losses."""
GRADIENTS = {"tutorial_cnn": 0.2, "vgg_like": 0.3, "resnet18": 0.6}
"""How far gradients in bfloat16 may be off: twice what PyTorch's autocast is on the same batch on a
CPU (0.10, 0.16, 0.35).  A rounding decides who wins a maximum, and the deeper, the more do so."""


@dataclass(frozen=True)
class Way:
    """How steps are computed."""

    device: str
    dtype: str = "float32"
    graphs: bool = True
    tf32: bool = False
    again: int = 0

    @property
    def variables(self) -> dict[str, str]:
        """What says so to the process."""
        return {"MINICNN_GRAPHS": str(int(self.graphs)), "MINICNN_TF32": str(int(self.tf32))}


@dataclass(frozen=True)
class Finding:
    """One comparison: what, how far apart, how far it may be."""

    net: str
    what: str
    found: float
    bound: float
    note: str = ""

    @property
    def passed(self) -> bool:
        """Whether it is within its bound; NaN isn't."""
        return self.found <= self.bound

    def record(self) -> dict[str, Any]:
        """Return what goes into the record."""
        return {**vars(self), "passed": self.passed}


def check(
    device: str, nets: dict[str, tuple[int, int, int]], threads: int, say: Callable[[str], None]
) -> dict[str, Any]:
    """Compare everything; return {"findings": [...], "failed": {what: why}}."""
    findings: list[Finding] = []
    failed: dict[str, str] = {}
    with tempfile.TemporaryDirectory() as folder:
        for net, (batch, pictures, count) in nets.items():

            @cache
            def after(
                way: Way, net: str = net, batch: int = batch, n: int = pictures, k: int = count
            ) -> dict[str, np.ndarray]:
                say(f"{net}: {way.dtype}{' TF32' * way.tf32} on the {way.device}")
                out = Path(folder) / f"{len(list(Path(folder).iterdir()))}.npz"
                options = {"net": net, "batch": batch, "pictures": n, "count": k, "out": str(out)}
                gpu_tasks.run(
                    "steps", way.device, threads, way.variables, dtype=way.dtype, **options
                )
                with np.load(out) as arrays:
                    return dict(arrays)

            for what, compared in CHECKS.items():
                try:
                    findings += compared(net, device, after)
                except (WorkerError, OSError) as error:
                    failed[f"{net}: {what}"] = str(error)
    return {"findings": [finding.record() for finding in findings], "failed": failed}


After = Callable[[Way], dict[str, np.ndarray]]


def against_cpu(net: str, device: str, after: After) -> Iterator[Finding]:
    """Compare float32 with the CPU's float32; both have float64's numbers to be near to."""
    ours, cpu, exact = after(Way(device)), after(Way("cpu")), after(Way("cpu", "float64"))
    for kind in ("loss", "grad", "weight", *(["losses"] if net in CURVES else [])):
        apart, where = distance(ours, cpu, kind)
        own, _ = distance(cpu, exact, kind)
        least = 2e-2 if kind == "losses" else 1e-4
        what = {"losses": "losses of an epoch", "loss": "loss of one step"}.get(kind, f"{kind}s")
        note = f"{where}; the CPU is {own:.1g} from float64".removeprefix("; ")
        most = MOST if net in CURVES else MOST_DEEP
        bound = max(least, min(0.1 if kind == "losses" else most, 4 * own))
        yield Finding(net, f"float32 against the CPU: {what}", apart, bound, note)


def against_cpu_in_float64(net: str, device: str, after: After) -> Iterator[Finding]:
    """Compare float64 with the CPU's."""
    ours, exact = after(Way(device, "float64")), after(Way("cpu", "float64"))
    for kind in ("loss", "grad", "weight"):
        apart, where = distance(ours, exact, kind)
        yield Finding(net, f"float64 against the CPU: {kind}", apart, 1e-9, where)


def graphs(net: str, device: str, after: After) -> Iterator[Finding]:
    """Compare a captured step with the same kernels launched one by one, and with itself."""
    ours = after(Way(device))
    for what, way in {
        "graph against kernel by kernel": Way(device, graphs=False),
        "a second run against the first": Way(device, again=1),
    }.items():
        other = after(way)
        differ = sum(
            int((ours[name] != other[name]).sum()) for name in ("losses", "final")
        )  # numbers that aren't the same, bit for bit
        yield Finding(net, f"{what}: numbers that differ", float(differ), 0.0)


def short_types(net: str, device: str, after: After) -> Iterator[Finding]:
    """Compare TF32, bfloat16 and float16 with float32."""
    if device == "cpu":
        return
    exact = after(Way(device))
    for name, (first, part, last) in SHORT.items():
        bounds = first, part * GRADIENTS.get(net, 0.6), last
        ours = after(Way(device, tf32=True) if name == "tf32" else Way(device, name))
        gradients = norm_apart(ours, exact)
        late = slice(-max(1, len(exact["losses"]) // 4), None)
        ends = [float(np.mean(a["losses"][late])) for a in (ours, exact)]
        found = distance(ours, exact, "loss")[0], gradients, abs(ends[0] / ends[1] - 1)
        for what, apart, bound in zip(
            ("loss of one step", "gradients, by norm", "last losses"), found, bounds, strict=True
        ):
            if net in CURVES or what != "last losses":
                yield Finding(net, f"{name} against float32: {what}", apart, bound)
        same = float(gradients < 1e-6)
        yield Finding(net, f"{name} is float32 after all", same, 0.0, "1 if it wasn't used")


CHECKS: dict[str, Callable[[str, str, After], Iterator[Finding]]] = {
    "against the CPU": against_cpu,
    "float64": against_cpu_in_float64,
    "graphs": graphs,
    "short types": short_types,
}


def distance(
    ours: dict[str, np.ndarray], theirs: dict[str, np.ndarray], kind: str
) -> tuple[float, str]:
    """Return the largest difference, relative to the largest number of the array, and its name.

    An array whose numbers are all tiny, such as gradients that are nothing but rounding, is
    measured against a thousandth of the largest number of all arrays.
    """
    names = [name for name in theirs if name == kind or name.startswith(f"{kind} ")]
    if kind == "losses":
        return float((abs(ours[kind] - theirs[kind]) / abs(theirs[kind])).max()), ""
    least = 1e-3 * max(abs(theirs[name]).max() for name in names)
    apart = {
        name: float(abs(ours[name] - theirs[name]).max() / max(abs(theirs[name]).max(), least))
        for name in names
    }
    if any(np.isnan(value) for value in apart.values()):
        return float("nan"), "not a number"
    worst = max(apart, key=lambda name: apart[name])
    return apart[worst], worst.partition(" ")[2]


def norm_apart(ours: dict[str, np.ndarray], theirs: dict[str, np.ndarray]) -> float:
    """Return the norm of the gradients' difference, relative to their norm."""
    a, b = (
        np.concatenate([v.ravel() for k, v in found.items() if k.startswith("grad ")])
        for found in (ours, theirs)
    )
    return float(np.linalg.norm(a - b) / np.linalg.norm(b))


def text(found: dict[str, Any]) -> str:
    """Return the comparisons as a table."""
    rows = [["", "apart", "allowed", ""]]
    for f in found["findings"]:
        word = "ok" if f["passed"] else "WRONG"
        rows.append([f"{f['net']}, {f['what']}", f"{f['found']:.2g}", f"{f['bound']:.2g}", word])
        rows[-1][0] += f" ({f['note']})" if f["note"] else ""
    wrong = sum(not f["passed"] for f in found["findings"])
    said = [*aligned(rows), ""]
    said += [f"couldn't be compared: {what}: {why}" for what, why in found["failed"].items()]
    return "\n".join([*said, f"{len(found['findings'])} comparisons, {wrong} wrong"])
