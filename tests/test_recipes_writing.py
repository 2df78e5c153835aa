"""A recipe as a file: what is written is what is read."""

from __future__ import annotations

import tomllib

import pytest

import minicnn as mc
from minicnn.recipes.writing import recipe_text, value_text


@pytest.mark.parametrize("name", mc.recipes.names())
def test_recipe_is_read_as_it_was_written(name, tmp_path):
    recipe = mc.recipes.load(name)
    (tmp_path / "copy.toml").write_text(recipe_text(recipe, "Found.\n\n"), encoding="utf-8")
    read = mc.recipes.load(tmp_path / "copy.toml")
    assert read.about == f"Found.\n\n{recipe.about}"
    assert read.tables | {"about": ""} == recipe.tables | {"about": ""}


@pytest.mark.parametrize(
    "value",
    ["a\nb", 'say "no"', '"""', "back\\slash", "tab\t\x00\x7f", "ends in \"", "grün 🙂",
     1e-05, 1e22, 3, True, [1, 2.5, "x"], [], -0.0],
)  # fmt: skip
def test_value_is_read_as_it_was_written(value):
    assert tomllib.loads(f"key = {value_text(value)}")["key"] == value
    if isinstance(value, str):
        recipe = mc.recipes.load("tutorial")
        tables = recipe.tables | {"about": value}
        text = recipe_text(mc.Recipe(tables, "own"))
        assert tomllib.loads(text)["about"].strip() == value.strip()


def test_tables_with_strange_keys_are_read_as_they_were_written():
    tables = mc.recipes.load("tutorial").tables
    tables["optimizer"] |= {"lr_scale": {"*/b": 2.0, "dense_2/w": 0.5}}
    assert tomllib.loads(recipe_text(mc.Recipe(tables, "own")))["optimizer"] == tables["optimizer"]
