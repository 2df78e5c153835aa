"""Recipes: everything that a training run depends on but data and seed, as files to be read.

    recipe = load("resnet20")                   # or load("my.toml")
    model = recipe.build_model(x.shape[1:], classes=10, seed=0, device="auto")

A recipe is a file NAME.toml beside this one, or anybody's own; `recipe.Recipe` says what may stand
in it.  ``examples/train_cifar.py --recipe NAME`` trains by one, with its loop in the open.
"""

from .reading import RecipeError
from .recipe import Recipe, load, names

__all__ = ["Recipe", "RecipeError", "load", "names"]
