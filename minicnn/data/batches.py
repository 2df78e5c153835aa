"""Cut a data set into batches, in an order that is drawn anew for every epoch."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Sequence
from numbers import Real
from typing import Any, TypeAlias

import numpy as np

from ..backend import Array, array_module, beside, to_numpy
from ..functional.gather import gather
from ..streams import Stream

Augment: TypeAlias = Callable[[Array, Array, Any], tuple[Array, Array]]
"""Turns (x, labels, rng) into (x, labels); see augment.py."""


class Batches:
    """One epoch of batches for each time it is iterated over.

        for x_batch, y_batch in Batches(x, y, 128, stream=Stream(0, "shuffle")):
            ...

    x: (N, ...)  y: (N, ...), of one library; on a GPU the batches are gathered there.
    indices: integers (M,), the examples to use, all by default.  stream: gives each epoch its
    order; without one the order is that of ``indices``.  augment: called in turn on every batch,
    each batch with one generator of ``augment_stream``.  drop_last: leave out a last batch that
    isn't full; otherwise it is smaller.

    Don't write into a batch: it may be a view of ``x``.  Raises ValueError for arguments that
    don't fit together, and if there would be no batch at all.
    """

    def __init__(
        self,
        x: Array,
        y: Array,
        batch_size: int,
        indices: np.ndarray | None = None,
        stream: Stream | None = None,
        augment: Sequence[Augment] = (),
        augment_stream: Stream | None = None,
        drop_last: bool = False,
    ) -> None:
        if getattr(x, "shape", ()) == () or getattr(y, "shape", ()) == ():
            raise TypeError("x and y: expected arrays of pictures and labels")
        if len(x) != len(y):
            raise ValueError(f"{len(x)} pictures but {len(y)} labels: expected as many of each")
        if array_module(x) is not array_module(y):
            raise ValueError("x and y are on different devices: move both to the same one")
        if isinstance(batch_size, bool) or not isinstance(batch_size, int) or batch_size < 1:
            raise ValueError(f"batch_size {batch_size!r}: expected an integer >= 1")
        if augment and augment_stream is None:
            raise ValueError("augment needs augment_stream, for example Stream(seed, 'augment')")
        by_epoch = [vary for vary in augment if hasattr(vary, "for_epoch")]
        if by_epoch and stream is None:
            raise ValueError(
                f"{by_epoch[0]} has to know the epoch, which is counted by the stream that "
                "shuffles: give one, for example stream=Stream(seed, 'shuffle')"
            )
        self.x, self.y, self.batch_size = x, y, batch_size
        self.indices = None if indices is None else checked_indices(indices, len(x))
        self.stream, self.drop_last = stream, drop_last
        self.drawn_from = 0
        """The position of ``stream`` before it drew the order of the epoch at work."""
        self.digest = ""
        self.augment, self.augment_stream = tuple(augment), augment_stream
        if len(self) == 0:
            count = len(x) if self.indices is None else len(self.indices)
            raise ValueError(
                f"{count} examples make no batch of {batch_size}: give more examples, or "
                "a smaller batch_size, or drop_last=False"
            )

    def __len__(self) -> int:
        """Count the batches of an epoch."""
        return -(-self.examples // self.batch_size)

    @property
    def examples(self) -> int:
        """The number of examples in an epoch."""
        count = len(self.x) if self.indices is None else len(self.indices)
        return count - count % self.batch_size if self.drop_last else count

    def __iter__(self) -> Iterator[tuple[Array, Array]]:
        """Yield (x_batch, y_batch) until the epoch is over."""
        return self.epoch()

    def epoch(self, done: int = 0) -> Iterator[tuple[Array, Array]]:
        """Yield the batches of an epoch of which ``done`` examples are done already."""
        self.drawn_from = 0 if self.stream is None else self.stream.position
        varied = [self.in_epoch(vary, self.drawn_from) for vary in self.augment]
        order = self.order()
        for start in range(done, self.examples, self.batch_size):
            part = slice(start, min(start + self.batch_size, self.examples))
            chosen = part if order is None else order[part]
            rng = None
            with beside(self.x):
                if self.augment and self.augment_stream is not None:
                    rng = self.augment_stream.next(array_module(self.x))
                batch = gather(self.x, self.y, chosen, varied, rng)
            yield batch

    def in_epoch(self, vary: Any, epoch: int) -> Augment:
        """Return what an augmentation is in an epoch, 0 the first; most are always the same."""
        if not hasattr(vary, "for_epoch") or self.augment_stream is None:
            return vary
        with beside(self.x):
            xp, seed = array_module(self.x), self.augment_stream.seed
            return vary.for_epoch(epoch, len(self.x), seed, xp)

    def fingerprint(self) -> str:
        """Return the SHA-256 of all examples and of which of them are used."""
        if not self.digest:
            digest = hashlib.sha256()
            used = np.arange(len(self.x)) if self.indices is None else self.indices
            for array in (self.x, self.y, used):
                whole = np.ascontiguousarray(to_numpy(array))
                digest.update(f"{whole.shape} {whole.dtype.str} ".encode())
                digest.update(whole.reshape(-1).view(np.uint8).data)
            self.digest = digest.hexdigest()
        return self.digest

    def order(self) -> Array | None:
        """Draw the order of an epoch, an index array beside ``x``, or None for "as they lie".

        It is drawn on the CPU, so that an epoch on a GPU sees the same order, and moved at once.
        """
        order = self.indices
        if self.stream is not None:
            every = len(self.x) if order is None else order
            order = self.stream.next().permutation(every)
        with beside(self.x):
            return None if order is None else array_module(self.x).asarray(order)


def checked_indices(indices: np.ndarray, count: int) -> np.ndarray:
    """Return the indices as int64; raise ValueError unless all are integers in 0 ... count - 1."""
    indices = np.asarray(to_numpy(indices))
    if indices.ndim != 1 or indices.dtype.kind not in "iu":
        raise ValueError(f"indices are {indices.dtype} {indices.shape}, expected integers (M,)")
    if indices.size and not 0 <= indices.min() <= indices.max() < count:
        raise ValueError(
            f"indices go from {indices.min()} to {indices.max()}, expected 0 to {count - 1}"
        )
    return indices.astype(np.int64)


def stratified_split(y: Array, fraction: float, stream: Stream) -> tuple[np.ndarray, np.ndarray]:
    """Divide the examples into training and validation, each class in the same proportion.

    y: integer labels (N,).  fraction: the part for validation, 0 < fraction < 1; of each class it
    is rounded to whole examples, but at least one is on either side.  stream: draws which.

    Returns the indices of both parts, sorted, int64: every example is in just one of them.
    Raises ValueError for other arguments, and for a class of only one example.
    """
    y = to_numpy(y)
    if y.ndim != 1 or y.dtype.kind not in "iu" or y.size == 0:
        raise ValueError(f"labels are {y.dtype} {y.shape}, expected integers (N,), N >= 1")
    if not isinstance(fraction, Real) or not 0 < fraction < 1:
        raise ValueError(f"fraction {fraction!r}: expected a number between 0 and 1, such as 0.1")
    rng = stream.next()
    validation = np.zeros(len(y), dtype=bool)
    for label in np.unique(y):
        members = rng.permutation(np.flatnonzero(y == label))
        if len(members) < 2:
            raise ValueError(
                f"class {label} has one example, which can't be on both sides of the split: "
                "add examples of it, or leave the class out"
            )
        count = min(max(round(fraction * len(members)), 1), len(members) - 1)
        validation[members[:count]] = True
    return np.flatnonzero(~validation), np.flatnonzero(validation)
