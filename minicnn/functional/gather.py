"""Gathering: the pictures of a batch, taken out of a data set and varied."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import singledispatch
from typing import Any

from ..backend import Array


@singledispatch
def gather(
    x: Array,
    labels: Array,
    chosen: Array | slice,
    varied: Sequence[Callable[[Array, Array, Any], tuple[Array, Array]]] = (),
    rng: Any = None,
) -> tuple[Array, Array]:
    """Take some examples, and vary their pictures.

        batch[n], target[n] = varied(x[chosen[n]], labels[chosen[n]])

    x: (M, ...).  labels: (M, ...).  chosen: integers (N,), or a slice.  varied: what is done to the
    batch, one after the other (`data.augment`), with random numbers of ``rng``; one that isn't the
    same for all M examples has a method ``for_examples``, which gives the one for those chosen.
    Returns the batch and its labels; without variations and by a slice they are views of x and
    labels.
    """
    batch, targets = x[chosen], labels[chosen]
    for vary in varied:
        if hasattr(vary, "for_examples"):
            vary = vary.for_examples(chosen)
        batch, targets = vary(batch, targets, rng)
    return batch, targets
