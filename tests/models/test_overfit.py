"""Every builder learns a batch by heart, on the CPU's path and on the GPU's."""

from __future__ import annotations

import numpy as np
import pytest

import minicnn as mc
from minicnn.plan.kept import plan_for

from .small import SMALL, pictures

ZERO = 0.02  # of a loss that begins above 0.8
RATES = {"speedrun94": 0.2}  # its logits are divided by 9
FAMILIES = [  # one of each: the emulated GPU takes a hundred times as long
    "tutorial_cnn",
    "cifar_cnn",
    "vgg11",
    "resnet20",
    "resnet18",
    "wide_resnet",
    "inception_small",
    "densenet_small",
    "speedrun94",
]
DEEPER = [name for name in SMALL if name not in FAMILIES and "dropout" not in name]


def losses_of(name, steps, N, device="cpu", dtype="float32"):
    """Train on one batch until its loss is nearly zero; return the losses.

    On a GPU, all of a step is launches on arrays that stay where they are: it can be captured.
    """
    make, shape = SMALL[name]
    model = make().build(shape, seed=0, device=device, dtype=dtype)
    x, labels = (model.device.asarray(a) for a in (pictures(shape, N), np.arange(N) % 4))
    optimizer, losses = mc.Adam(RATES.get(name, 1e-2)), []
    while len(losses) < steps and (not losses or losses[-1] > ZERO):
        losses.append(float(mc.train_step(model, optimizer, x, labels)))
    if device == "gpu":
        assert plan_for(model, x, True).script.whole
    return losses


@pytest.mark.parametrize("name", SMALL)
def test_builder_overfits_a_batch(name):
    losses = losses_of(name, 100, N=4)
    assert losses[0] > 0.8 and losses[-1] < ZERO
    assert losses_of(name, 100, N=4) == losses  # bit for bit


@pytest.mark.parametrize("name", FAMILIES)
def test_builder_overfits_a_batch_on_gpu(cupy, name):
    losses = losses_of(name, 100, N=2, device="gpu")
    assert losses[0] > 0.8 and losses[-1] < ZERO


@pytest.mark.parametrize("name", DEEPER)
def test_builder_steps_on_gpu_as_on_cpu(cupy, name):
    """Those of more layers than one of the families': the second step sees the first's update."""
    on_cpu, on_gpu = (losses_of(name, 2, 2, device, "float64") for device in ("cpu", "gpu"))
    assert on_gpu == pytest.approx(on_cpu, rel=1e-6)
    assert on_cpu[0] != on_cpu[1]
