"""Team: a batch cut into slices, a script for each, and the places where they meet.

The slices of a batch are done at once, each in its thread, from its script.  They meet where
something is about the whole batch: its statistics in BatchNorm, the loss.  Between two meetings
lies a stage: what all slices need (transformed weights) is prepared first, its jobs shared out;
then every script runs on its own up to the meeting.

For a given number of threads the slices are the same, and so is every bit of the result.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

import numpy as np

from ...backend import Shape
from ...parallel import blas_can_be_limited, run, single_blas, thread_count
from .script import Call, Memory, Script, play

LEAST = 8  # pictures in a slice: less isn't worth a thread


@dataclass
class Stage:
    """What is done between two meetings.

    prepared: jobs for the slices together, shared out.  scripts: the calls of each slice.
    meeting: what is done by one thread when all have arrived.
    """

    prepared: list[list[Call]]
    scripts: list[list[Call]]
    labels: list[list[str]]
    meeting: list[Call] = field(default_factory=list)

    def run(self) -> None:
        """Do it: the shared jobs, the scripts, the meeting."""
        for jobs in (self.prepared, self.scripts):
            if any(jobs):
                run([lambda calls=calls: play(calls) for calls in jobs if calls])  # type: ignore[misc]
        play(self.meeting)


class Team:
    """Scripts for the slices of a batch of N pictures.

    kind: the class of the scripts.  slices: how many; as many as there are threads if None, unless
    the batch is small or the BLAS can't be kept from using threads of its own.
    """

    def __init__(
        self, N: int, dtype: Any, kind: type[Script] = Script, slices: int | None = None
    ) -> None:
        if slices is None:
            slices = min(thread_count(), N // LEAST) if blas_can_be_limited() else 1
        slices = max(1, min(slices, N))
        bounds = [N * k // slices for k in range(slices + 1)]
        self.N = N
        self.parts = [slice(a, b) for a, b in pairwise(bounds)]
        self.scripts = [kind(dtype) for _ in self.parts]
        self.dtype = np.dtype(dtype)
        self.memory = Memory()
        self.stages: list[Stage] = []
        self.jobs: list[list[Call]] = []
        self.shared: dict[Any, np.ndarray] = {}

    def prepare(
        self, key: Any, shape: Shape, write: Callable[[Callable[..., None], np.ndarray], None]
    ) -> np.ndarray:
        """Return an array that all slices read, made anew before the stage that is being written.

        key: who asks, and for what; the first to ask has ``write(job, array)`` write the calls.
        """
        if key not in self.shared:
            array = self.shared[key] = self.memory.new(shape, self.dtype)
            calls: list[Call] = []
            write(lambda function, *arguments: calls.append((function, arguments)), array)
            self.jobs.append(calls)
        return self.shared[key]

    def before(self, function: Callable[[], None]) -> None:
        """Have something done once, before the stage that is being written."""
        self.jobs.append([(function, ())])

    def meet(self, *meeting: Call) -> None:
        """End the stage that is being written with a meeting."""
        prepared: list[list[Call]] = [[] for _ in self.scripts]
        for number, calls in enumerate(self.jobs):
            prepared[number % len(prepared)] += calls
        scripts = [script.calls for script in self.scripts]
        labels = [script.labels for script in self.scripts]
        self.stages.append(Stage(prepared, scripts, labels, list(meeting)))
        for script in self.scripts:
            script.calls, script.labels = [], []
        self.memory.free(*self.shared.values())
        self.jobs, self.shared = [], {}

    def run(self, stages: Sequence[Stage]) -> None:
        """Do some stages, with BLAS in one thread: the slices have the others.

        A single slice is so small that BLAS' threads would cost more than they gain.
        """
        with single_blas():
            for stage in stages:
                stage.run()

    @property
    def nbytes(self) -> int:
        """The memory of all scripts."""
        return self.memory.nbytes + sum(script.memory.nbytes for script in self.scripts)
