"""Every planner against the layers' own forward and backward, which stay the definition."""

from __future__ import annotations

import copy

import numpy as np
import pytest

import minicnn as mc
from minicnn import plan
from minicnn.kernels.cpu import team as team_module
from minicnn.layers import LAYERS
from minicnn.plan.join import Join
from minicnn.plan.slices import PLANNERS

from .nets import (
    LIMITS,
    batch,
    build,
    by_layers,
    by_plan,
    calm_batch,
    check,
    copy_numbers,
    like,
    poison,
    slices_of,
    upstream,
    wide,
)

N, PICTURE = 13, (7, 9, 3)  # pictures that don't divide evenly
each_way = pytest.mark.parametrize("way", LIMITS, ids="-".join)


@pytest.fixture(autouse=True)
def small_slices(monkeypatch):
    """Cut small batches, too: no slice is too small for a thread."""
    monkeypatch.setattr(team_module, "LEAST", 1)
    if not mc.parallel.blas_can_be_limited():
        pytest.skip("this BLAS keeps its threads: one slice")


def compare(make, shape, way=("float64", "direct"), slices=3, N=N):
    """Compare a training step, twice, and a prediction, with the layers' own in float64."""
    dtype, algorithm = way
    model = build(make(), shape, dtype)
    truth = like(model, make(), "float64")
    x, dy = batch(model, N), upstream(model, N)
    if dtype == "float32":
        x = calm_batch(model, make(), N)
    limit = LIMITS[way]
    with mc.threads(slices), mc.conv_algorithm(algorithm):
        assert slices_of(model, x) == min(slices, N)
        for _ in range(2):  # the second time all buffers have been used
            copy_numbers(truth, model)
            plain = by_layers(like(model, make(), dtype), x, dy) if dtype == "float32" else None
            found, wanted = by_plan(model, x, dy), by_layers(truth, wide(x), dy.astype("float64"))
            check(found, wanted, limit, plain)
            assert model.streams.keys() == truth.streams.keys()
            for name, stream in model.streams.items():
                assert stream.position == truth.streams[name].position
        y = plan.infer(model, x)
        check({"y": y}, {"y": truth.infer(wide(x))}, limit)
        assert y.dtype == dtype
    assert all(layer.cache is None for layer in model.walk())


# Every run that has a planner, first in a network and later in it.

KINDS = {  # for pictures of 3 channels, which they keep
    mc.AveragePool2D: lambda: mc.AveragePool2D(2),
    mc.BatchNorm: lambda: mc.BatchNorm(),
    mc.Concat: lambda: mc.Concat([mc.Conv2D(2, 1), [mc.Tanh(), mc.Conv2D(1, 1)]]),
    mc.Conv2D: lambda: mc.Conv2D(3, 3, padding="same"),
    mc.Dense: lambda: mc.Dense(6),
    mc.Dropout: lambda: mc.Dropout(0.4),
    mc.Flatten: lambda: mc.Flatten(),
    mc.GELU: lambda: mc.GELU(),
    mc.GlobalAveragePool2D: lambda: mc.GlobalAveragePool2D(),
    mc.LeakyReLU: lambda: mc.LeakyReLU(0.2),
    mc.MaxPool2D: lambda: mc.MaxPool2D(2),
    mc.Normalize: lambda: mc.Normalize((0.2, 0.5, 0.3), (0.3, 0.25, 0.2)),
    mc.ReLU: lambda: mc.ReLU(),
    mc.Residual: lambda: mc.Residual([mc.Tanh(), mc.Conv2D(3, 1)]),
    mc.Sequential: lambda: mc.Sequential(mc.Conv2D(3, 1), mc.Sequential(mc.ReLU())),
    mc.SiLU: lambda: mc.SiLU(),
    mc.Sigmoid: lambda: mc.Sigmoid(),
    mc.Softmax: lambda: mc.Softmax(),
    mc.Tanh: lambda: mc.Tanh(),
}
OTHERS = {  # where one planner declines, and the next is asked
    mc.Conv2D: lambda: mc.Conv2D(3, 3, padding="same", groups=3),
    mc.MaxPool2D: lambda: mc.MaxPool2D(3, 2),
}
RUNS = sorted({*PLANNERS, *((kind,) for kind in LAYERS.values())}, key=str)


def name_of(run):
    return " ".join(kind.__name__ for kind in run)


def network(run, first, kinds=KINDS):
    """Return a network of a run, with layers around it that can't be part of it.

    What stands before a Join is inside of a Residual.
    """
    layers = [kinds[kind]() for kind in run if kind is not Join]
    if run[0] is mc.Normalize and not first:
        layers[0].scale = 1.0  # what comes here isn't 0 to 255
    if Join in run:
        at = run.index(Join)
        layers = [mc.Residual(layers[:at] or [mc.SiLU()]), *layers[at:]]
    if not first:
        layers = [mc.Conv2D(3, 1), mc.Tanh(), *layers]
    if run[0] is mc.Dense:
        layers.insert(0 if first else 2, mc.Flatten())
    ends = {mc.Dense, mc.Flatten, mc.GlobalAveragePool2D}
    return [*layers, mc.SiLU(), *([] if ends & set(run) else [mc.Flatten()]), mc.Dense(4)]


def test_every_layer_has_a_case():
    """Give a new layer, or a new run's, its place in KINDS."""
    missing = {kind for run in RUNS for kind in run} - set(KINDS) - {Join}
    assert not missing


@pytest.mark.parametrize("first", [True, False], ids=["first", "later"])
@pytest.mark.parametrize("run", RUNS, ids=name_of)
@each_way
def test_run_gives_what_its_layers_give(run, first, way):
    compare(lambda: network(run, first), PICTURE, way)


@pytest.mark.parametrize("slices", [1, 5])
@pytest.mark.parametrize("run", RUNS, ids=name_of)
def test_run_in_slices(run, slices):
    for first in (True, False):
        compare(lambda first=first: network(run, first), PICTURE, ("float64", "direct"), slices)


@pytest.mark.parametrize("run", PLANNERS, ids=name_of)
def test_run_is_planned_by_its_planners(run, monkeypatch):
    """Each planner of a run has a case above that it doesn't decline."""
    took_it = set()

    def noting(number, planner):
        def plan(*arguments):
            planned = planner(*arguments)
            if planned is not None:
                took_it.add(number)
            return planned

        return plan

    wrapped = [noting(number, planner) for number, planner in enumerate(PLANNERS[run])]
    monkeypatch.setitem(PLANNERS, run, wrapped)
    for kinds in (KINDS, {**KINDS, **OTHERS}):
        for first in (True, False):
            model = build(network(run, first, kinds), PICTURE, "float32")
            x = batch(model, N)
            by_plan(model, x, upstream(model, N))
            plan.infer(model, x)
    assert took_it == set(range(len(wrapped)))


@pytest.mark.parametrize("kind", OTHERS, ids=lambda kind: kind.__name__)
@each_way
def test_layer_that_its_first_planner_declines(kind, way):
    for first in (True, False):
        make = lambda first=first: network((kind,), first, OTHERS)  # noqa: E731
        compare(make, PICTURE, way)


# Networks.


def conv_bn(filters, size=3, strides=1, **options):
    return [mc.Conv2D(filters, size, strides, "same", use_bias=False), mc.BatchNorm(**options)]


def basic(filters, strides=1, shortcut=None):
    body = [*conv_bn(filters, 3, strides), mc.ReLU(), *conv_bn(filters)]
    return [mc.Residual(body, shortcut), mc.ReLU()]


def head(*layers):
    return [*layers, mc.Flatten(), mc.Dense(4)]


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


class Table(mc.Layer):
    """Gives the picture that is its parameter, whatever it gets: its gradient tells who won."""

    def resolve(self, input_shape):
        self.declare("w", input_shape)
        return input_shape

    def forward(self, x, training=False):
        self.cache = ()
        return x * 0 + self.w

    def backward(self, dy):
        self.take_cache()
        self.dw[...] = dy.sum(axis=0)
        return dy * 0


@pytest.mark.parametrize(
    "layers",
    [
        lambda: [mc.MaxPool2D(2)],
        lambda: [mc.Conv2D(2, 1), mc.MaxPool2D(2), mc.ReLU()],
        lambda: [mc.Conv2D(2, 1), mc.ReLU(), mc.MaxPool2D(2)],
        lambda: [mc.Conv2D(2, 2), mc.MaxPool2D(2)],
        lambda: [mc.Conv2D(4, 3), mc.ReLU(), mc.MaxPool2D(2)],
        lambda: [mc.Conv2D(4, 3), mc.MaxPool2D(2), mc.ReLU()],
        lambda: [mc.BatchNorm(), mc.ReLU(), mc.MaxPool2D(2)],
        lambda: [mc.Conv2D(2, 1), mc.BatchNorm(), mc.ReLU(), mc.MaxPool2D(2)],
    ],
    ids=" ".join(
        ["pool", "conv-pool-relu", "conv-relu-pool", "2x2-pool", "3x3-relu-pool", "3x3-pool-relu",
         "bn-relu-pool", "conv-bn-relu-pool"]
    ).split(),
)  # fmt: skip
@each_way
def test_of_equal_pixels_the_first_wins(layers, way):
    """In the order of the window, as in the book: where much is equal, and where all is."""
    dtype, algorithm = way

    def make():
        return head(Table(), *layers())

    for picture in (np.random.default_rng(0).integers(0, 2, (9, 10, 1)) * np.ones(3), 0.0):
        if algorithm == "winograd" and np.ndim(picture):
            continue  # equal windows aren't equal to the last digit, wherever they lie in a tile
        model = build(make(), (9, 10, 3), dtype)
        for name, view in model.params.items():
            view[...] = picture if name == "table_1/w" else abs(view) + 0.1
        truth = like(model, make(), "float64")
        x, dy = batch(model, N), upstream(model, N)
        with mc.threads(2), mc.conv_algorithm(algorithm):
            found, wanted = by_plan(model, x, dy), by_layers(truth, wide(x), dy.astype("float64"))
        check({"w": found["d table_1/w"]}, {"w": wanted["d table_1/w"]}, 10 * LIMITS[way])
        assert np.linalg.norm(wanted["d table_1/w"]) > 0.1 or "BatchNorm" in str(layers())


# BatchNorm.

FAR = {  # what makes values whose mean is far from zero, beside their standard deviation
    "batchnorm": lambda: [mc.Conv2D(8, 1), mc.LeakyReLU(1.0), mc.BatchNorm()],
    "dense batchnorm": lambda: [mc.Flatten(), mc.Dense(8), mc.BatchNorm()],
    "conv 1x1 batchnorm": lambda: [mc.Conv2D(8, 1), mc.BatchNorm()],
    "conv 3x3 batchnorm": lambda: [mc.Conv2D(16, 3), mc.BatchNorm()],
    "first conv batchnorm": lambda: [mc.Normalize(scale=0.01), mc.Conv2D(6, 3), mc.BatchNorm()],
}


@pytest.mark.parametrize("ratio", [10, 1000])
@pytest.mark.parametrize("name", FAR)
def test_batchnorm_keeps_digits_where_the_mean_is_large(name, ratio):
    """As many as the book's, which takes the mean first; at the first step and at the fifth."""

    def make():
        return [*FAR[name](), mc.SiLU(), mc.Flatten(), mc.Dense(4)]

    model = build(make(), (6, 6, 3), "float32")
    biased = next(layer for layer in model.walk() if "b" in layer.declared)
    biased.b[...] = ratio
    truth, plain = like(model, make(), "float64"), like(model, make(), "float32")
    x, dy = batch(model, 4 * N), upstream(model, 4 * N)
    with mc.threads(2):
        for _ in range(5):
            found, wanted = by_plan(model, x, dy), by_layers(truth, wide(x), dy.astype("float64"))
            check(found, wanted, 3e-6 * ratio, by_layers(plain, x, dy))


def test_batchnorm_of_constant_pictures():
    """Variance zero, on every slice and over all: no division by zero, no negative variance."""
    make = lambda: head(mc.Conv2D(4, 3), mc.BatchNorm(), mc.ReLU(), mc.Conv2D(3, 1), mc.Tanh())  # noqa: E731
    model = build(make(), PICTURE, "float32")
    truth = like(model, make(), "float64")
    x, dy = np.full((N, *PICTURE), 0.7, "float32"), upstream(model, N)
    with mc.threads(3):
        found, wanted = by_plan(model, x, dy), by_layers(truth, wide(x), dy.astype("float64"))
    check({"y": found["y"]}, {"y": wanted["y"]}, 1e-2)
    assert all(np.isfinite(array).all() for array in found.values())
    assert (found["batchnorm_1/running_var"] > 0).all()


def test_batchnorm_of_one_value_is_refused_as_in_the_book():
    model = build([mc.Flatten(), mc.Dense(3), mc.BatchNorm(), mc.Dense(2)], (2, 2, 1), "float32")
    for _ in range(2):
        with pytest.raises(ValueError, match=r"one value a channel.*train on larger batches"):
            by_plan(model, batch(model, 1), upstream(model, 1))
    by_plan(model, batch(model, 2), upstream(model, 2))


@pytest.mark.parametrize("strange", [np.nan, np.inf])
def test_batchnorm_leaves_statistics_alone_that_are_not_finite(strange):
    make = lambda: head(mc.Conv2D(4, 3), mc.BatchNorm(), mc.ReLU())  # noqa: E731
    model = build(make(), PICTURE, "float32")
    before = {name: array.copy() for name, array in model.state.items()}
    x = batch(model, N).copy()
    x[5, 3, 3] = strange
    with mc.threads(3), np.errstate(all="ignore"):
        by_plan(model, x, upstream(model, N))
    for name, array in model.state.items():
        assert np.isfinite(array).all()
        np.testing.assert_array_equal(array, before[name])


# Dropout.


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("slices", [1, 2, 3, 5])
@pytest.mark.parametrize("shape", [(3, 5, 1), (7,), (2, 2, 2)], ids=str)
def test_dropout_draws_what_one_generator_would(shape, slices, dtype):
    """Bit for bit, wherever a slice begins; and the stream moves on by one."""
    make = lambda: [mc.Dropout(0.4), mc.Dropout(0.25), mc.Flatten()][: len(shape) + 1]  # noqa: E731
    model, plain = build(make(), shape, dtype), build(make(), shape, dtype)
    x, dy = batch(model, N), upstream(model, N)
    masks = []
    for step in range(3):
        with mc.threads(slices):
            y = by_plan(model, x, dy)["y"]
        wanted = plain.forward(x, training=True)
        plain.forget()
        assert y.tobytes() == wanted.tobytes()
        positions = [stream.position for stream in model.streams.values()]
        assert positions == [step + 1] * len(positions)
        masks.append(y != 0)
        with mc.threads(slices):
            plan.infer(model, x)  # draws nothing
    assert (masks[0] != masks[1]).any() and (masks[1] != masks[2]).any()


def test_dropout_goes_on_from_where_its_stream_is_put():
    model = build(head(mc.Dropout(0.5), mc.Tanh()), PICTURE, "float32")
    x, dy = batch(model, N), upstream(model, N)
    results = [by_plan(model, x, dy) for _ in range(3)]
    (stream,) = model.streams.values()
    stream.position = 1
    again = by_plan(model, x, dy)
    assert again["y"].tobytes() == results[1]["y"].tobytes() and stream.position == 2


# Own layers, and layers that somebody has changed.


class Noting(mc.Layer):
    """Notes what it is called with."""

    def __init__(self):
        super().__init__()
        self.calls = []

    def forward(self, x, training=False):
        self.calls.append(("forward", x.shape, training))
        self.cache = x
        return x * x

    def infer(self, x):
        self.calls.append(("infer", x.shape))
        return x * x

    def backward(self, dy):
        self.calls.append(("backward", dy.shape))
        return 2 * self.take_cache() * dy


class Scale(mc.Layer):
    """Has a parameter and a state, and mixes the pictures of the batch."""

    def resolve(self, input_shape):
        self.declare("w", input_shape[-1:], "ones")
        self.keep("seen", np.zeros(1))
        return input_shape

    def forward(self, x, training=False):
        self.cache = centered = x - x.mean(axis=0)
        self.buffers["seen"] += len(x)
        return centered * self.w

    def backward(self, dy):
        self.dw[...] = (self.take_cache() * dy).reshape(-1, len(self.w)).sum(axis=0)
        dx = dy * self.w
        return dx - dx.mean(axis=0)


def test_own_layer_gets_the_whole_batch_once():
    layer = Noting()
    model = build(head(mc.Conv2D(4, 3), layer, mc.ReLU()), PICTURE, "float32")
    x, shape = batch(model, N), (N, 5, 7, 4)
    with mc.threads(4):
        by_plan(model, x, upstream(model, N))
        assert layer.calls == [("forward", shape, True), ("backward", shape)]
        layer.calls.clear()
        plan.infer(model, x)
        assert layer.calls == [("infer", shape)]


def test_own_layer_may_keep_what_it_gets_and_what_it_gives():
    """Nothing that it was handed is written to afterwards."""

    class Keeping(mc.Layer):
        def __init__(self):
            super().__init__()
            self.kept = []

        def forward(self, x, training=False):
            y = np.tanh(x)
            self.cache = y
            self.kept += [(x, x.copy()), (y, y.copy())]
            return y

        def backward(self, dy):
            dx = dy * (1 - self.take_cache() ** 2)
            self.kept += [(dy, dy.copy()), (dx, dx.copy())]
            return dx

    layer = Keeping()
    model = build(head(mc.Conv2D(4, 3), layer, mc.ReLU(), mc.Dropout(0.5)), PICTURE, "float32")
    with mc.threads(2):
        for seed in range(3):
            by_plan(model, batch(model, N, seed), upstream(model, N))
            plan.infer(model, batch(model, N, seed + 10))
    assert len(layer.kept) == 3 * 6
    for array, then in layer.kept:
        np.testing.assert_array_equal(array, then)


def test_own_layer_may_return_its_input():
    class Same(mc.Layer):
        def forward(self, x, training=False):
            self.cache = ()
            return x

        def backward(self, dy):
            self.take_cache()
            return dy

    for layers in (
        lambda: head(mc.Conv2D(4, 3), Same(), mc.ReLU(), Same()),
        lambda: head(Same(), mc.Residual(Same()), mc.Conv2D(4, 3), mc.Residual(Same())),
    ):
        compare(layers, PICTURE)


@each_way
def test_own_layers_give_what_they_give(way):
    def make():
        return head(
            Scale(), mc.Conv2D(6, 3), Scale(), mc.Residual([mc.Conv2D(6, 1), Scale()], Scale()),
            mc.Concat([Scale(), [mc.Conv2D(2, 1), Noting()]]), mc.Sequential(Scale()),
        )  # fmt: skip

    compare(make, PICTURE, way)


class Loud(mc.Conv2D):
    """An own subclass of a layer that has a planner."""

    def forward(self, x, training=False):
        return super().forward(x, training) * 3

    def backward(self, dy):
        return super().backward(dy * 3)

    def backward_params(self, dy):
        super().backward_params(dy * 3)


class Shifted(mc.Sequential):
    """An own subclass of Sequential."""

    def forward(self, x, training=False):
        return super().forward(x, training) + 1

    def infer(self, x):
        return super().infer(x) + 1


@each_way
def test_own_subclasses_are_themselves(way):
    def make():
        return head(
            Loud(5, 3), mc.ReLU(), mc.MaxPool2D(2), Shifted(mc.Conv2D(4, 1), mc.ReLU()),
            mc.Residual(Loud(4, 1)),
        )  # fmt: skip

    compare(make, PICTURE, way)


CHANGED = {
    "conv": (lambda layers: layers[0], (5, 7, 4)),
    "relu of a run": (lambda layers: layers[1], (5, 7, 4)),
    "in a residual": (lambda layers: layers[2].main[0], (5, 7, 4)),
    "residual": (lambda layers: layers[2], (5, 7, 4)),
    "nested": (lambda layers: layers[3], (5, 7, 4)),
    "in nested": (lambda layers: layers[3][0], (5, 7, 4)),
}


@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.parametrize("name", CHANGED)
def test_forward_that_was_replaced_on_the_object_is_called(name, when):
    """Before the first step, or after it, when there is a plan; and put back, it is gone."""
    layers = [
        mc.Conv2D(4, 3), mc.ReLU(), mc.Residual([mc.Conv2D(4, 1), mc.ReLU()]),
        mc.Sequential(mc.Conv2D(4, 1), mc.Tanh()), mc.Flatten(), mc.Dense(3),
    ]  # fmt: skip
    model = build(layers, PICTURE, "float32")
    x, dy, calls = batch(model, N), upstream(model, N), []
    plain = by_plan(model, x, dy)["y"] if when == "after" else None
    layer = CHANGED[name][0](layers)
    own = layer.forward

    def louder(x, training=False):
        calls.append((x.shape, training))
        return own(x, training) * 2

    layer.forward = louder
    with mc.threads(2):
        found = by_plan(model, x, dy)
    assert len(calls) == 1 and calls[0][1] and calls[0][0][0] == N
    calls.clear()
    check(found, by_layers(model, x, dy), 1e-5)
    assert len(calls) == 1
    del layer.forward
    again = by_plan(model, x, dy)["y"]
    assert len(calls) == 1 and (again != found["y"]).any()
    if plain is not None:
        np.testing.assert_array_equal(again, plain)


def test_backward_that_was_replaced_on_the_object_is_called():
    """As someone would who clips the gradient at a layer."""
    layers = [mc.Conv2D(4, 3), mc.ReLU(), mc.Conv2D(4, 3), mc.Flatten(), mc.Dense(3)]
    model = build(layers, PICTURE, "float32")
    x, dy = batch(model, N), upstream(model, N)
    plain, own = by_plan(model, x, dy), layers[2].backward
    layers[2].backward = lambda dy: np.clip(own(dy), -0.01, 0.01)
    found = by_plan(model, x, dy)
    check(found, by_layers(model, x, dy), 1e-5)
    assert (found["d conv2d_1/w"] != plain["d conv2d_1/w"]).any()


@pytest.mark.parametrize("method", ["forward", "backward_params", "infer"])
def test_method_that_was_replaced_on_the_model_is_called(method):
    model = build(head(mc.Conv2D(4, 3), mc.ReLU()), PICTURE, "float32")
    x, dy, calls = batch(model, N), upstream(model, N), []
    own = getattr(model, method)
    setattr(
        model, method, lambda *arguments, **options: calls.append(1) or own(*arguments, **options)
    )
    by_plan(model, x, dy)
    plan.infer(model, x)
    assert calls


# Several at once.


def test_two_models_step_by_step_in_turns():
    """One goes back after the other has gone forward."""
    makes = [
        lambda: head(mc.Conv2D(5, 3), mc.BatchNorm(), mc.ReLU(), mc.MaxPool2D(2)),
        lambda: head(mc.Conv2D(5, 3), mc.ReLU(), mc.Dropout(0.5)),
    ]
    models = [build(make(), PICTURE, "float64") for make in makes]
    truths = [like(model, make(), "float64") for model, make in zip(models, makes, strict=True)]
    batches = [batch(model, N, seed) for seed, model in enumerate(models)]
    dys = [upstream(model, N) for model in models]
    with (
        mc.threads(2),
        plan.step(models[0], batches[0]) as (y0, back0),
        plan.step(models[1], batches[1]) as (y1, back1),
    ):
        back0(dys[0])
        back1(dys[1])
    for model, truth, x, y, dy in zip(models, truths, batches, (y0, y1), dys, strict=True):
        wanted = by_layers(truth, x, dy)
        check({**wanted, "y": y, **{f"d {k}": v for k, v in model.grads.items()}}, wanted, 1e-10)


def test_loss_of_the_users_own():
    """On whole pictures; and it may ask the model for predictions meanwhile."""
    make = lambda: [mc.Conv2D(4, 3, padding="same"), mc.ReLU(), mc.Conv2D(3, 1)]  # noqa: E731
    model = build(make(), PICTURE, "float64")
    truth = like(model, make(), "float64")
    x, other = batch(model, N), batch(model, N, seed=1)

    def loss(y, target):
        plan.infer(model, other)
        mc.predict(model, other[:5])
        return 0.5 * ((y - target) ** 2).sum(), y - target

    with mc.threads(3):
        value, y = mc.backpropagate(model, x, other, loss)
    wanted = by_layers(truth, x, truth.infer(x) - other)
    check({**wanted, **{f"d {k}": v for k, v in model.grads.items()}, "y": y}, wanted, 1e-10)
    assert float(value) == pytest.approx(0.5 * ((wanted["y"] - other) ** 2).sum())
