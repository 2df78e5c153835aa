"""The search for a recipe's numbers: learning rate, batch size, weight decay, width and so on.

    results = mc.tune(x, y, "tutorial_best", trials=20, storage="sqlite:///tune.db")
    print(results)                          # a table, the best setting first
    results.write("best.toml")              # a recipe: examples/train_cifar.py --recipe best.toml

A trial trains by the recipe with other values in it and is judged on held-out pictures; one that
does worse than others did at the same epoch is given up (pruned).  Trials are drawn and kept by
Optuna (Akiba et al., "Optuna: a next-generation hyperparameter optimization framework", 2019), the
extra ``tune``; in a storage they outlive the process, and several processes share them.
"""

from .results import Results, Trial, check_picture, check_recipe
from .search import PRUNERS, Search, tune
from .space import Choices, Numbers, Space, default_space, read_space
from .storage import StorageError, import_optuna

__all__ = [
    "PRUNERS",
    "Choices",
    "Numbers",
    "Results",
    "Search",
    "Space",
    "StorageError",
    "Trial",
    "check_picture",
    "check_recipe",
    "default_space",
    "import_optuna",
    "read_space",
    "tune",
]
