"""The sections of pictures: answers, errors, and where the network looked."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from .. import explain
from ..evaluation import Evaluation
from ..evaluation.text import printable
from ..layers import Sequential
from ..plots.figure import RIGHT, WRONG
from ..plots.pictures import worst_errors
from ..streams import Stream
from .images import pixels
from .network import convolutions
from .page import name, paragraph, percent

EXPLAINED = 4
"""Pictures of each kind, right and wrong, that are explained."""


def sample(found: Evaluation, count: int) -> np.ndarray:
    """Return rows of the pictures to show, drawn by chance but always the same, in their order."""
    N = len(found.labels)
    rng = Stream(0, "pictures of the report").next()
    return np.sort(rng.choice(N, size=min(count, N), replace=False))


def card(x: np.ndarray, found: Evaluation, row: int, more: Iterable[str] = ()) -> str:
    """Return a picture with the answer, and the truth where that is another.

    more: further <img> beside it.
    """
    label, guess = int(found.labels[row]), int(found.predicted[row])
    right, sure = label == guess, float(found.probabilities[row, guess])
    called = printable(found.classes[guess])
    alt = f"test picture {row}, " + (
        f"rightly called {called}"
        if right
        else f"wrongly called {called}, is {printable(found.classes[label])}"
    )
    truth = "" if right else f'<span class="truth">is {name(found.classes[label])}</span>'
    mark, kind = (RIGHT, "right") if right else (WRONG, "wrong")
    word = f'<span class="mark" aria-hidden="true">{mark}</span>'
    return (
        f'<figure class="card {kind}"><div class="row">{pixels(x[row], alt)}{"".join(more)}</div>'
        f'<figcaption><b>{word} {name(found.classes[guess])}</b> <span class="sure">'
        f"{percent(sure, 0)}</span>{truth}</figcaption></figure>"
    )


def tiles(cards: Iterable[str], kind: str = "tiles") -> str:
    """Return cards side by side, as many as there is room for."""
    return f'<div class="{kind}">\n' + "\n".join(cards) + "\n</div>"


def answers(x: np.ndarray, found: Evaluation, count: int) -> str:
    """Return the section of pictures with the network's answers."""
    rows = sample(found, count)
    wrong = int((found.predicted[rows] != found.labels[rows]).sum())
    said = (
        f"{len(rows)} of the {len(found.labels):,} pictures, drawn by chance: "
        f"{len(rows) - wrong} right ({RIGHT}, plain border), {wrong} wrong ({WRONG}, dashed "
        "border). Beside each answer its probability."
    )
    return paragraph(said) + tiles(card(x, found, row) for row in rows)


def errors(x: np.ndarray, found: Evaluation, count: int) -> str:
    """Return the section of the errors that the network was most certain of."""
    worst = worst_errors(found.probabilities, found.labels)
    if not len(worst):
        return paragraph("There is no error among the pictures.")
    said = (
        f"The first {min(count, len(worst))} of {len(worst):,} errors, the most certain first. "
        "Where a network errs with near certainty the label may be wrong, or the picture show "
        "both: look before blaming the network."
    )
    return paragraph(said) + tiles(card(x, found, row) for row in worst[:count])


def looked(model: Sequential, x: np.ndarray, seen: np.ndarray, found: Evaluation) -> str:
    """Return the section of what explains some answers: Grad-CAM and saliency.

    x: the pictures as the model takes them; seen: as they are shown.
    """
    drawn = sample(found, 40 * EXPLAINED)
    right = [row for row in drawn if found.predicted[row] == found.labels[row]][:EXPLAINED]
    rows = np.array([*right, *worst_errors(found.probabilities, found.labels)[:EXPLAINED]], int)
    some, target = x[rows], found.predicted[rows]
    kinds = {"saliency": explain.saliency(model, some, target)}
    told = "Grad-CAM needs a convolution, and this network has none."
    if convolutions(model):
        kinds = {"Grad-CAM": explain.grad_cam(model, some, target), **kinds}
        told = "Grad-CAM tells the region, by the last layer that has places."
    cards = []
    for i, row in enumerate(rows):
        more = [
            pixels(heated(seen[row], heat[i], kind), f"{kind} of test picture {row}")
            for kind, heat in kinds.items()
        ]
        cards.append(card(seen, found, int(row), more))
    said = (
        f"Side by side: the picture, {' and '.join(kinds)}. What is bright spoke for the answer "
        f"that was given. {told} Saliency tells the pixels that would change the answer's score "
        "most. First pictures that were called rightly, then the most certain errors."
    )
    return paragraph(said) + tiles(cards, "tiles triples")


def heated(picture: np.ndarray, heat: np.ndarray, kind: str) -> np.ndarray:
    """Return heat over a picture: Grad-CAM's lets it be seen, saliency's hides it where it is."""
    return explain.overlay(picture, heat, 0.5 if kind == "Grad-CAM" else 1.0)
