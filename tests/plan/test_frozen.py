"""Plans of networks of which a part is frozen, against the layers' own forward and backward."""

from __future__ import annotations

import numpy as np
import pytest

import minicnn as mc
from minicnn.plan.kept import plan_for

from .frozen import CASES, WAYS, frozen
from .nets import batch, build, by_layers, by_plan, check, compare, like, upstream

pytestmark = pytest.mark.usefixtures("small_slices")


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("name", CASES)
def test_frozen_network(name, way):
    compare(*frozen(name, way), N=7)


@pytest.mark.parametrize("way", ["base", "norms"])
def test_frozen_network_by_winograd(way):
    compare(*frozen("vgg", way), ("float32", "winograd"), N=5)


def test_frozen_network_in_processes(at_once):
    compare(*frozen("mixed", "norms"), N=7)


def test_processes_see_what_optimizers_do_to_parts_of_the_weights(at_once):
    """They have the arrays that there were when they were forked."""
    x, labels = batch(build(CASES["mixed"][0](), (9, 11, 3), "float64"), 8), np.arange(8) % 4
    weights = []
    for allowed in (True, False):
        model = build(CASES["mixed"][0](), (9, 11, 3), "float64")
        optimizer = mc.SGD(
            0.05, 0.9, lr_scale={"*/beta": 3}, lookahead=mc.Lookahead(2, 0.5), ema_decay=0.5
        )
        with mc.threads(2), mc.processes(allowed):
            for k in range(6):
                mc.train_step(model, optimizer, x, labels)
                model["batchnorm_1"].trainable = k < 3
        optimizer.use_averaged(model.params)
        weights.append(model.params.data.copy())
    np.testing.assert_array_equal(*weights)


@pytest.mark.parametrize("way", ["base", "everything"])
def test_frozen_base_is_forward_only_and_keeps_nothing(way):
    make, shape = frozen("vgg", way)
    model = build(make(), shape, "float32")
    free = build(CASES["vgg"][0](), shape, "float32")
    x = batch(model, 16)
    plan, other = plan_for(model, x, True), plan_for(free, x, True)
    labels = {
        label.partition(" ")[2]
        for stage in plan.backward_stages
        for slice_labels in stage.labels
        for label in slice_labels
        if label.startswith("backward")
    }
    assert labels <= {"dense_2"}
    assert bool(labels) == (way == "base")
    assert plan.nbytes < 0.6 * other.nbytes


def test_plan_follows_what_is_frozen_between_steps():
    make, shape = CASES["mixed"]
    model = build(make(), shape, "float64")
    truth = like(model, make(), "float64")
    x, dy = batch(model, 6), upstream(model, 6)

    def same_as_layers():
        for name, stream in truth.streams.items():
            stream.position = model.streams[name].position
        found = by_plan(model, x, dy)
        check(found, by_layers(truth, x, dy), 1e-10)
        return found

    first = same_as_layers()
    for change in (
        lambda m: setattr(m["batchnorm_1"], "trainable", False),
        lambda m: setattr(m["residual_1"], "trainable", False),
        lambda m: setattr(m["dense_1"], "trainable", ("b",)),
        lambda m: setattr(m["residual_1"], "trainable", True),
    ):
        for each in (model, truth):
            change(each)
        found = same_as_layers()
        for name in model.params.frozen:
            assert not found[f"d {name}"].any()
    assert model.params.frozen == {"batchnorm_1/gamma", "batchnorm_1/beta", "dense_1/w"}
    assert first.keys() == found.keys()
    model.trainable = True
    same = plan_for(model, x, True)
    model.trainable = True
    assert plan_for(model, x, True) is same


class Halve(mc.Layer):
    """A user's own layer, with a parameter."""

    def resolve(self, input_shape):
        self.declare("scale", (input_shape[-1],), "ones")
        return input_shape

    def forward(self, x, training=False):
        self.cache = x
        return x * self.scale * (0.5 if training else 1.0)

    def backward(self, dy):
        self.dscale[...] = (dy * self.take_cache()).sum((0, 1, 2)) * 0.5
        return dy * self.scale * 0.5


@pytest.mark.parametrize("place", [0, 1])
def test_own_layer_may_be_frozen(place):
    def make():
        layers = [mc.Conv2D(3, 3), mc.ReLU(), mc.Flatten(), mc.Dense(4)]
        layers.insert(place, Halve(trainable=False))
        return layers

    model = build(make(), (6, 5, 3), "float64")
    truth = like(model, make(), "float64")
    x, dy = batch(model, 5), upstream(model, 5)
    check(by_plan(model, x, dy), by_layers(truth, x, dy), 1e-10)
    assert not model.grads["halve_1/scale"].any()
    model["halve_1"].trainable = True
    truth["halve_1"].trainable = True
    check(by_plan(model, x, dy), by_layers(truth, x, dy), 1e-10)
    assert np.all(model.grads["halve_1/scale"] != 0)


@pytest.mark.parametrize("trainable", [True, False])
def test_batchnorm_without_parameters_is_frozen_if_it_says_so(trainable):
    def make():
        norm = mc.BatchNorm(center=False, scale=False, trainable=trainable)
        return [norm, mc.ReLU(), mc.Flatten(), mc.Dense(4)]

    compare(make, (3, 4, 2))
    model = build(make(), (3, 4, 2), "float64")
    before = model.state["batchnorm_1/running_mean"].copy()
    by_plan(model, batch(model, 6), upstream(model, 6))
    assert np.array_equal(before, model.state["batchnorm_1/running_mean"]) != trainable
