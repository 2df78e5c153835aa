"""Batches (``batch.cu``): pictures gathered, varied and handed on in one launch."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from ...backend import Array
from .writer import Writer


@dataclass(frozen=True)
class Changes:
    """What is done to each picture, in this order.

    flip: mirror left and right, or not (`RandomFlip`); or uint8 (M,), 1 for those pictures of the
    data set that are to be mirrored (`AlternatingFlip`).  crop: shift by up to so many pixels, with
    the mirror image beyond the border (`RandomCrop`).  cutout: cover a square of so many pixels
    with the grey level ``fill`` (`Cutout`); 0 covers nothing.

    What can come out is the same as on the CPU; which of it does isn't: here the numbers are drawn
    by counting (`philox` in real.cuh), from the seed, the step and the picture's place.
    """

    flip: bool | Array = False
    crop: int = 0
    cutout: int = 0
    fill: int = 128


@dataclass(frozen=True)
class Statistics:
    """What pictures are normalized with (`Normalize`): mean and std, (C,) in the type of sums."""

    mean: Array
    std: Array
    scale: float = 1 / 255


NOTHING = Changes()


def gather(
    s: Writer,
    pictures: Array,
    labels: Array | None,
    order: Array | None,
    first: int | Array,
    x: Array,
    y: Array | None,
    changes: Changes = NOTHING,
    seed: int = 0,
    step: int | Array = 0,
    normalized: Statistics | None = None,
) -> None:
    """Write x[n] = changed(pictures[order[first + n]]) and y[n] = labels[order[first + n]].

    pictures: (M, H, W, C) uint8.  labels, y: (M, ...) and (N, ...) of one dtype, of 4 or 8 bytes a
    number; or None.  order: int64, any length, None for "as they lie"; after its end it begins
    again.  x: (N, H, W, C), uint8, or in the storage type with ``normalized``.  first, step:
    numbers, or int64 (1,) on the device, which are read when this runs.  Each pair of seed (0 to
    2^64 - 1) and step changes the batch's pictures anew.
    Raises ValueError if the shapes don't fit, or a shift is as large as a picture.
    """
    N, H, W, C = x.shape
    check(pictures, labels, x, y, changes)
    flip, mirrored = (
        (changes.flip, None) if isinstance(changes.flip, bool) else (False, changes.flip)
    )
    words = 0 if y is None else y.itemsize // 4 * (y.size // N if N else 0)
    where, begin = (None, first) if is_number(first) else (first, 0)
    clock, number = (None, step) if is_number(step) else (step, 0)
    common = (
        pictures, labels, order, where, begin,
        len(pictures) if order is None else len(order), x, y,
        words, N, H, W, C, int(flip), mirrored, changes.crop, changes.cutout, changes.fill, seed,
        clock, number,
    )  # fmt: skip
    if normalized is None:
        s.launch("gather_bytes", 0, *common, grid=N)
    else:
        how = normalized.mean, normalized.std, normalized.scale
        s.launch("gather_normalized", 0, *common, *how, grid=N)


def is_number(value: Any) -> bool:
    """Whether a value is a number of the CPU's."""
    return isinstance(value, int | np.integer)


def check(pictures: Array, labels: Array | None, x: Array, y: Array | None, how: Changes) -> None:
    """Raise ValueError for what would be read or written beyond its end."""
    if pictures.dtype != "uint8" or pictures.shape[1:] != x.shape[1:] or len(pictures) == 0:
        raise ValueError(f"pictures are {pictures.dtype} {pictures.shape}, the batch is {x.shape}")
    if not 0 <= how.crop < min(x.shape[1:3]):
        raise ValueError(f"crop {how.crop}: pictures are {x.shape[1]} x {x.shape[2]}")
    if not isinstance(how.flip, bool) and how.flip.shape != pictures.shape[:1]:
        raise ValueError(f"flip is {how.flip.shape}, expected True, False, or ({len(pictures)},)")
    if how.cutout < 0 or not 0 <= how.fill <= 255:
        raise ValueError(f"cutout {how.cutout}, fill {how.fill}: expected >= 0, and 0 to 255")
    if (labels is None) != (y is None):
        raise ValueError("labels and y: expected both or none")
    if labels is not None and y is not None:
        fit = labels.shape[1:] == y.shape[1:] and labels.dtype == y.dtype
        if not fit or len(labels) != len(pictures) or len(y) != len(x) or y.itemsize % 4:
            raise ValueError(
                f"labels are {labels.dtype} {labels.shape}, y is {y.dtype} {y.shape}, "
                f"for {len(pictures)} pictures and a batch of {len(x)}"
            )
