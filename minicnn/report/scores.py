"""The sections of numbers: the training's curves, scores by class, confusion, calibration."""

from __future__ import annotations

import numpy as np

from .. import plots
from ..evaluation import Evaluation
from .images import chart
from .page import beside, name, paragraph, percent, table, text
from .training import Training

LISTED = 100
"""Classes up to which all are in the table; of more, those of the lowest F1."""
DOTTED = 30
"""Classes up to which their scores are also drawn, and figures stand beside tables."""
PAIRS, UNDEFINED = 12, 10
"""Pairs of classes that are confused, and classes without a score, that are listed."""


def headline(found: Evaluation, parameters: int) -> list[tuple[str, str]]:
    """Return the figures that stand on top, with their names."""
    return [
        ("accuracy", percent(found.accuracy)),
        (f"top {found.k}", percent(found.top5)),
        ("loss", f"{found.loss:.4f}"),
        ("calibration error", f"{found.calibration.ece:.4f}"),
        ("pictures", f"{len(found.labels):,}"),
        ("parameters", f"{parameters:,}"),
    ]


def curves(training: Training) -> str:
    """Return the section of the training, or what is missing there."""
    if not training.epochs:
        return f'<p class="note">{text(training.note)}</p>'
    last = training.epochs[-1]
    seconds = sum(e.seconds for e in training.epochs)
    count = len(training.epochs)
    said = f"{count:,} epoch{'s' if count > 1 else ''} in {seconds:,.0f} s"
    alt = f"Curves over {said}: loss {last.loss:.4f}, accuracy {percent(last.accuracy)} at the end"
    if last.val_accuracy is not None and last.val_loss is not None:
        alt += f"; in validation loss {last.val_loss:.4f}, accuracy {percent(last.val_accuracy)}"
    else:
        alt += "; without validation"
    wide, narrow = (plots.training_curves(training.epochs, columns=n) for n in (3, 1))
    return paragraph(
        f"{alt}. Training figures are means over the epoch, while the weights changed, with the "
        "augmentation, label smoothing and dropout of training: those of evaluation can be better."
    ) + chart(wide, alt, narrow)


def by_class(found: Evaluation) -> str:
    """Return the section of precision, recall and F1."""
    scores, K = found.scores, len(found.classes)
    order = np.arange(K) if K <= LISTED else np.argsort(scores.f1, kind="stable")[:LISTED]

    def bar(value: float) -> str:
        share = f"{100 * value:.1f}"
        return f'<span class="bar" style="--share:{share}%">{share}</span>'

    rows = [
        (
            name(found.classes[i]),
            *(bar(float(figures[i])) for figures in (scores.precision, scores.recall, scores.f1)),
            f"{scores.support[i]:,}",
            f"{scores.called[i]:,}",
        )
        for i in order
    ]
    for kind in ("macro", "weighted"):
        means = scores.average(kind)
        rows.append(
            (f"{kind} mean", *(bar(means[k]) for k in ("precision", "recall", "f1")), "", "")
        )
    caption = "Each class, in percent"
    if K > LISTED:
        caption += f": the {LISTED} of {K} with the lowest F1"
    heads = ("class", "precision", "recall", "F1", "pictures", "called so")
    body = paragraph(
        "Precision: of the pictures called so, how many were. Recall: of the pictures that were, "
        "how many were called so. F1: the harmonic mean of both."
    )
    reasons = (("Precision", "never called so"), ("Recall", "no picture of it"))
    for (what, why), ids in zip(reasons, scores.undefined, strict=False):
        if ids:
            some = ", ".join(name(found.classes[i]) for i in ids[:UNDEFINED])
            more = f" and {len(ids) - UNDEFINED} more" if len(ids) > UNDEFINED else ""
            body += paragraph(f"{what} of {some}{more} is 0/0 ({why}) and counts as 0.")
    numbers = table(caption, heads, rows)
    if not 1 < K <= DOTTED:
        return body + numbers
    worst, best = int(scores.f1.argmin()), int(scores.f1.argmax())
    alt = (
        f"Precision, recall and F1 of each class: highest F1 {percent(scores.f1[best], 1)} for "
        f"{found.classes[best]}, lowest {percent(scores.f1[worst], 1)} for "
        f"{found.classes[worst]}"
    )
    return body + beside(numbers, chart(plots.class_scores(scores, found.classes), alt))


def confusion(found: Evaluation) -> str:
    """Return the section of what was taken for what."""
    pairs = found.confused(PAIRS)
    alt = f"Confusion matrix of {len(found.classes)} classes, rows true, columns predicted"
    if pairs:
        i, j, count = pairs[0]
        alt += f"; most often {found.classes[i]} was called {found.classes[j]}, {count:,} times"
    figure = plots.confusion_matrix(found.confusion, found.classes, "true")
    body = paragraph(
        "Percent of each true class (row) that was called so (column). Right answers are blue, "
        "errors orange, each on a scale of its own."
    )
    drawn = chart(figure, alt)
    if not pairs:
        return body + drawn + paragraph("There is no error.")
    rows = [
        (
            name(found.classes[i]),
            name(found.classes[j]),
            f"{count:,}",
            percent(count / found.scores.support[i], 1),
        )
        for i, j, count in pairs
    ]
    heads = ("is", "was called", "times", "of its pictures")
    listed = table("Most confused pairs", heads, rows, words=2)
    return body + (beside(drawn, listed) if len(found.classes) <= DOTTED else drawn + listed)


def calibration(found: Evaluation) -> str:
    """Return the section of what the network's certainty is worth."""
    bins = found.calibration
    sure = bins.mean_confidence - found.accuracy
    judged = "about as certain as it is right"
    if abs(sure) > 0.01:
        judged = "more certain than it is right" if sure > 0 else "less certain than it is right"
    said = (
        f"The mean certainty is {percent(bins.mean_confidence)}, the accuracy "
        f"{percent(found.accuracy)}: on the whole the network is {judged}. The expected "
        f"calibration error is {bins.ece:.4f}, in {len(bins.count)} bins; the largest error of a "
        f"bin is {bins.mce:.4f}."
    )
    return paragraph(said) + chart(plots.reliability(bins), f"Reliability diagram. {said}")
