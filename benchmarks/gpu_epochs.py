"""Whole runs on a GPU: epochs of CIFAR-10 with the tutorial's network, and what they reach."""

from __future__ import annotations

import time
import warnings
from typing import Any


def epochs(
    device: str,
    began: float,
    data_dir: str | None,
    count: int = 10,
    runs: int = 3,
    batch: int = 128,
    pictures: int = 50_000,
    dtype: str = "float32",
) -> dict[str, Any]:
    """Train ``runs`` times from other seeds; return the seconds of each epoch, and accuracies.

    began: `time.time()` when the process was started.  "start" is what comes before the first
    epoch: imports, reading the pictures, moving them to the device, and a step of another network
    of the same kind, for which kernels are compiled.  Each run's time is that of ``mc.fit`` from
    its call: everything of a new network but its first weights.
    """
    import minicnn as mc
    from benchmarks.peers.gpu_own_worker import wait

    test: tuple[Any, Any]
    if data_dir is None:
        x, y = mc.datasets.synthetic(pictures + pictures // 5, seed=0)
        (x, y), test = (x[:pictures], y[:pictures]), (x[pictures:], y[pictures:])
    else:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", mc.DatasetWarning)  # any copy of the pictures will do
            (x, y), test = mc.datasets.cifar10(data_dir, download=False)
            x, y = x[:pictures], y[:pictures]

    def built(seed: int) -> mc.Sequential:
        return mc.models.tutorial_cnn().build(x.shape[1:], seed=seed, device=device, dtype=dtype)

    model = built(0)
    x_there, x_test, y_test = map(model.device.asarray, (x, *test))
    for size in {batch, len(x) % batch} - {0}:
        part = model.device.asarray(y[:size])
        mc.train_step(model, mc.Adam(1e-3), x_there[:size], part)
    mc.evaluate(model, x_test[:256], y_test[:256])
    wait(model.device)
    found: dict[str, Any] = {"start": time.time() - began, "pictures": len(x), "runs": []}
    found["data"] = "drawn pictures" if data_dir is None else "CIFAR-10"
    for seed in range(runs):
        model = built(seed)
        wait(model.device)
        start, seconds, losses = time.perf_counter(), [], []
        fitted = mc.fit(
            model, x_there, y, optimizer=mc.Adam(1e-3), epochs=count, batch_size=batch,
            seed=seed, progress=False,
        )  # fmt: skip
        for epoch in fitted:
            now = time.perf_counter()
            seconds.append(now - start - sum(seconds))
            losses.append(epoch.loss)
        wait(model.device)
        whole = time.perf_counter() - start
        scores = mc.evaluate(model, x_test, y_test)
        found["runs"].append(
            {
                "seconds": whole,
                "epochs": seconds,
                "losses": losses,
                "evaluate": time.perf_counter() - start - whole,
                "accuracy": scores["accuracy"],
            }
        )
    return found
