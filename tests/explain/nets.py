"""Networks to explain: every weight and statistic matters."""

from __future__ import annotations

import numpy as np

import minicnn as mc

SHAPE = (12, 10, 3)


def plain():
    return [
        mc.Normalize((0.4, 0.5, 0.6), (0.2, 0.25, 0.3)),
        mc.Conv2D(5, 3, padding="same"), mc.BatchNorm(), mc.ReLU(), mc.MaxPool2D(2),
        mc.Conv2D(6, 3, name="last_conv"), mc.BatchNorm(), mc.ReLU(), mc.Dropout(0.5),
        mc.Flatten(), mc.Dense(4),
    ]  # fmt: skip


def residual():
    def body(strides):
        return [
            mc.Conv2D(6, 3, strides, padding=1), mc.BatchNorm(), mc.ReLU(),
            mc.Conv2D(6, 3, padding="same"), mc.BatchNorm(),
        ]  # fmt: skip

    return [
        mc.Normalize(0.5, 0.3),
        mc.Conv2D(6, 3, padding="same"), mc.ReLU(),
        mc.Residual(body(1)), mc.ReLU(),
        mc.Residual(body(2), [mc.Conv2D(6, 1, 2), mc.BatchNorm()]), mc.ReLU(),
        mc.Concat([[mc.Conv2D(3, 3, padding="same"), mc.ReLU()], None]),
        mc.GlobalAveragePool2D(), mc.Dense(4),
    ]  # fmt: skip


NETS = {"plain": plain, "residual": residual}


def settled(layers, shape=SHAPE, dtype="float64", **options):
    """Build a network in which nothing is as simple as at the start."""
    model = mc.Sequential(*layers).build(shape, seed=1, dtype=dtype, **options)
    rng = np.random.default_rng(2)
    for name, array in [*model.params.items(), *model.state.items()]:
        if name.endswith(("running_var", "gamma")):
            change = rng.uniform(0.5, 2, array.shape)
        elif name.endswith(("running_mean", "beta", "/b")):
            change = 0.3 * rng.standard_normal(array.shape)
        else:
            continue
        array[...] = model.device.asarray(change.astype(array.dtype))
    return model


def pictures(N=5, shape=SHAPE, seed=3):
    return np.random.default_rng(seed).integers(0, 256, (N, *shape)).astype("uint8")


def corner_model(*behind, dtype="float32"):
    """Class k is how bright quarter k is: by weights set by hand."""
    model = mc.Sequential(
        mc.Normalize(), mc.Conv2D(1, 1), mc.ReLU(), mc.Flatten(), mc.Dense(4), *behind
    ).build((8, 8, 3), dtype=dtype)
    model.params["conv2d_1/w"][...] = 1
    w = np.zeros((8, 8, 4))
    w[:4, :4, 0] = w[:4, 4:, 1] = w[4:, :4, 2] = w[4:, 4:, 3] = 1 / 16
    model.params["dense_1/w"][...] = w.reshape(64, 4)
    return model
