"""The space of the search: what may stand in it, and what it makes of a recipe."""

from __future__ import annotations

import pytest
from tuning_helpers import recipe as small

import minicnn as mc
from minicnn.tuning import Choices, Numbers, default_space, read_space
from minicnn.tuning.settings import changed
from minicnn.tuning.space import as_tables, own_setting


def recipe():
    """A recipe that takes everything."""
    return small({"name": "wide_resnet", "depth": 10, "width": 2})


TEXT = """
[lr]
low = 1
high = 10
log = true

[batch_size]
choices = [8, 16]

[optimizer.momentum]
low = 0.5
high = 0.9

[loss]
label_smoothing = [0.0, 0.1]

[model.depth]
low = 10
high = 22
step = 6
"""


def test_read_space_of_a_file(tmp_path):
    path = tmp_path / "space.toml"
    path.write_text(TEXT)
    assert read_space(path, recipe()) == {
        "lr": Numbers(1.0, 10.0, log=True),
        "batch_size": Choices((8, 16)),
        "optimizer.momentum": Numbers(0.5, 0.9),
        "loss.label_smoothing": Choices((0.0, 0.1)),
        "model.depth": Numbers(10, 22, step=6),
    }
    assert not Numbers(1.0, 10.0, log=True).whole and Numbers(10, 22, step=6).whole


@pytest.mark.parametrize(
    ("space", "said"),
    [
        ({}, "there is nothing to search"),
        ({"lr": 3}, "lr: 3: expected a table"),
        ({"lr": {}}, "lr: expected low and high, or choices"),
        ({"lr": {"low": 1.0}}, "lr: expected low and high, or choices"),
        ({"lr": {"low": 0.0, "high": 1.0, "log": True}}, "low 0.0: expected a number > 0"),
        ({"lr": {"low": 1.0, "high": 0.1}}, "high 0.1: expected a number > 1"),
        ({"lr": {"low": "a", "high": 0.1}}, "low 'a': expected a number"),
        ({"lr": {"low": 0.1, "high": 1, "top": 1}}, "lr.top: unknown; expected one of low, high"),
        ({"lr": {"choices": [1.0], "log": True}}, "lr.log: unknown; expected one of choices"),
        ({"lr": {"choices": 1.0}}, "choices 1.0: expected a list"),
        ({"lr": []}, "expected numbers or texts"),
        ({"lr": [0.1, 0.1]}, "one is there twice"),
        ({"lr": {"low": 0.1, "high": 1.0, "log": True, "step": 0.1}}, "expected one of the two"),
        ({"speed": [1, 2]}, "speed: unknown; expected lr, batch_size, "),
        ({"optimizer.speed": [1, 2]}, "optimizer.speed: 1 can't stand in the recipe: .*unknown"),
        ({"optimizer.lookahead.every": [2]}, "the recipe has no optimizer.lookahead"),
        ({"batch_size": [8, 0]}, "batch_size: 0 can't stand in the recipe"),
        ({"batch_size": {"low": 0.5, "high": 2.5}}, "0.5 can't stand in the recipe.*an integer"),
        ({"augment": ["flop"]}, "augment: 'flop' can't stand .* expected 'none', 'recipe', or"),
        ({"augment": ["flip3"]}, "expected 'none', 'recipe', or"),
        ({"lr": [1.0], "schedule": {"lr": [0.1]}}, "schedule.lr: it is what lr is: name one"),
        ({"model.width": [2, 4], "width": [0.5]}, "width: it is what model.width is"),
        ({"optimizer.weight_decay": [0.1], "weight_decay": [0.2]}, "it is what optimizer.weight"),
        ({"epochs": [1, 2]}, "it is what trials are compared by"),
        ({"dropout": {"low": 0.1, "high": 1.0}}, "dropout: 1.0 can't stand in the recipe"),
    ],
)
def test_read_space_refuses(space, said):
    with pytest.raises(mc.RecipeError, match=f"space.*{said}"):
        read_space(space, recipe())


def test_read_space_says_which_file(tmp_path):
    with pytest.raises(mc.RecipeError, match=r"none.toml: can't be read: No such file"):
        read_space(tmp_path / "none.toml", recipe())
    (tmp_path / "bad.toml").write_text("[lr")
    with pytest.raises(mc.RecipeError, match=r"bad.toml: isn't TOML"):
        read_space(tmp_path / "bad.toml", recipe())


@pytest.mark.parametrize("name", ["dropout", "width"])
def test_read_space_refuses_what_the_network_lacks(name):
    with pytest.raises(mc.RecipeError, match=rf"{name}: the network tutorial_cnn has"):
        read_space({name: [0.1, 0.2]}, mc.recipes.load("tutorial"))


@pytest.mark.parametrize("name", mc.recipes.names())
def test_default_space_fits_its_recipe(name):
    found = mc.recipes.load(name)
    space, left_out = default_space(found, 45_000)
    assert set(space) | set(left_out) == {
        "lr", "batch_size", "weight_decay", "dropout", "width", "augment",
    }  # fmt: skip
    assert not set(space) & set(left_out)
    assert ("width" in left_out) == (name in ("tutorial", "tutorial_best", "cifar_cnn"))
    assert read_space(as_tables(space), found) == space  # whose ends all stand in the recipe
    first = own_setting(space, found)
    assert set(first) == set(space)
    assert changed(found, first).tables == found.tables


def test_default_space_leaves_out_batches_larger_than_the_pictures():
    space, left_out = default_space(recipe(), 20)
    assert "batch_size" not in space and "20 pictures leave no choice" in left_out["batch_size"]
    assert default_space(recipe(), 32)[0]["batch_size"] == Choices((7, 15))


def test_changed_sets_what_the_parameters_mean():
    values = {
        "lr": 0.3,
        "batch_size": 4,
        "weight_decay": 0.01,
        "dropout": 0.2,
        "width": 1.5,
        "augment": "flip+crop3+cutout5",
        "optimizer.momentum": 0.8,
    }
    base = recipe()
    tables = changed(base, values).tables
    assert tables["schedule"]["lr"] == 0.3 and tables["training"]["batch_size"] == 4
    assert tables["optimizer"] == {"name": "SGD", "momentum": 0.8, "weight_decay": 0.01}
    assert tables["model"] == {"name": "wide_resnet", "depth": 10, "width": 3, "dropout": 0.2}
    assert tables["augment"] == [
        {"name": "RandomFlip"},
        {"name": "RandomCrop", "padding": 3},
        {"name": "Cutout", "size": 5},
    ]
    assert base.tables["schedule"]["lr"] == 0.05 and base.tables["augment"] == []
    assert changed(recipe(), {"augment": "none"}).tables["augment"] == []


def test_changed_widens_every_group():
    wide = changed(mc.recipes.load("cpu_quick"), {"width": 1.5})
    assert wide.tables["model"]["widths"] == (48, 96, 192)
    assert changed(mc.recipes.load("resnet20"), {"width": 0.5}).tables["model"]["filters"] == 8


def test_numbers_have_few_digits_and_stay_within():
    assert Numbers(0.1, 1.0).value(0.123456) == 0.123
    assert Numbers(0.12345, 1.0).value(0.123451) == 0.12345
    assert Numbers(1, 9).value(3) == 3


@pytest.mark.parametrize(
    ("found", "value", "inside"),
    [
        (Numbers(0.1, 1.0), 0.5, True),
        (Numbers(0.1, 1.0), 2.0, False),
        (Numbers(0.1, 1.0), "recipe", False),
        (Numbers(4, 16, step=4), 8, True),
        (Numbers(4, 16, step=4), 9, False),
        (Numbers(4, 16), 9, True),
        (Numbers(4, 16), 9.5, False),
        (Choices((1, "a")), "a", True),
        (Choices((1, "a")), 2, False),
    ],
)
def test_own_values_are_known(found, value, inside):
    assert found.has(value) is inside


def test_networks_default_is_its_own_value():
    space = {"model.filters": Choices((8, 16)), "optimizer.momentum": Choices((0.5, 0.9))}
    assert own_setting(space, mc.recipes.load("resnet20")) == {
        "model.filters": 16, "optimizer.momentum": 0.9,
    }  # fmt: skip
