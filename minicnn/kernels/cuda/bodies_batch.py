"""Batches of CuPy's arrays: gathered and varied in one launch."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ...backend import Array
from ...functional import gather as book
from ...streams import Draw
from . import batch as kernels
from .bodies import of_book
from .registry import body
from .writer import Now

ORDER = ("flip", "crop", "cutout")


@body(book.gather)
def gather(
    x: Array, labels: Array, chosen: Array | slice, varied: Sequence[Any] = (), rng: Any = None
) -> tuple[Array, Array]:
    """See the book.  What the kernel doesn't know, or not in this order, is done by the book."""
    changes = changes_of(varied)
    if not fits(x, chosen) or (varied and not isinstance(rng, Draw)) or changes is None:
        return of_book(book.gather)(x, labels, chosen, varied, rng)
    s, by_slice = Now("float32"), isinstance(chosen, slice)
    count = chosen.stop - chosen.start if isinstance(chosen, slice) else len(chosen)
    batch = s.new((count, *x.shape[1:]), x.dtype)
    known = labels.dtype.itemsize in (4, 8) and labels.flags.c_contiguous
    targets = s.new((count, *labels.shape[1:]), labels.dtype) if known else labels[chosen]
    kernels.gather(
        s, x, labels if known else None,
        None if by_slice else chosen, chosen.start if by_slice else 0,
        batch, targets if known else None,
        changes, *((rng.seed % 2**64, rng.position) if varied else (0, 0)),
    )  # fmt: skip
    return batch, targets


def fits(x: Array, chosen: Array | slice) -> bool:
    """Whether there are pictures, and a choice, such as the kernel knows."""
    if isinstance(chosen, slice):  # a view is cheaper where nothing is changed
        ends = chosen.start, chosen.stop
        able = None not in ends and chosen.step is None and 0 <= ends[0] <= ends[1] <= len(x)
    else:
        able = chosen.dtype == "int64" and chosen.flags.c_contiguous and len(chosen) > 0
    return able and x.dtype == "uint8" and x.ndim == 4 and x.flags.c_contiguous and len(x) > 0


def changes_of(varied: Sequence[Any]) -> kernels.Changes | None:
    """Return what the kernel is to do; None if it can't do all of it, or not in this order.

    What a subclass does differently isn't known here: a class has to say so itself.
    """
    options: dict[str, Any] = {}
    last = -1
    for vary in varied:
        known: dict[str, Any] = {}
        if "known_to_kernels" in vars(type(vary)):
            known = vary.known_to_kernels()
        places = [ORDER.index(name) for name in known if name in ORDER]
        if len(places) != 1 or places[0] <= last:
            return None
        last = places[0]
        options |= known
    return kernels.Changes(**options)
