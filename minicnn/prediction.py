"""Prediction on one's own pictures: any common format and size becomes what the network takes."""

from __future__ import annotations

import io
import os
import stat
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import IO, Any, TypeAlias

import numpy as np

from .data.errors import DatasetError
from .data.pictures import LARGEST, read_picture
from .evaluation.result import finite
from .layers import Normalize, Sequential
from .metrics.by_class import unnamed
from .options import whole
from .train import check_use, predict
from .views import check_views

Source: TypeAlias = str | os.PathLike[str] | bytes | bytearray | IO[bytes]

CERTAIN = 0.5
"""The probability from which on an answer counts as certain: less than that goes against it."""


@dataclass(frozen=True, eq=False)
class Prediction:
    """What a network says of one picture.  Printing it gives the most probable classes.

    classes: their names.  probabilities: (K,), in the model's dtype.  picture: what the network
    saw, (H, W, C) uint8.
    """

    classes: tuple[str, ...]
    probabilities: np.ndarray
    picture: np.ndarray

    def top(self, k: int = 3) -> list[tuple[str, float]]:
        """Return the names and probabilities of the k most probable classes, or of all."""
        k = whole(k, "top")
        order = np.argsort(-self.probabilities, kind="stable")[:k]
        return [(self.classes[i], float(self.probabilities[i])) for i in order]

    @property
    def certain(self) -> bool:
        """Whether the first class has at least half of the probability (`CERTAIN`).

        A network knows nothing but its classes: it may be certain of a picture of something else.
        """
        return bool(self.probabilities.max() >= CERTAIN)

    def as_dict(self, k: int | None = None) -> dict[str, Any]:
        """Return what JSON can hold: the first class, and the k most probable ones or all.

        A probability that isn't a number, of a network that has diverged, is None.
        """
        top = self.top(len(self.classes) if k is None else k)
        parts = finite([{"class": name, "probability": p} for name, p in top])
        return {**parts[0], "certain": self.certain, "top": parts}

    def __str__(self) -> str:
        return ", ".join(f"{name} {p:.1%}" for name, p in self.top())


def predict_image(
    model: Sequential, source: Source, tta: str | None = None, largest: int = LARGEST
) -> Prediction:
    """Return what a model says of a picture of any size and common format.

        mc.predict_image(model, "holiday.jpg").top(3)       # [("ship", 0.93), ("automobile", ...

    The picture is turned upright, put on white where it is transparent, cropped about its middle
    and scaled to what the model takes: see `data.pictures.read_picture`.  What comes after is the
    model's own, so that it must begin with Normalize.

    source: a path, the bytes of a file, or a file opened for reading bytes.  tta: see `predict`.
    largest: the most pixels that are decoded.
    Raises `DatasetError`, whose text is the reason alone, for what is no whole picture, ValueError
    for a model that takes no pictures, and ImportError without Pillow.
    """
    check_pictorial(model, tta)
    picture = read_source(model, source, largest)
    return Prediction(names(model), predict(model, picture[None], tta=tta)[0], picture)


def predict_images(
    model: Sequential,
    sources: Iterable[Source],
    tta: str | None = None,
    batch_size: int = 64,
    largest: int = LARGEST,
) -> Iterator[tuple[Source, Prediction | DatasetError]]:
    """Yield each source with what the model says of it, or why it can't be read, in their order.

    Pictures are read and predicted in batches, so that any number of them takes the memory of one
    batch.  Arguments and errors are those of `predict_image`, but that a bad picture raises none.
    """
    check_pictorial(model, tta)
    batch_size = whole(batch_size, "batch_size")
    waiting: list[tuple[Source, np.ndarray | DatasetError]] = []
    for source in sources:
        try:
            waiting.append((source, read_source(model, source, largest)))
        except DatasetError as error:
            waiting.append((source, error))
        if len(waiting) == batch_size:
            yield from answers(model, waiting, tta)
            waiting = []
    yield from answers(model, waiting, tta)


def answers(
    model: Sequential, waiting: list[tuple[Source, np.ndarray | DatasetError]], tta: str | None
) -> Iterator[tuple[Source, Prediction | DatasetError]]:
    """Yield the answers to a batch of pictures, some of which couldn't be read."""
    pictures = [found for _, found in waiting if isinstance(found, np.ndarray)]
    probabilities = iter(predict(model, np.stack(pictures), tta=tta) if pictures else ())
    for source, found in waiting:
        if isinstance(found, np.ndarray):
            yield source, Prediction(names(model), next(probabilities), found)
        else:
            yield source, found


def read_source(model: Sequential, source: Source, largest: int) -> np.ndarray:
    """Return the picture in a source as the model takes it; raise `DatasetError` with the reason.

    A path must be that of a plain file: a pipe could keep its reader waiting for ever.
    """
    H, W, C = model.input_shape
    if isinstance(source, bytes | bytearray):
        source = io.BytesIO(source)
    elif isinstance(source, str | os.PathLike):
        try:
            mode = os.stat(source).st_mode
        except OSError as error:
            raise DatasetError(error.strerror or str(error)) from error
        except ValueError as error:  # a zero in the name
            raise DatasetError(f"no file can be called so: {error}") from error
        if stat.S_ISDIR(mode):
            raise DatasetError("it is a folder")
        if not stat.S_ISREG(mode):
            raise DatasetError("it is no plain file")
    elif not hasattr(source, "read") or isinstance(source, io.TextIOBase):
        raise TypeError(f"source {source!r}: expected a path, bytes, or a file open for bytes")
    return read_picture(source, (H, W), C, largest)


def check_pictorial(model: Sequential, tta: str | None) -> None:
    """Raise an error unless the model takes pictures as files have them, and names one class."""
    check_use(model)
    shape = model.input_shape
    scores = len(model.output_shape) == 1 and model.output_shape[0] > 1  # one is always certain
    if len(shape) != 3 or shape[-1] not in (1, 3) or not scores:
        raise ValueError(
            f"the model makes {model.output_shape} of {shape}: expected scores of classes, (K,) "
            "with K > 1, of pictures, (H, W, 3) or grey, (H, W, 1)"
        )
    if not isinstance(model.first_leaf(), Normalize):
        raise ValueError(
            "the model doesn't prepare pictures itself, and how they were in its training isn't "
            "known: begin it with Normalize()"
        )
    check_views(model, tta)


def names(model: Sequential) -> tuple[str, ...]:
    """Return the names of a model's classes, or "class 0" and so on."""
    return model.classes or unnamed(model.output_shape[-1])
