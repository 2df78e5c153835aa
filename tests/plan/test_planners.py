"""Every planner against the layers' own forward and backward, which stay the definition."""

from __future__ import annotations

import pytest

import minicnn as mc
from minicnn import plan
from minicnn.layers import LAYERS
from minicnn.plan.convolution_parts import Parts
from minicnn.plan.join import Join
from minicnn.plan.slices import Slice

from .nets import PICTURE, N, batch, build, by_plan, compare, each_way, upstream

pytestmark = pytest.mark.usefixtures("small_slices")

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
    mc.PadChannels: lambda: mc.PadChannels(3),
    mc.ReLU: lambda: mc.ReLU(),
    mc.Residual: lambda: mc.Residual([mc.Tanh(), mc.Conv2D(3, 1)]),
    mc.Sequential: lambda: mc.Sequential(mc.Conv2D(3, 1), mc.Sequential(mc.ReLU())),
    mc.Scale: lambda: mc.Scale(-1.5),
    mc.SiLU: lambda: mc.SiLU(),
    mc.Sigmoid: lambda: mc.Sigmoid(),
    mc.Softmax: lambda: mc.Softmax(),
    mc.Tanh: lambda: mc.Tanh(),
}
OTHERS = {  # where one planner declines, and the next is asked
    mc.Conv2D: lambda: mc.Conv2D(3, 3, padding="same", groups=3),
    mc.LeakyReLU: lambda: mc.LeakyReLU(1.5),
    mc.MaxPool2D: lambda: mc.MaxPool2D(3, 2),
}
PLANNERS = {run: found for run, found in Slice.planners.items() if run}
RUNS = sorted({*PLANNERS, *((kind,) for kind in LAYERS.values())}, key=str)


def wide_groups(run):
    """Whether a run has the convolution of `OTHERS`, as if its groups were wide."""
    return any(isinstance(layer, mc.Conv2D) and layer.groups > 1 for layer in run)


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
    monkeypatch.setitem(Slice.planners, run, wrapped)
    others = {**KINDS, **OTHERS}
    declined = Parts.of
    monkeypatch.setattr(Parts, "of", lambda run: None if wide_groups(run) else declined(run))
    for kinds, dtype in ((KINDS, "float32"), (KINDS, "float64"), (others, "float32")):
        for first in (True, False):
            model = build(network(run, first, kinds), PICTURE, dtype)
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


@pytest.mark.parametrize("side", [9, 10, 11, 12])
@pytest.mark.parametrize(
    "conv",
    [
        {"kernel_size": 3},
        {"kernel_size": 1},
        {"kernel_size": 2, "padding": "same"},
        {"kernel_size": 3, "strides": 2},
        {"kernel_size": 3, "strides": 2, "padding": 1},
        {"kernel_size": (2, 5), "strides": (1, 3)},
        {"kernel_size": 2, "dilation_rate": 3},
    ],
    ids=str,
)
@each_way
def test_pooling_leaves_a_rest(conv, side, way):
    """Rows and columns that no pooling takes are computed in training at most."""
    layers = lambda: [  # noqa: E731
        mc.Conv2D(5, 1),
        mc.Conv2D(6, **conv),
        mc.ReLU(),
        mc.MaxPool2D(2),
        mc.Flatten(),
        mc.Dense(4),
    ]
    compare(layers, (side, side + 1, 3), way)
