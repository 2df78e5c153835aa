"""Networks of all kinds by their plans, against their layers' own forward and backward."""

from __future__ import annotations

import copy

import numpy as np
import pytest

import minicnn as mc
from minicnn import plan
from minicnn.kernels.cpu import team as team_module

from .nets import (
    N,
    batch,
    build,
    by_plan,
    check,
    compare,
    copy_numbers,
    each_way,
    head,
    poison,
    upstream,
)

pytestmark = pytest.mark.usefixtures("small_slices")


def conv_bn(filters, size=3, strides=1, **options):
    return [mc.Conv2D(filters, size, strides, "same", use_bias=False), mc.BatchNorm(**options)]


def basic(filters, strides=1, shortcut=None):
    body = [*conv_bn(filters, 3, strides), mc.ReLU(), *conv_bn(filters)]
    return [mc.Residual(body, shortcut), mc.ReLU()]


NETWORKS = {  # layers, shape of a picture
    "tutorial": (
        lambda: [
            mc.Normalize(0.5, 0.25),
            mc.Conv2D(6, 3), mc.ReLU(), mc.MaxPool2D(2),
            mc.Conv2D(16, 3), mc.ReLU(), mc.MaxPool2D(2),
            mc.Conv2D(16, 3), mc.ReLU(),
            mc.Flatten(), mc.Dense(9), mc.ReLU(), mc.Dense(4),
        ],
        (20, 19, 3),
    ),
    "vgg": (
        lambda: [
            mc.Normalize(0.5, 0.25), *conv_bn(5), mc.ReLU(), *conv_bn(7), mc.ReLU(),
            mc.MaxPool2D(2), *conv_bn(16), mc.ReLU(), *conv_bn(17), mc.ReLU(), mc.MaxPool2D(2),
            mc.Flatten(), mc.Dense(8), mc.BatchNorm(), mc.ReLU(), mc.Dropout(0.3), mc.Dense(4),
        ],
        (11, 9, 3),
    ),
    "resnet": (
        lambda: [
            mc.Normalize(0.5, 0.25), *conv_bn(6), mc.ReLU(), *basic(6), *basic(6),
            *basic(9, 2, conv_bn(9, 1, 2)), *basic(9), mc.GlobalAveragePool2D(), mc.Dense(4),
        ],
        (9, 7, 3),
    ),
    "resnet before activation": (
        lambda: [
            mc.Conv2D(5, 3, padding="same"),
            mc.Residual([mc.BatchNorm(), mc.ReLU(), mc.Conv2D(5, 3, padding="same"),
                         mc.BatchNorm(), mc.ReLU(), mc.Conv2D(5, 3, padding="same")]),
            mc.BatchNorm(), mc.ReLU(), mc.GlobalAveragePool2D(), mc.Dense(4),
        ],
        (7, 9, 3),
    ),
    "residual first": (lambda: head(mc.Residual(mc.Conv2D(3, 3, padding="same"))), (7, 5, 3)),
    "residual first, with shortcut": (
        lambda: head(mc.Residual([mc.Conv2D(4, 3, padding=1), mc.Tanh()], mc.Conv2D(4, 1))),
        (7, 5, 3),
    ),
    "residual first, body without parameters": (
        lambda: head(mc.Residual([mc.Tanh(), mc.AveragePool2D(3, 1, "same")])), (7, 5, 3)),
    "residual first, only the shortcut has parameters": (
        lambda: head(mc.Residual(mc.SiLU(), mc.Conv2D(3, 1)), mc.ReLU()), (7, 5, 3)),
    "residual, body without parameters": (
        lambda: head(mc.Conv2D(4, 1), mc.Residual(mc.MaxPool2D(3, 1, "same")), mc.ReLU()),
        (7, 5, 3),
    ),
    "residual, only the shortcut has parameters": (
        lambda: head(mc.Conv2D(4, 1), mc.Residual([mc.ReLU()], [mc.Conv2D(4, 1)])), (7, 5, 3)),
    "residual of one layer and nothing": (
        lambda: head(mc.Conv2D(4, 1), mc.Residual(mc.Dropout(0.0)), mc.Residual(mc.ReLU())),
        (5, 5, 2),
    ),
    "residual of residuals": (
        lambda: head(
            mc.Conv2D(4, 1),
            mc.Residual([mc.Residual([mc.Conv2D(4, 3, padding=1), mc.ReLU()]), mc.ReLU(),
                         mc.Residual(mc.Residual(mc.Conv2D(4, 1)), mc.Residual(mc.Tanh()))]),
        ),
        (5, 7, 3),
    ),
    "residual that ends in a pixel on both sides": (
        lambda: [
            mc.Conv2D(3, 3),
            mc.Residual([mc.Conv2D(5, 3), mc.GlobalAveragePool2D()],
                        [mc.Conv2D(5, 1), mc.GlobalAveragePool2D()]),
            mc.Dense(4),
        ],
        (7, 8, 3),
    ),
    "residual that ends in one layer on both sides": (
        lambda: head(
            mc.Conv2D(4, 1), mc.Residual([mc.Tanh(), mc.Dropout(0.5)], mc.Dropout(0.5)),
            mc.Residual([mc.Conv2D(4, 1), mc.ReLU()], [mc.Conv2D(4, 1), mc.ReLU()]), mc.ReLU(),
            mc.Residual([mc.MaxPool2D(2), mc.LeakyReLU()], [mc.AveragePool2D(2), mc.LeakyReLU()]),
            mc.Residual([*conv_bn(4), mc.ReLU(), mc.MaxPool2D(2)], mc.MaxPool2D(2)),
        ),
        (9, 11, 3),
    ),
    "option A: every other pixel, and channels of zeros": (
        lambda: [
            *conv_bn(4), mc.ReLU(), *basic(7, 2, [mc.AveragePool2D(1, 2), mc.PadChannels(7)]),
            *basic(7), mc.GlobalAveragePool2D(), mc.Dense(4), mc.Scale(0.3),
        ],
        (9, 7, 3),
    ),
    "channels of zeros first": (
        lambda: head(mc.PadChannels(6), mc.Scale(2.0), mc.Conv2D(4, 3), mc.PadChannels(9)),
        (5, 7, 3),
    ),
    "dense blocks: x itself in front": (
        lambda: [
            mc.Conv2D(4, 3, padding="same"),
            *(mc.Concat([None, [mc.BatchNorm(), mc.ReLU(), mc.Conv2D(3, 3, padding="same")]])
              for _ in range(2)),
            mc.BatchNorm(), mc.ReLU(), mc.Conv2D(4, 1), mc.AveragePool2D(2),
            mc.Concat([[mc.Conv2D(3, 1)], None]), mc.Concat([None, mc.Tanh(), None]),
            mc.GlobalAveragePool2D(), mc.Dense(4),
        ],
        (6, 7, 3),
    ),
    "x itself where nobody asks for its gradient": (
        lambda: head(mc.Concat([None, mc.Conv2D(3, 3, padding="same"), None])), (5, 7, 3)),
    "only x itself, behind what is made again": (
        lambda: head(*conv_bn(5), mc.ReLU(), mc.Concat([None, *conv_bn(5), None]), mc.ReLU()),
        (5, 7, 3),
    ),
    "groups of a speed run": (
        lambda: [
            mc.Normalize(0.5, 0.25), mc.Conv2D(6, 2), mc.GELU(),
            mc.Conv2D(7, 3, padding="same", use_bias=False, kernel_initializer="dirac"),
            mc.MaxPool2D(2), mc.BatchNorm(0.6, 1e-12, scale=False), mc.GELU(), *conv_bn(7),
            mc.GELU(), mc.MaxPool2D(3), mc.Flatten(), mc.Dense(4, use_bias=False), mc.Scale(1 / 9),
        ],
        (9, 8, 3),
    ),
    "residual, dense": (
        lambda: [mc.Flatten(), mc.Residual([mc.Dense(12), mc.ReLU(), mc.Dense(12)]), mc.ReLU(),
                 mc.Residual(mc.Dense(12), mc.Dense(12)), mc.Dense(4)],
        (2, 2, 3),
    ),
    "residual at the end": (
        lambda: [mc.Conv2D(3, 3), mc.Residual([mc.Conv2D(3, 3, padding=1), mc.BatchNorm()])],
        (5, 6, 2),
    ),
    "concat": (
        lambda: head(
            mc.Concat([
                mc.Conv2D(4, 1),
                [mc.Conv2D(3, 1), mc.ReLU(), mc.Conv2D(5, 3, padding="same"), mc.ReLU()],
                [mc.MaxPool2D(3, 1, "same"), mc.Conv2D(2, 1)],
            ]),
            mc.ReLU(),
            mc.Concat([[*conv_bn(3), mc.ReLU()], mc.Dropout(0.2), [mc.Tanh()],
                       mc.Concat([mc.ReLU(), mc.Conv2D(1, 1)])]),
        ),
        (7, 5, 3),
    ),
    "concat behind batchnorm": (
        lambda: head(
            *conv_bn(4), mc.ReLU(),
            mc.Concat([mc.Conv2D(3, 1), mc.Conv2D(2, 3, padding="same")]), mc.BatchNorm(),
            mc.Residual(mc.Concat([mc.Conv2D(2, 1), mc.Conv2D(3, 3, padding="same")])),
            mc.BatchNorm(), mc.Concat([mc.Conv2D(3, 1), mc.Tanh(), mc.MaxPool2D(3, 1, "same")]),
        ),
        (6, 7, 3),
    ),
    "concat, dense": (
        lambda: [mc.Flatten(), mc.Concat([mc.Dense(5), [mc.Dense(4), mc.ReLU()], mc.Tanh()]),
                 mc.Dense(4)],
        (3, 2, 2),
    ),
    "concat of one, and without parameters": (
        lambda: head(mc.Concat([mc.Tanh()]), mc.Concat([mc.ReLU(), mc.SiLU()])), (3, 5, 2)),
    "densenet": (
        lambda: head(
            mc.Conv2D(4, 3, padding=1),
            mc.Concat([mc.Dropout(0.0), [mc.BatchNorm(), mc.ReLU(), mc.Conv2D(3, 3, padding=1)]]),
            mc.Concat([mc.Dropout(0.0), [mc.BatchNorm(), mc.ReLU(), mc.Conv2D(3, 3, padding=1)]]),
            mc.BatchNorm(), mc.ReLU(), mc.AveragePool2D(2),
        ),
        (7, 7, 3),
    ),
    "nested": (
        lambda: [
            mc.Sequential(mc.Normalize(0.4, 0.3), mc.Conv2D(5, 3, padding="same")),
            mc.Sequential(mc.Sequential(mc.ReLU()), mc.MaxPool2D(2), mc.Conv2D(6, 3)),
            mc.Sequential(mc.BatchNorm()), mc.ReLU(), mc.Sequential(mc.Flatten(), mc.Dense(4)),
        ],
        (9, 7, 3),
    ),
    "normalize with same padding": (
        lambda: head(mc.Normalize((0.2, 0.5, 0.3), 0.25), mc.Conv2D(5, 3, padding="same"),
                     mc.ReLU(), mc.MaxPool2D(2)),
        (9, 7, 3),
    ),
    "normalize with uneven margins": (
        lambda: head(mc.Normalize(0.5, 0.25), mc.Conv2D(5, (2, 3), 1, ((1, 0), (0, 2))),
                     mc.MaxPool2D(2), mc.ReLU()),
        (6, 7, 3),
    ),
    "normalize with wide margins": (
        lambda: head(mc.Normalize(0.5, 0.25), mc.Conv2D(5, 3, 1, ((4, 0), (1, 3))), mc.ReLU()),
        (5, 7, 3),
    ),
    "normalize of one channel, large window": (
        lambda: head(mc.Normalize(0.5, 0.25), mc.Conv2D(4, 5), mc.ReLU(), mc.MaxPool2D(2)),
        (10, 13, 1),
    ),
    "normalize, no convolution": (
        lambda: head(mc.Normalize(0.5, 0.25), mc.AveragePool2D(2), mc.ReLU()), (6, 5, 3)),
    "normalize, convolution that can't be planar": (
        lambda: head(mc.Normalize(0.5, 0.25), mc.Conv2D(4, 3, 2, "same"), mc.ReLU()), (6, 5, 3)),
    "normalize, many channels": (
        lambda: head(mc.Normalize(0.5, 0.25), mc.Conv2D(4, 3), mc.BatchNorm(), mc.ReLU()),
        (6, 5, 7),
    ),
    "batchnorm first": (
        lambda: head(mc.BatchNorm(), mc.Conv2D(4, 3), mc.ReLU()), (6, 7, 3)),
    "batchnorm first, without parameters": (
        lambda: head(mc.BatchNorm(center=False, scale=False), mc.Conv2D(4, 3), mc.ReLU()),
        (6, 7, 3),
    ),
    "batchnorm after dense": (
        lambda: [mc.Flatten(), mc.Dense(7), mc.BatchNorm(), mc.ReLU(), mc.Dense(5),
                 mc.BatchNorm(), mc.Dense(4)],
        (3, 2, 2),
    ),
    "batchnorm, relu, pool after what isn't a convolution": (
        lambda: head(mc.Conv2D(4, 3), mc.Tanh(), mc.BatchNorm(), mc.ReLU(), mc.MaxPool2D(2),
                     mc.BatchNorm(), mc.ReLU(), mc.MaxPool2D(2)),
        (9, 12, 3),
    ),
    "batchnorm first, relu, pool": (
        lambda: head(mc.BatchNorm(), mc.ReLU(), mc.MaxPool2D(2)), (9, 7, 3)),
    "batchnorm after an activation": (
        lambda: head(mc.Conv2D(5, 3), mc.ReLU(), mc.BatchNorm(), mc.Conv2D(4, 3), mc.ReLU(),
                     mc.BatchNorm(), mc.Conv2D(3, 1), mc.BatchNorm(), mc.MaxPool2D(2)),
        (9, 8, 3),
    ),
    "batchnorm of every option": (
        lambda: head(
            mc.Conv2D(4, 3), mc.BatchNorm(center=False), mc.ReLU(), mc.Conv2D(4, 1),
            mc.BatchNorm(scale=False, eps=0.1), mc.Conv2D(4, 1),
            mc.BatchNorm(0.5, center=False, scale=False), mc.BatchNorm(0.0), mc.ReLU(),
        ),
        (7, 6, 3),
    ),
    "batchnorm with a convolution in groups": (
        lambda: head(mc.Conv2D(6, 3, groups=3), mc.BatchNorm(), mc.ReLU(), mc.MaxPool2D(2)),
        (8, 7, 3),
    ),
    "batchnorm with convolutions of all kinds": (
        lambda: head(
            mc.Conv2D(5, 3, 2, use_bias=False), mc.BatchNorm(), mc.Conv2D(5, 1), mc.BatchNorm(),
            mc.ReLU(), mc.Conv2D(16, (2, 3), padding="same"), mc.BatchNorm(), mc.ReLU(),
            mc.MaxPool2D(2), mc.Conv2D(16, 3, padding="same"), mc.BatchNorm(), mc.ReLU(),
        ),
        (13, 11, 3),
    ),
    "convolutions of all kinds": (
        lambda: head(
            mc.Conv2D(5, 5, (2, 1), "same"), mc.ReLU(), mc.Conv2D(6, (2, 3), use_bias=False),
            mc.ReLU(), mc.MaxPool2D(2), mc.Conv2D(4, 1), mc.ReLU(),
            mc.Conv2D(8, 3, dilation_rate=(1, 2), padding="same"), mc.ReLU(),
            mc.Conv2D(8, 3, padding=((2, 0), (1, 2)), groups=2),
            mc.Conv2D(4, 1, 2), mc.Conv2D(3, 3, padding=3),
        ),
        (14, 11, 3),
    ),
    "pool of odd pictures": (
        lambda: head(mc.Conv2D(4, 1), mc.MaxPool2D(2), mc.Tanh(), mc.MaxPool2D(2)), (7, 11, 3)),
    "smallest pictures": (
        lambda: head(mc.Conv2D(4, 3, padding="same"), mc.ReLU(), mc.Conv2D(5, 1), mc.ReLU(),
                     mc.Conv2D(16, 3, padding="same"), mc.BatchNorm(), mc.ReLU()),
        (1, 1, 3),
    ),
    "dropout everywhere": (
        lambda: [
            mc.Dropout(0.1), mc.Conv2D(5, 3), mc.ReLU(), mc.Dropout(0.3), mc.Conv2D(4, 3),
            mc.Dropout(0.25), mc.ReLU(), mc.Flatten(), mc.Dense(7), mc.ReLU(), mc.Dropout(0.6),
            mc.Dropout(0.0), mc.Dense(4),
        ],
        (7, 8, 3),
    ),
    "activations": (
        lambda: head(
            mc.LeakyReLU(), mc.Conv2D(4, 1), mc.GELU(), mc.Conv2D(4, 1), mc.SiLU(), mc.Tanh(),
            mc.Conv2D(4, 1), mc.Sigmoid(), mc.LeakyReLU(0.0), mc.Softmax(), mc.ReLU(), mc.ReLU(),
        ),
        (5, 4, 3),
    ),
    "relu first": (lambda: head(mc.ReLU(), mc.Conv2D(4, 3), mc.ReLU()), (5, 4, 3)),
    "dense only": (lambda: [mc.Dense(5), mc.ReLU(), mc.Dense(4, use_bias=False)], (7,)),
    "pictures come out": (
        lambda: [mc.Conv2D(4, 3, padding="same"), mc.ReLU(), mc.Conv2D(2, 3, padding="same")],
        (6, 5, 3),
    ),
    "flatten of what comes out": (lambda: [mc.Conv2D(4, 3), mc.Flatten()], (6, 5, 3)),
    "no parameters": (lambda: [mc.Normalize(0.5, 0.5), mc.Tanh(), mc.Flatten()], (3, 4, 2)),
    "pooling that leaves out a row and a column, after a whole number of tiles": (
        lambda: head(mc.Conv2D(3, 1), mc.Conv2D(4, 3), mc.ReLU(), mc.MaxPool2D(2)), (7, 11, 3)),
    "wide": (
        lambda: head(mc.Conv2D(33, 3, padding=1), mc.ReLU(), mc.MaxPool2D(2),
                     mc.Conv2D(40, 3, padding=1), mc.BatchNorm(), mc.ReLU(), mc.MaxPool2D(2)),
        (12, 13, 3),
    ),
}  # fmt: skip
POOLINGS = [
    mc.MaxPool2D(2, 1), mc.MaxPool2D(3, 2, "same"), mc.MaxPool2D((1, 2)),
    mc.MaxPool2D(2, padding=1), mc.MaxPool2D(2, padding=((0, 0), (0, 0))),
    mc.MaxPool2D(2, 2, "same"), mc.MaxPool2D((2, 3), (3, 1)),
    mc.AveragePool2D(2), mc.AveragePool2D(3, 2, "same"), mc.AveragePool2D(2, 1, 1),
]  # fmt: skip
for pooling in POOLINGS:
    NETWORKS[str(pooling)] = (
        lambda pooling=pooling: head(
            mc.Conv2D(4, 1), mc.ReLU(), copy.deepcopy(pooling), mc.Conv2D(3, 1), mc.ReLU()
        ),
        (6, 7, 3),
    )
each_network = pytest.mark.parametrize("name", NETWORKS)


@each_network
@each_way
def test_network_gives_what_its_layers_give(name, way):
    compare(*NETWORKS[name], way)


@each_network
@pytest.mark.parametrize("slices", [1, 2, 4])
def test_network_in_slices(name, slices):
    compare(*NETWORKS[name], ("float64", "direct"), slices)


@each_network
def test_network_of_few_pictures(name):
    """One picture, where BatchNorm has pixels enough, and fewer pictures than threads."""
    make, shape = NETWORKS[name]
    compare(make, shape, ("float64", "direct"), slices=4, N=3)
    if not any(isinstance(layer, mc.BatchNorm) for layer in mc.Sequential(*make()).walk()):
        compare(make, shape, ("float64", "direct"), slices=4, N=1)


@each_network
def test_network_reads_nothing_that_it_has_not_written(name):
    """Whatever lies in the buffers, the same bits come out."""
    make, shape = NETWORKS[name]
    model, fresh = build(make(), shape, "float32"), build(make(), shape, "float32")
    x, dy = batch(model, N), upstream(model, N)
    with mc.threads(2), mc.conv_algorithm("winograd"), np.errstate(all="ignore"):
        results = [by_plan(model, x, dy)]
        for _ in range(2):
            copy_numbers(fresh, model)
            poison(model, x, training=True)
            results.append(by_plan(model, x, dy))
        plain = plan.infer(model, x)
        poison(model, x, training=False)
        np.testing.assert_array_equal(plan.infer(model, x), plain)
    for found in results[1:]:
        for array, wanted in zip(found.values(), results[0].values(), strict=True):
            np.testing.assert_array_equal(array, wanted)


@each_network
def test_network_is_bitwise_repeatable(name):
    """For a given number of threads: in the same plan and in another network's."""
    make, shape = NETWORKS[name]
    for slices in (1, 3):
        results = []
        for _ in range(2):
            model = build(make(), shape, "float32")
            x, dy = batch(model, N), upstream(model, N)
            with mc.threads(slices):
                results.append([by_plan(model, x, dy), by_plan(model, x, dy)])
                results[-1].append({"y": plan.infer(model, x)})
        for found, wanted in zip(*results, strict=True):
            assert {k: a.tobytes() for k, a in found.items()} == {
                k: a.tobytes() for k, a in wanted.items()
            }


@each_network
def test_network_whose_preparations_come_in_another_order(name, monkeypatch):
    """What is prepared for all slices is shared out: no job may wait for another."""
    make, shape = NETWORKS[name]
    results, real = [], team_module.run
    for order in (lambda jobs: jobs, reversed):
        monkeypatch.setattr(
            team_module, "run", lambda jobs, order=order: real([lambda: each(order(jobs))])
        )
        model = build(make(), shape, "float64")
        x, dy = batch(model, N), upstream(model, N)
        with mc.threads(3):
            results.append([by_plan(model, x, dy), {"y": plan.infer(model, x)}])
    for found, wanted in zip(*results, strict=True):
        check(found, wanted, 1e-12)


def each(jobs):
    for job in list(jobs):
        job()
