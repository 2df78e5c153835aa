"""Writing the report: the sections in order, on one page, in one file."""

from __future__ import annotations

import os
from math import isfinite
from pathlib import Path
from string import Template

import numpy as np

from .. import __version__
from ..backend import to_numpy
from ..evaluation import Evaluation
from ..files import check_place, naming, whole_file
from ..layers import Sequential
from ..options import whole
from ..plots import new_figure
from ..train import evaluate
from . import cards, network, scores
from .page import Section, section, text
from .training import Training, read_training

HERE = Path(__file__).parent
OURS = '<meta name="generator" content="minicnn '
"""What every report has near its beginning: by it one is known."""


def write(
    model: Sequential,
    x: np.ndarray,
    y: np.ndarray,
    path: str | os.PathLike[str] = "report.html",
    *,
    run: str | os.PathLike[str] | None = None,
    title: str = "",
    dataset: str = "",
    notes: tuple[tuple[str, str], ...] = (),
    pictures: int = 32,
    tta: str | None = None,
    batch_size: int = 256,
    replace: bool = False,
) -> Path:
    """Evaluate a model on pictures and write what there is to see into one HTML file; return it.

    The file needs nothing else: pictures are inside, and there is no script.  It appears whole or
    not at all.

    x: (N, H, W, 1 or 3), uint8 or what the model takes.  y: (N,) class ids.  run: the run's
    folder, or the model's file in it, for curves and settings.  title: the model's name; dataset:
    what x is called; notes: pairs of texts for the list of how the report was made.  pictures: how
    many are shown with their answers, and of the errors.  tta, batch_size: as for `evaluate`.

    An older report at ``path`` is replaced; another file only if ``replace``: else
    FileExistsError.  Raises ValueError for pictures that can't be shown and for a network that
    answers with NaN, and ImportError without matplotlib (extra ``plot``).
    """
    path = Path(path)
    check_free(path, replace)
    whole(pictures, "pictures")
    new_figure(1, 1)  # before the work
    x, y = to_numpy(x), to_numpy(y)
    seen = shown(x)
    found = evaluate(model, x, y, batch_size, tta=tta)
    if not np.isfinite(found.probabilities).all():
        raise ValueError(
            "report: the network's answers hold NaN, as after a training that diverged: there is "
            "nothing to see; take an earlier state of it, or train with a smaller learning rate"
        )
    training = read_training(run)
    title = title or "A trained network"
    about = [
        ("pictures", dataset or "those that were given"),
        ("test-time augmentation", tta or "none"),
    ]
    content = page(
        title=text(title),
        lead=lead(found, training, dataset, tta),
        figures=found,
        model=model,
        sections=sections(model, x, seen, found, training, pictures, [*about, *notes]),
    )
    check_free(path, replace)  # it took a while
    with whole_file(path) as part, naming(path):
        part.write_text(content, encoding="utf-8")
    return path


def check_free(path: Path, replace: bool) -> None:
    """Raise an error if a report can't be written there, or a file is in the way that isn't one."""
    if path.is_dir():
        raise IsADirectoryError(f"{path} is a folder: expected the name of a file to write")
    if path.exists() and not path.is_file():
        raise FileExistsError(f"{path} is no plain file: expected the name of a file to write")
    if path.exists() and not replace:
        with open(path, "rb") as file:
            if OURS.encode() not in file.read(1000):
                raise FileExistsError(
                    f"{path} is there already, and is no report of minicnn: name another file, or "
                    "say that it may be replaced (replace=True, --force)"
                )
    check_place(path)


def shown(x: np.ndarray) -> np.ndarray:
    """Return pictures as they are shown, uint8; raise ValueError if they can't be.

    Floats are taken to be from 0 to 1, or to 255; what was prepared in another way is stretched.
    """
    if x.ndim != 4 or x.shape[-1] not in (1, 3) or x.dtype.kind not in "uf" or not len(x):
        raise ValueError(
            f"report: pictures {x.shape} {x.dtype}: expected (N, H, W, 1 or 3), uint8 or floats as "
            "the model takes them, at least one"
        )
    if x.dtype == np.uint8:
        return x
    if not np.isfinite(x).all():
        raise ValueError("report: some of the pictures hold infinity or NaN")
    low, high = min(0.0, float(x.min())), max(1.0, float(x.max()))
    if low == 0 and 1 < high <= 255:
        high = 255.0
    return ((x - low) * (255 / (high - low))).round().astype(np.uint8)


def lead(found: Evaluation, training: Training, dataset: str, tta: str | None) -> str:
    """Return the sentence below the title."""
    wrong = int((found.predicted != found.labels).sum())
    views = f"mean of views ({text(tta)})" if tta else "one look at each, no test-time augmentation"
    said = (
        f"{wrong:,} of {len(found.labels):,} pictures were called wrongly"
        f"{f' ({text(dataset)})' if dataset else ''}; {views}."
    )
    own = training.metrics.get("test_accuracy")
    if isinstance(own, float) and isfinite(own):
        recipe = training.metrics.get("recipe")
        test = recipe.get("test") if isinstance(recipe, dict) else None
        how = test.get("tta") if isinstance(test, dict) else None
        said += f" The run itself noted a test accuracy of {100 * own:.2f} %"
        said += f", with {text(how)}." if how else "."
    return said


def sections(
    model: Sequential,
    x: np.ndarray,
    seen: np.ndarray,
    found: Evaluation,
    training: Training,
    count: int,
    about: list[tuple[str, str]],
) -> list[Section]:
    """Return all sections, in order.  seen: the pictures x as they are shown."""
    first = int(cards.sample(found, count)[0])
    return [
        Section("training", "Training", scores.curves(training)),
        Section("classes", "Class by class", scores.by_class(found)),
        Section("confusion", "What is taken for what", scores.confusion(found)),
        Section("calibration", "Is it as certain as it is right?", scores.calibration(found)),
        Section("pictures", "Pictures and answers", cards.answers(seen, found, count)),
        Section("errors", "Most certain errors", cards.errors(seen, found, count)),
        Section("looked", "Where it looked", cards.looked(model, x, seen, found)),
        Section("filters", "First filters", network.filters(model)),
        Section("maps", "Feature maps", network.feature_maps(model, x[first], seen[first])),
        Section("network", "The network", network.summary(model)),
        Section("settings", "Settings of the run", network.settings(training)),
        Section("versions", "This report", network.versions(model, about)),
    ]


def page(
    title: str, lead: str, figures: Evaluation, model: Sequential, sections: list[Section]
) -> str:
    """Return the whole page.  title, lead: HTML."""
    boxes = "\n".join(
        f"<div><dt>{name}</dt><dd>{value}</dd></div>"
        for name, value in scores.headline(figures, model.params.count)
    )
    links = "\n".join(f'<li><a href="#{p.anchor}">{p.title}</a></li>' for p in sections)
    return Template((HERE / "page.html").read_text(encoding="utf-8")).substitute(
        version=__version__,
        title=title,
        lead=lead,
        style=(HERE / "style.css").read_text(encoding="utf-8"),
        boxes=boxes,
        links=links,
        sections="\n".join(section(part) for part in sections),
    )
