"""What a search has found: its trials as a table, a picture, and the best one as a recipe."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from ..files import check_place, whole_file
from ..plots import new_figure, save
from ..recipes import Recipe
from ..recipes.writing import recipe_text
from .settings import Value, changed
from .space import Space, as_tables, values_of

STATES = {
    "COMPLETE": "complete",
    "PRUNED": "pruned",
    "FAIL": "failed",
    "RUNNING": "running",
    "WAITING": "waiting",
}

KILLED = "its process ended"
PICTURES = (".png", ".svg", ".pdf")
WRITTEN = "Found by minicnn tune"
"""What the recipes of searches are known by."""


@dataclass(frozen=True)
class Trial:
    """One setting, and what became of it.

    number: 0 for the first.  values: its parameters.  state: "complete"; "pruned": judged, and
    given up before its last epoch; "failed": broken off, not judged; "running".  accuracy: on the
    held-out pictures after ``epochs`` epochs, None if there is none.  note: why it ended, where
    that isn't plain.
    """

    number: int
    values: Mapping[str, Value]
    state: str
    accuracy: float | None
    epochs: int
    seconds: float
    note: str = ""

    @classmethod
    def of(cls, found: Any, space: Space) -> Trial:
        """Return a trial of Optuna's as one of these."""
        steps = found.intermediate_values
        accuracy = steps[max(steps)] if steps else None
        return cls(
            found.number,
            values_of(space, found.params),
            STATES[found.state.name],
            accuracy,
            max(steps, default=0),
            0.0 if found.duration is None else found.duration.total_seconds(),
            str(found.user_attrs.get("note", "" if found.state.name != "FAIL" else KILLED)),
        )

    def __str__(self) -> str:
        end = f"accuracy {self.accuracy:.4f}" if self.state == "complete" else self.state
        if self.state == "pruned" and self.accuracy is not None:
            end = f"pruned at {self.accuracy:.4f} after epoch {self.epochs}"
        setting = "  ".join(f"{name} {text(value)}" for name, value in self.values.items())
        note = f": {self.note}" if self.note else ""
        return f"trial {self.number}  {end}{note}  {setting}  {self.seconds:.1f} s"


@dataclass(frozen=True)
class Results:
    """The trials of a study; ``str()`` of it is their table, the best first.

    recipe: what the search began from, with the epochs that its trials have.  left_out: what isn't
    searched, and why.  pictures: how many there were to train with, and how many were held out.
    """

    study: str
    storage: str | None
    recipe: Recipe
    space: Space
    trials: Sequence[Trial]
    left_out: Mapping[str, str]
    pictures: tuple[int, int]
    seed: int

    @property
    def best(self) -> Trial | None:
        """The complete trial of the highest accuracy in validation, the earliest of equals."""
        complete = [trial for trial in self.trials if trial.state == "complete"]
        return max(complete, key=lambda t: (t.accuracy or 0.0, -t.number), default=None)

    def ranked(self) -> list[Trial]:
        """Return the trials, the best first: complete ones, pruned ones, those without a result."""
        order = {"complete": 0, "pruned": 1, "running": 2}

        def rank(trial: Trial) -> tuple[int, int, float, int]:
            reached = -trial.epochs if trial.state == "pruned" else 0
            return order.get(trial.state, 3), reached, -(trial.accuracy or 0.0), trial.number

        return sorted(self.trials, key=rank)

    def count(self, state: str) -> int:
        """Count the trials in a state."""
        return sum(trial.state == state for trial in self.trials)

    def best_recipe(self) -> Recipe:
        """Return the recipe with the best trial's values; raise ValueError if there is none."""
        if self.best is None:
            raise ValueError(
                f"study {self.study!r} has no complete trial yet: there is no best one"
            )
        return changed(self.recipe, self.best.values)

    def write(self, path: str | os.PathLike[str]) -> Path:
        """Write the best setting as a recipe, which says where it comes from; return the file.

        The file is whole or isn't there.  Raises ValueError if no trial is complete.
        """
        recipe, path = self.best_recipe(), Path(path)
        check_recipe(path)
        with whole_file(path) as part:
            part.write_text(recipe_text(recipe, self.provenance()), encoding="utf-8")
        return path

    def provenance(self) -> str:
        """Return lines on where the best setting comes from; none if there is no best one."""
        best = self.best
        if best is None:
            return ""
        values = ", ".join(f"{name} {text(value)}" for name, value in best.values.items())
        return (
            f"{WRITTEN}: study {self.study!r}, trial {best.number}; of the trials "
            f"{self.count('complete')} were complete and {self.count('pruned')} pruned.\n"
            f"{values}.\n"
            f"Right for {best.accuracy:.4f} of {self.pictures[1]:,} held-out pictures after "
            f"{best.epochs} epochs with {self.pictures[0]:,}, seed {self.seed}.\n"
            "The best of several is flattered by being chosen; the test set has the last word.\n\n"
            f"Begun from the recipe {self.recipe.name}:\n"
        )

    def as_dict(self) -> dict[str, Any]:
        """Return all of it as data, for JSON."""
        return {
            "study": self.study,
            "recipe": self.recipe.name,
            "space": as_tables(self.space),
            "best": None if self.best is None else self.best.number,
            "trials": [asdict(trial) for trial in self.trials],
        }

    def __str__(self) -> str:
        names = list(self.space)
        rows = [["trial", "accuracy", "epochs", *names, "seconds", "state"]]
        for trial in self.ranked():
            accuracy = "-" if trial.accuracy is None else f"{trial.accuracy:.4f}"
            setting = [text(trial.values[n]) if n in trial.values else "-" for n in names]
            state = trial.state + (f": {trial.note}" if trial.note else "")
            head = [str(trial.number), accuracy, str(trial.epochs)]
            rows.append([*head, *setting, f"{trial.seconds:.1f}", state])
        widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
        lines = []
        for row in rows:
            *cells, state = row
            filled = [cell.rjust(width) for cell, width in zip(cells, widths, strict=False)]
            lines.append("  ".join([*filled, state]))
        return "\n".join(lines)

    def figure(self) -> Any:
        """Return the picture: accuracy over each parameter; raises ImportError for matplotlib."""
        from .picture import draw

        return draw(self)

    def plot(self, path: str | os.PathLike[str]) -> Path:
        """Write the picture to a .png, .svg or .pdf file, and return its path."""
        path = Path(path)
        check_picture(path)
        return save(self.figure(), path)


def check_picture(path: Path) -> None:
    """Raise ValueError or OSError unless a picture can be written to a file of that name.

    Raises ImportError without matplotlib.
    """
    new_figure(1, 1)
    if path.suffix.lower() not in PICTURES:
        raise ValueError(f"{path}: expected a file that ends in one of {', '.join(PICTURES)}")
    check_place(path)


def check_recipe(path: Path) -> None:
    """Raise ValueError or OSError unless the best recipe can be written to a file of that name.

    What a search has written is written over, but not somebody's own recipe or space.
    """
    if path.suffix != ".toml":
        raise ValueError(f"{path}: expected a file that ends in .toml, as recipes do")
    check_place(path)
    if path.exists() and WRITTEN not in path.read_text(encoding="utf-8", errors="replace"):
        raise ValueError(
            f"{path}: it is there, and no search has written it; name another file for the best "
            "recipe (--out, out=)"
        )


def text(value: Value) -> str:
    """Write a value for people."""
    return f"{value:g}" if isinstance(value, float) else str(value)
