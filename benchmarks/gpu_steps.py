"""What some steps of training leave behind: written by one process, compared by another."""

from __future__ import annotations

from typing import Any

import numpy as np


def steps(
    device: str, net: str, batch: int, pictures: int, count: int, dtype: str, out: str
) -> dict[str, Any]:
    """Train; write to the file ``out`` what came of it.

    One step of SGD(1.0) from the first weights: "loss", "grad NAME" and "weight NAME" after it.
    Then, from the first weights again, ``count`` steps of Adam(1e-3) on batches in order: "losses"
    and "final", all weights.  All in float64.
    """
    import minicnn as mc
    from benchmarks import nets

    x, y = mc.datasets.synthetic(pictures, seed=0)
    model = nets.get(net).build(x.shape[1:], seed=0, device=device, dtype=dtype)
    x, y = model.device.asarray(x), model.device.asarray(y)
    before = {name: host(mc, w) for name, w in model.params.items()}
    loss, taken = float("nan"), 0
    optimizer = mc.SGD(1.0)
    for _ in range(20):  # float16 may skip steps until its loss scale fits
        taken += 1
        loss = float(mc.train_step(model, optimizer, x[:batch], y[:batch]))
        after = {name: host(mc, w) for name, w in model.params.items()}
        if any((after[name] != before[name]).any() for name in before):
            break
    found: dict[str, Any] = {"loss": loss}
    short = dtype in ("float16", "bfloat16")
    for name, grad in model.grads.items():
        found[f"weight {name}"] = after[name]
        # In 16 bits the buffer may hold scaled gradients; the update tells what was meant.
        found[f"grad {name}"] = before[name] - after[name] if short else host(mc, grad)

    model = nets.get(net).build(x.shape[1:], seed=0, device=device, dtype=dtype)
    optimizer, losses = mc.Adam(1e-3), []
    for number in range(count):
        start = number * batch % max(1, len(x) - batch + 1) // batch * batch
        part = slice(start, start + batch)
        losses.append(mc.train_step(model, optimizer, x[part], y[part]).copy())
    found["losses"] = np.array([float(value) for value in losses])
    found["final"] = host(mc, model.params.data)
    np.savez(out, **found)
    return {"loss": loss, "steps until one counted": taken}


def host(mc: Any, array: Any) -> np.ndarray:
    """Return a copy as float64 NumPy."""
    return np.array(mc.to_numpy(array), "float64")
