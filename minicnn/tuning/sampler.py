"""How settings are drawn: by Optuna's TPE, each trial from random numbers of its own."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ..streams import Stream
from .settings import Value
from .storage import import_optuna

RANDOM = 6
"""Trials that are drawn by chance, before others are drawn from what they have shown."""


def make_sampler(seed: int, first: Mapping[str, Value]) -> Any:
    """Return a sampler whose trial n is a function of (seed, n) and of the trials before it.

    So processes that share a study draw different trials of one seed, and a study that goes on
    draws what it would have drawn.  first: the values of the first trial, as far as they are given;
    it is also the next one's as long as all before it were broken off.  (TPE: Bergstra et al.,
    "Algorithms for hyper-parameter optimization", 2011; trials at work count as bad ones, so that
    others are drawn away from them.)
    """
    optuna = import_optuna()
    failed = optuna.trial.TrialState.FAIL

    class Seeded(optuna.samplers.BaseSampler):  # type: ignore[name-defined]
        """TPE, made anew for each trial."""

        inner: Any = None
        fixed: Mapping[str, Value] = {}

        def before_trial(self, study: Any, trial: Any) -> None:
            """Begin the trial's own random numbers."""
            drawn = Stream(seed, "tune", trial.number).next().integers(2**31)
            self.inner = optuna.samplers.TPESampler(seed=int(drawn), n_startup_trials=RANDOM)
            others = study.get_trials(deepcopy=False)
            begun = any(t.number < trial.number and t.state != failed for t in others)
            self.fixed = {} if begun else first

        def infer_relative_search_space(self, study: Any, trial: Any) -> Any:
            """Return the parameters that are drawn together: all, but for the first trial."""
            return {} if self.fixed else self.inner.infer_relative_search_space(study, trial)

        def sample_relative(self, study: Any, trial: Any, search_space: Any) -> Any:
            """Draw parameters together."""
            return self.inner.sample_relative(study, trial, search_space) if search_space else {}

        def sample_independent(self, study: Any, trial: Any, name: str, distribution: Any) -> Any:
            """Draw one parameter, or take the first trial's."""
            if name in self.fixed:
                return self.fixed[name]
            return self.inner.sample_independent(study, trial, name, distribution)

    return Seeded()
