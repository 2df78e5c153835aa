"""The search itself: draw a setting, train by it, judge it, go on until there are enough."""

from __future__ import annotations

import gc
import json
import os
import time
from collections.abc import Callable, Mapping
from contextlib import closing, suppress
from pathlib import Path
from typing import Any

import numpy as np

from .. import recipes
from ..backend import device as find_device
from ..diagnosis import NotFinite
from ..options import number, whole
from ..recipes import Recipe
from ..signals import Interrupted, Interruption, say
from . import owners
from .results import Results, Trial, check_recipe
from .sampler import make_sampler
from .settings import changed
from .space import as_tables, default_space, own_setting, read_space, values_of
from .storage import import_optuna, open_study, reporting
from .training import Pictures, Unfit, epochs_of, prepared

PRUNERS = ("median", "halving", "none")
LEAST = 3
"""Complete trials before the median prunes."""


def tune(
    x: np.ndarray,
    y: np.ndarray,
    recipe: str | os.PathLike[str] | Recipe = "tutorial",
    *,
    trials: int = 20,
    storage: str | None = None,
    study: str | None = None,
    space: str | os.PathLike[str] | Mapping[str, Any] | None = None,
    epochs: int | None = None,
    validation: float = 0.1,
    seed: int = 0,
    device: str = "auto",
    pruner: str = "median",
    timeout: float | None = None,
    out: str | os.PathLike[str] | None = None,
    report: Callable[[Trial], None] | None = None,
    progress: str | bool = False,
) -> Results:
    """Search for the values of a recipe that do best on held-out pictures.

        results = mc.tune(x_train, y_train, "tutorial_best", trials=20, storage="sqlite:///t.db")
        print(results)
        results.write("best.toml")

    x: (N, H, W, C) uint8.  y: (N,) class ids.  They are training pictures: a share of them,
    ``validation``, is held out, the same ones in every trial, and nothing else decides.

    recipe: a name, a file, or a `Recipe`, where it begins; the first trial is the recipe as it is.
    epochs: of every trial, the recipe's own by default; after each the trial may be given up.
    space: a TOML file or such tables, see `tuning.space`; by default `default_space`.

    trials: how many the study is to have in all, whoever runs them, complete or pruned.  A trial
    that diverges or finds no memory counts as pruned; one that was broken off doesn't count.
    storage: None, in memory, or a database's address; there the study is found again, and may be
    shared by processes, each called alike.  study: its name in there, the recipe's by default.

    pruner: "median" gives up a trial that is below the median of others at the same epoch, when
    three are complete; "halving" (successive halving, Li et al., "A system for massively parallel
    hyperparameter tuning", 2020) all but the best half after 1, 2, 4 ... epochs; or "none".
    timeout: seconds after which no new trial begins.  out: the file for the best recipe, written at
    the end and when a signal stops the search.  report: called with each trial that ends here.

    The same seed gives the same trials, if one process runs them.  At Ctrl-C or SIGTERM the trial
    at work is broken off, and `Interrupted` ends the program unless it is caught.

    Raises ImportError without Optuna (extra ``tune``), ValueError for what doesn't fit, also for a
    study about something else, and `StorageError` for a database that can't be used.
    """
    if out is not None:
        check_recipe(Path(out))
    search = Search(
        x, y, recipe, trials=trials, storage=storage, study=study, space=space, epochs=epochs,
        validation=validation, seed=seed, device=device, pruner=pruner, timeout=timeout,
        progress=progress,
    )  # fmt: skip
    try:
        search.run(report)
    finally:
        results = search.results()
        if out is not None and results.best is not None:
            results.write(out)
    return results


class Search:
    """A search that can be looked at when it was stopped; `tune` says what the arguments are."""

    def __init__(
        self,
        x: np.ndarray,
        y: np.ndarray,
        recipe: str | os.PathLike[str] | Recipe = "tutorial",
        *,
        trials: int = 20,
        storage: str | None = None,
        study: str | None = None,
        space: str | os.PathLike[str] | Mapping[str, Any] | None = None,
        epochs: int | None = None,
        validation: float = 0.1,
        seed: int = 0,
        device: str = "auto",
        pruner: str = "median",
        timeout: float | None = None,
        progress: str | bool = False,
    ) -> None:
        self.optuna, chosen = import_optuna(), make_pruner(pruner)
        self.trials, self.progress, self.seed = whole(trials, "trials"), progress, seed
        self.timeout = None if timeout is None else number(timeout, "timeout", least=0)
        base = recipe if isinstance(recipe, Recipe) else recipes.load(recipe)
        self.recipe = base.changed(epochs=epochs)
        self.device = find_device(device)
        self.pictures = Pictures.divided(x, y, validation, seed)
        count, self.left_out = len(self.pictures.rows), dict[str, str]()
        if space is None:
            self.space, self.left_out = default_space(self.recipe, count)
        else:
            self.space = read_space(space, self.recipe)
        prepared(self.recipe, self.pictures, self.device, seed)  # what never fits is said here
        self.storage, self.name = storage, study or self.recipe.name
        with reporting(storage):
            self.study = open_study(storage, self.name, self.identity())
        self.study.sampler = make_sampler(seed, own_setting(self.space, self.recipe))
        self.study.pruner = chosen

    def identity(self) -> dict[str, Any]:
        """Return what all trials have in common, as JSON has it."""
        tables = {name: found for name, found in self.recipe.tables.items() if name != "about"}
        found = {
            "recipe": tables,
            "space": as_tables(self.space),
            "seed": int(self.seed),
            "data set": self.pictures.fingerprint(),
        }
        return dict(json.loads(json.dumps(found)))

    def run(self, report: Callable[[Trial], None] | None = None) -> None:
        """Run trials until the study has enough of them; raise `Interrupted` after a signal."""
        end = None if self.timeout is None else time.monotonic() + self.timeout
        stopping = Stopping()
        with stopping, reporting(self.storage):
            while end is None or time.monotonic() < end:
                stopping.end_if_asked(self.name)
                self.give_up_dead()
                if self.taken() >= self.trials:
                    return
                trial = self.study.ask()
                trial.set_user_attr("owner", owners.me())
                if self.taken(before=trial.number) >= self.trials:  # others were quicker
                    self.tell(trial, "FAIL", "one more than there were to be")
                    return
                ended = self.attempt(trial, stopping)
                if report is not None:
                    report(ended)

    def attempt(self, trial: Any, stopping: Stopping) -> Trial:
        """Train by a new setting, tell the study how it went, and return that."""
        accuracy, state, note = None, "FAIL", "broken off"
        try:
            accuracy = self.train(trial, stopping)
            state, note = "PRUNED" if accuracy is None else "COMPLETE", ""
        except NotFinite as error:
            state, note = "PRUNED", f"diverged: {str(error).partition(';')[0]}"
        except MemoryError as error:
            state, note = "PRUNED", f"out of memory: {str(error).partition('. ')[0]}"
        except Unfit as error:
            state, note = "PRUNED", f"can't be trained: {error}"
        except self.optuna.exceptions.UpdateFinishedTrialError:
            note = "given up by another process, which saw no sign of life"
        finally:
            gc.collect()  # the network, and the processes that it was trained by
            self.device.free_memory()
            self.tell(trial, state, note, accuracy)
        return Trial.of(self.study.get_trials(deepcopy=False)[trial.number], self.space)

    def train(self, trial: Any, stopping: Stopping) -> float | None:
        """Train by a new setting; return the accuracy in validation, None if it was given up."""
        drawn = {name: found.draw(trial, name) for name, found in self.space.items()}
        recipe = changed(self.recipe, values_of(self.space, drawn))
        last = time.monotonic()

        def between() -> None:
            nonlocal last
            stopping.end_if_asked(self.name)
            if time.monotonic() - last > owners.BEAT:
                last = time.monotonic()
                trial.set_user_attr("owner", owners.me())

        accuracy = 0.0
        with closing(
            epochs_of(recipe, self.pictures, self.device, self.seed, self.progress, between)
        ) as epochs:
            for epoch in epochs:
                accuracy = float(epoch.val_accuracy or 0.0)
                trial.report(accuracy, epoch.epoch)
                if epoch.epoch < recipe.epochs and trial.should_prune():
                    return None
        return accuracy

    def tell(self, trial: Any, state: str, note: str, accuracy: float | None = None) -> None:
        """End a trial in the study, unless another process has done so."""
        with suppress(self.optuna.exceptions.UpdateFinishedTrialError):
            if note:
                trial.set_user_attr("note", note[:500])
            self.study.tell(trial, accuracy, self.state(state), skip_if_finished=True)

    def give_up_dead(self) -> None:
        """End the trials whose process is no more, so that others take their places."""
        for trial in self.study.get_trials(deepcopy=False, states=(self.state("RUNNING"),)):
            if not owners.at_work(trial.user_attrs.get("owner"), trial.datetime_start):
                with suppress(self.optuna.exceptions.UpdateFinishedTrialError):
                    self.study.tell(trial.number, state=self.state("FAIL"), skip_if_finished=True)

    def taken(self, before: int | None = None) -> int:
        """Count the trials judged or at work, all of them or those with lower numbers."""
        failed = self.state("FAIL")
        found = self.study.get_trials(deepcopy=False)[:before]
        return sum(trial.state != failed for trial in found)

    def state(self, name: str) -> Any:
        """Return a state of Optuna's."""
        return self.optuna.trial.TrialState[name]

    def results(self) -> Results:
        """Return what there is: all trials of the study, whoever ran them."""
        with reporting(self.storage):
            found = self.study.get_trials(deepcopy=False)
        return Results(
            study=self.name,
            storage=self.storage,
            recipe=self.recipe,
            space=self.space,
            trials=[Trial.of(trial, self.space) for trial in found],
            left_out=self.left_out,
            pictures=(len(self.pictures.rows), len(self.pictures.held)),
            seed=self.seed,
        )


class Stopping(Interruption):
    """Takes note of a signal while trials run."""

    promise = "ending after this batch"

    def end_if_asked(self, study: str) -> None:
        """After a signal: raise `Interrupted`, with what to do to go on."""
        if self.received is not None:
            text = (
                f"study {study!r} was stopped; the trial at work isn't counted. In a storage, the "
                "same command goes on"
            )
            say(text)
            raise Interrupted(self.received, text)


def make_pruner(name: str) -> Any:
    """Return Optuna's pruner of that name; raises ValueError for another one."""
    pruners = import_optuna().pruners
    if name == "median":
        return pruners.MedianPruner(n_startup_trials=LEAST)
    if name == "halving":
        return pruners.SuccessiveHalvingPruner(min_resource=1, reduction_factor=2)
    if name == "none":
        return pruners.NopPruner()
    raise ValueError(f"pruner {name!r}: expected one of {', '.join(PRUNERS)}")
