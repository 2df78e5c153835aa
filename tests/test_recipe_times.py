"""When something happens in a recipe: at shares of a run of any length, and to which layers."""

from __future__ import annotations

import pytest

import minicnn as mc


def recipe(epochs=10, **tables):
    start = {
        "about": "a test's",
        "model": {"name": "resnet20", "filters": 3},
        "training": {"epochs": epochs, "batch_size": 8},
        "optimizer": {"name": "SGD"},
        "schedule": {"name": "constant", "lr": 0.1},
    }
    return mc.Recipe(start | tables, "own")


def milestones(**options):
    return {"schedule": {"name": "milestones", "lr": 0.1, **options}}


@pytest.mark.parametrize("steps", [1, 2, 3, 4, 5, 7, 40])
def test_milestones_fit_into_the_shortest_run(steps):
    """Two that would be at one step come one after the other."""
    lr = recipe(1, **milestones(at=[0.5, 0.75])).optimizer(steps).lr
    rates = [lr(step) for step in range(steps + 2)]
    assert rates[0] == 0.1 and rates == sorted(rates, reverse=True)
    assert rates[-1] == pytest.approx(0.001)


def test_milestones_behind_the_end_of_a_shorter_run_never_come():
    lr = recipe(10, **milestones(at_epochs=[5, 100])).optimizer(4).lr
    assert [lr(19), lr(20), lr(39)] == pytest.approx([0.1, 0.01, 0.01])


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"at": [50, 75]}, "schedule: at 50: expected a number > 0 and < 1"),
        ({"at": [-0.5]}, "schedule: at -0.5: expected a number > 0 and < 1"),
        ({"at": [True]}, "schedule: at True"),
        ({"at": ["0.5"]}, "schedule: at '0.5'"),
        ({"at": [[0.5]]}, r"schedule: at \[0.5\]"),
        ({"at": [float("nan")]}, "schedule: at nan"),
        ({"at": [0.75, 0.5]}, r"schedule: at \[0.75, 0.5\]: expected rising times"),
        ({"at": [0.5, 0.5]}, "expected rising times"),
        ({"at_epochs": [0]}, "schedule: at_epochs 0: expected a number > 0"),
        ({"at_epochs": [3], "at": [0.5]}, "either at, .* or at_epochs"),
    ],
)
def test_milestones_that_cannot_be_are_refused(options, text):
    with pytest.raises(mc.RecipeError, match=text):
        recipe(**milestones(**options))


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({}, "schedule: every 0: expected a share of the run"),
        ({"every": 30}, "schedule: every 30: expected a share of the run"),
        ({"every": -0.1}, "schedule: every -0.1: expected a number >= 0"),
        ({"every_epochs": float("inf")}, "schedule: every_epochs inf"),
        ({"every": 0.1, "every_epochs": 3}, "every and every_epochs: expected one of the two"),
    ],
)
def test_step_decay_that_cannot_be_is_refused(options, text):
    with pytest.raises(mc.RecipeError, match=text):
        recipe(schedule={"name": "step_decay", "lr": 0.1, **options})


def frozen(*freeze):
    found = recipe(freeze=[{"after": 0, **one} for one in freeze])
    model = found.build_model((8, 8, 3))
    found.freeze(model, 0)
    return model


def inside(model, path):
    return {name for name in model.params if name.startswith(f"{path}/")}


def test_freeze_of_a_residual_freezes_the_layers_inside():
    model = frozen({"layer": "residual_1"})
    assert model.params.frozen == inside(model, "residual_1") != set()
    assert model["residual_1"].main["batchnorm_1"].trainable is False
    model = frozen({"layer": "residual_1", "parameters": ["beta"]})
    assert model.params.frozen == {
        name for name in inside(model, "residual_1") if name.endswith("/beta")
    }
    assert model["residual_1"].main["batchnorm_1"].trainable == ("gamma",)
    assert model["residual_1"].main["conv2d_1"].trainable is True


def test_freeze_of_nothing_is_refused():
    with pytest.raises(mc.RecipeError, match=r"freeze.layer: 'relu_1': there is nothing in it"):
        frozen({"layer": "relu_1"})


@pytest.mark.parametrize("names", [[3], [["b"]], [{}]])
def test_freeze_of_what_is_no_name_is_refused(names):
    with pytest.raises(mc.RecipeError, match=r"freeze.parameters: .*: no such parameter"):
        frozen({"layer": "conv2d_1", "parameters": names})


@pytest.mark.parametrize("found", [None, 3, "resnet20", []])
def test_recipe_of_no_tables_is_refused(found):
    with pytest.raises(mc.RecipeError, match=r"own: .*: expected a table"):
        mc.Recipe(found, "own")
