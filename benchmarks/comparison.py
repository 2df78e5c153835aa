"""One comparison: a network, a batch size, a mode; and its record, of which reports are made."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

import minicnn as mc
from benchmarks import nets
from benchmarks.rounds import checker, run
from benchmarks.settings import chosen


@dataclass(frozen=True)
class Work:
    """What all contenders do."""

    net: str
    batch: int
    mode: str
    threads: int
    rounds: int
    seconds: float
    data: str = "drawn pictures"


def compare(
    work: Work,
    data: tuple[np.ndarray, np.ndarray],
    peers: list[str],
    only: list[str],
    pythons: dict[str, str],
    say: Callable[[str], None],
) -> dict[str, Any]:
    """Measure all settings of the peers, and minicnn, on the same work; return the record.

    data: uint8 pictures (N, H, W, C) and labels (N,).  only: names of settings; all if empty.
    """
    x, y = (array[: len(array) // work.batch * work.batch] for array in data)
    if len(x) == 0:
        raise ValueError(f"{len(data[0])} pictures make no batch of {work.batch}")
    model = nets.get(work.net).build(x.shape[1:], seed=0)
    summary = model.summary()
    settings = chosen(peers, work.mode, only)
    check = checker(model.infer(x[:4]).tolist(), summary.parameters)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_files(folder, model, x, y, {setting.layout for setting in settings})
        task = {
            "folder": name,
            "net": work.net,
            "config": model.config(),
            "shape": x.shape[1:],
            "batch": work.batch,
            "mode": work.mode,
            "threads": work.threads,
        }
        schedule = work.rounds, work.seconds
        runners, skipped = run(settings, task, folder, pythons, check, schedule, say)
    return {
        "net": work.net,
        "mode": work.mode,
        "batch": work.batch,
        "threads": work.threads,
        "pictures": len(x),
        "data": work.data,
        "parameters": summary.parameters,
        "multiply_adds": summary.multiply_adds,
        "versions": {k: v for runner in runners for k, v in runner.start["versions"].items()},
        "contenders": [runner.report() for runner in runners],
        "skipped": skipped,
    }


def write_files(
    folder: Path, model: mc.Sequential, x: np.ndarray, y: np.ndarray, layouts: set[str]
) -> None:
    """Write what the workers read: pictures as each wants them, labels, and the first weights.

    "uint8" is what minicnn gets.  The peers get floats that the network's `Normalize` has made,
    (N, H, W, C) as "nhwc" or (N, C, H, W) as "nchw": for them that work is done beforehand.
    """
    np.save(folder / "labels.npy", y)
    np.savez(folder / "weights.npz", *[np.asarray(w) for w in model.params.values()])
    if "uint8" in layouts:
        np.save(folder / "uint8.npy", x)
    floats = model.first_leaf().infer(x)
    if "nhwc" in layouts:
        np.save(folder / "nhwc.npy", floats)
    if "nchw" in layouts:
        np.save(folder / "nchw.npy", np.ascontiguousarray(floats.transpose(0, 3, 1, 2)))
