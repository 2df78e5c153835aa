"""Pages of pictures: as they are, with what a network says of them, and where it errs."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from .figure import GREEN, RED, RIGHT, WRONG, bare, check_classes, labels_of, new_figure

WIDTH = 18
"""Characters of a name that are written at a picture."""
LETTERS, ROOM = 9.0, 100.0
"""Points: the size of letters there, and the room for a line."""


def image_grid(
    x: np.ndarray,
    labels: np.ndarray | None = None,
    classes: Sequence[str] | None = None,
    columns: int = 8,
) -> Any:
    """Draw pictures, with the names of their classes if they are given; return the figure.

    x: (N, H, W, 1 or 3) uint8, or floats from 0 to 1.  labels: (N,).  classes: the K names.
    """
    names = [] if labels is None else named("image_grid", labels, classes)
    if labels is not None and len(labels) != len(x):
        raise ValueError(f"image_grid: {len(x)} pictures, {len(labels)} labels")
    figure, cells = page("image_grid", x, columns, lines=1 if names else 0)
    for i, (axes, picture) in enumerate(zip(cells, x, strict=True)):
        show(axes, picture)
        if names:
            fitted(axes.set_title, names[i], pad=3)
    return figure


def predictions(
    probabilities: np.ndarray,
    x: np.ndarray,
    labels: np.ndarray,
    classes: Sequence[str],
    columns: int = 8,
) -> Any:
    """Draw pictures with the predicted class and its probability; return the figure.

    Right is green, with a tick and a plain border; wrong is red, with a cross, a dashed border, and
    the true class below.

    probabilities: (N, K).  x: (N, H, W, 1 or 3).  labels: (N,).  classes: the K names.
    """
    check("predictions", probabilities, x, labels, classes)
    guesses = probabilities.argmax(axis=1)
    names = labels_of(classes, WIDTH)
    figure, cells = page("predictions", x, columns, lines=2)
    for i, axes in enumerate(cells):
        show(axes, x[i])
        right = guesses[i] == labels[i]
        color = GREEN if right else RED
        axes.spines[:].set(visible=True, color=color, linewidth=2.2, ls="-" if right else "--")
        text = f"{RIGHT if right else WRONG} {names[guesses[i]]} {probabilities[i].max():.0%}"
        fitted(axes.set_title, text, color=color, pad=4)
        fitted(axes.set_xlabel, "" if right else f"is {names[labels[i]]}", labelpad=3)
    return figure


def misclassified(
    probabilities: np.ndarray,
    x: np.ndarray,
    labels: np.ndarray,
    classes: Sequence[str],
    count: int = 24,
    columns: int = 8,
) -> Any:
    """Draw the errors of which the network was most certain, as `predictions` does.

    A network that errs with near certainty may be right: those are the labels to look at.  Without
    any error the figure says so.  Arguments as for `predictions`.
    """
    check("misclassified", probabilities, x, labels, classes)
    worst = worst_errors(probabilities, labels)[:count]
    if not len(worst):
        figure = new_figure(6, 1)
        figure.text(0.5, 0.5, f"none of {len(x):,} is wrong", ha="center", va="center")
        return figure
    figure = predictions(probabilities[worst], x[worst], labels[worst], classes, columns)
    figure.suptitle("errors, the most certain first; is the label right?", fontsize=11)
    return figure


def worst_errors(probabilities: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Return the rows (M,) of the errors, the most certain first."""
    wrong = np.flatnonzero(probabilities.argmax(axis=1) != labels)
    return wrong[np.argsort(-probabilities[wrong].max(axis=1), kind="stable")]


def page(what: str, x: np.ndarray, columns: int, lines: int) -> tuple[Any, Iterator[Any]]:
    """Return a figure with room for pictures, ``lines`` of text at each, and its axes in turn."""
    if x.ndim != 4 or not len(x) or x.shape[-1] not in (1, 3):
        raise ValueError(f"{what}: pictures {x.shape}: expected (N, H, W, 1 or 3), N at least 1")
    if columns < 1:
        raise ValueError(f"{what}: columns {columns}: expected at least 1")
    columns = min(columns, len(x))
    rows = -(-len(x) // columns)
    tall = min(3.0, max(0.5, x.shape[1] / x.shape[2]))
    figure = new_figure(1.5 * columns, (1.45 * tall + 0.2 * lines) * rows + 0.2)
    return figure, (figure.add_subplot(rows, columns, i + 1) for i in range(len(x)))


def show(axes: Any, picture: np.ndarray) -> None:
    """Draw one picture, (H, W, 1 or 3), pixel by pixel."""
    top = 255 if picture.dtype == np.uint8 else 1
    axes.imshow(picture.squeeze(-1) if picture.shape[-1] == 1 else picture, cmap="gray",
                vmin=0, vmax=top, interpolation="nearest")  # fmt: skip
    bare(axes)


def fitted(write: Any, text: str, **options: Any) -> None:
    """Write a text above or below a picture, in letters small enough for its width."""
    from matplotlib.textpath import TextPath

    wide = TextPath((0, 0), text, size=LETTERS).get_extents().width if text else 0
    write(text, fontsize=LETTERS * min(1, ROOM / max(wide, 1)), **options)


def named(what: str, labels: np.ndarray, classes: Sequence[str] | None) -> list[str]:
    """Return the name of each label."""
    if classes is None:
        return [str(int(label)) for label in labels]
    if len(labels) and not 0 <= min(labels) <= max(labels) < len(classes):
        raise ValueError(
            f"{what}: labels {min(labels)} to {max(labels)}, but {len(classes)} classes"
        )
    names = labels_of(classes, WIDTH)
    return [names[label] for label in labels]


def check(
    what: str, probabilities: np.ndarray, x: np.ndarray, labels: np.ndarray, classes: Sequence[str]
) -> None:
    """Raise ValueError unless these belong together."""
    if probabilities.ndim != 2 or not len(x) == len(labels) == len(probabilities) > 0:
        raise ValueError(
            f"{what}: {len(x)} pictures, {len(labels)} labels, probabilities "
            f"{probabilities.shape}: expected equally many, at least one, and (N, K)"
        )
    check_classes(what, classes, probabilities.shape[1])
    named(what, labels, classes)
