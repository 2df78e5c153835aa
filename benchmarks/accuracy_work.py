"""What a training run of `accuracy.py` works on: recipe, network, batches, and what judges it.

The same for every framework: our weights at the start, our batches, our split.
"""

from __future__ import annotations

import hashlib
import warnings
from dataclasses import dataclass
from typing import Any

import numpy as np

import minicnn as mc

PACKED = "5aaf8a2cf2e577ff4dbb15e4f368840fab5aca1812bcc69682005f8dc661d466"
"""SHA-256 of the training pictures of a copy that is in use: packed, its pixels through JPEG."""


@dataclass
class Work:
    """A run, ready to begin.

    model: built, on the device.  judged: pictures and labels that the end is judged on: the test
    set, or, with ``held_out``, training pictures that weren't trained on.
    """

    recipe: mc.Recipe
    model: mc.Sequential
    pictures: np.ndarray
    batches: mc.Batches
    judged: tuple[np.ndarray, np.ndarray]
    judged_on: str
    data: dict[str, Any]


def prepare(task: dict[str, Any], device: str) -> Work:
    """Return the work of a task: "recipe", "changes", "seed", "held_out" and where the data lies.

    device: where the model and the batches are to be.
    """
    recipe = mc.recipes.load(task["recipe"]).changed(**task["changes"])
    (x, y), test, data = load(task["data_dir"], task["pictures"], bool(task["held_out"]))
    seed, rows, on = task["seed"], None, "test set"
    if test is None:
        stream = mc.Stream(seed, "validation")
        rows, held = mc.stratified_split(y, task["held_out"], stream)
        test, on = (x[held], y[held]), f"{len(held):,} held-out training pictures"
    if device == "cpu" and task["framework"] != "minicnn":  # ours is a pattern for the twin only
        float32 = recipe.changed(dtype="float64" if recipe.dtype == "float64" else "float32")
        model = float32.build_model(x.shape[1:], seed=seed)
    else:
        model = recipe.build_model(x.shape[1:], seed=seed, device=device)
    there = model.device.asarray
    batches = mc.Batches(
        there(x),
        there(y),
        recipe.batch_size,
        indices=rows,
        stream=mc.Stream(seed, "shuffle"),
        augment=recipe.augment(),
        augment_stream=mc.Stream(seed, "augmentation"),
        drop_last=recipe.drop_last,
    )
    return Work(recipe, model, x if rows is None else x[rows], batches, test, on, data)


def load(data_dir: str | None, pictures: int, held_out: bool) -> tuple[Any, Any, dict[str, Any]]:
    """Return the training set, the test set, and which copy of CIFAR-10 it is.

    pictures: so many drawn ones instead, if it isn't 0.  held_out: the test set is None: nobody
    looks at it.
    """
    if pictures:
        train = mc.datasets.synthetic(pictures, seed=0)
        test = mc.datasets.synthetic(pictures // 4, seed=1)
        return train, None if held_out else test, {"copy": "drawn pictures"}
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always", mc.DatasetWarning)
        train, test = mc.datasets.cifar10(data_dir, download=False)
    digest = hashlib.sha256(train[0]).hexdigest()
    copy = "a copy that isn't the official one" if said else "original"
    if digest == PACKED:
        copy = "packed copy, pixels through JPEG once"
    return train, None if held_out else test, {"copy": copy, "training pictures sha256": digest}
