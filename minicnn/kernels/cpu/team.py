"""Team: a batch cut into slices, a script for each, and the places where they meet.

The slices of a batch are done at once, each from its script, in threads or in processes that share
the memory.  They meet where something is about the whole batch: its statistics in BatchNorm, the
loss.  Between two meetings lies a stage: what all slices need (transformed weights) is prepared
first, its jobs shared out; then every script runs on its own up to the meeting.

For a given number of slices the calls are the same, and so is every bit of the result.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from itertools import pairwise
from typing import Any, TypeAlias

import numpy as np

from ...backend import Shape
from ...parallel import blas_can_be_limited, run, single_blas, thread_count
from ...workers import Crew, SharedMemory
from ..memory import Memory
from ..script import Call, Script, play

Explain: TypeAlias = Callable[[MemoryError], None]

LEAST = 8  # pictures in a slice: less isn't worth a thread
OFTEN = 4  # times that a team has been at work when processes are worth starting


class Told:
    """What a function returns that is asked once, before a stage, and all slices are told.

    It is how a script learns what isn't in its arrays: scripts may run in other processes, which
    know a layer as it was when they were forked.
    """

    def __init__(self, ask: Callable[[], Any]) -> None:
        self.ask = ask
        self.value: Any = None


@dataclass
class Stage:
    """What is done between two meetings.

    prepared: jobs for the slices together, shared out; they are done at once, so none reads what
    another writes.  scripts: the calls of each slice.  meeting: what is done here, by one thread,
    when all have arrived.  told: what is asked first, here.  here: whether the jobs and scripts,
    too, run in this process.  number: its place in the team's list.
    """

    prepared: list[list[Call]]
    scripts: list[list[Call]]
    labels: list[list[str]]
    meeting: list[Call] = field(default_factory=list)
    told: list[Told] = field(default_factory=list)
    here: bool = False
    number: int = 0

    def run(self, crew: Crew | None = None) -> None:
        """Do it: the questions, the shared jobs, the scripts, the meeting."""
        for told in self.told:
            told.value = told.ask()
        values = [told.value for told in self.told]
        for part in ("prepared", "scripts"):
            mine, *others = jobs = getattr(self, part)
            if crew is not None and any(others) and not self.here:
                crew.run((self.number, part, values), partial(play, mine))
            elif not any(others):
                play(mine)
            else:
                run([partial(play, calls) for calls in jobs if calls])
        play(self.meeting)


class Jobs:
    """Takes down the calls that prepare an array, for one share of the work or for all.

    Called as a script is, it puts a call into its first share.
    """

    def __init__(self, shares: list[list[Call]]) -> None:
        self.shares = shares

    def __call__(self, function: Callable[..., Any], *arguments: Any) -> None:
        """Write down a call."""
        self.shares[0].append((function, arguments))

    def alone(self) -> Jobs:
        """Return one that takes down everything for the first share."""
        return Jobs(self.shares[:1])

    def cut(self, size: int) -> Iterator[tuple[Jobs, slice]]:
        """Cut ``size`` numbers into a part for each share; yield who takes down its calls."""
        bounds = [size * k // len(self.shares) for k in range(len(self.shares) + 1)]
        for share, (start, stop) in zip(self.shares, pairwise(bounds), strict=True):
            yield Jobs([share]), slice(start, stop)


class Team:
    """Scripts for the slices of a batch of N pictures.

    kind: the class of the scripts.  slices: how many; as many as there are threads if None, unless
    the batch is small or the BLAS can't be kept from using threads of its own.  processes: whether
    they may run in processes.  explain: is given an error for want of memory where it comes up,
    and may raise a better one.
    """

    def __init__(
        self,
        N: int,
        dtype: Any,
        kind: type[Script] = Script,
        slices: int | None = None,
        processes: bool = False,
        explain: Explain = lambda error: None,
    ) -> None:
        if slices is None:
            slices = min(thread_count(), N // LEAST) if blas_can_be_limited() else 1
        slices = max(1, min(slices, N))
        bounds = [N * k // slices for k in range(slices + 1)]
        self.N = N
        self.parts = [slice(a, b) for a, b in pairwise(bounds)]
        self.room = SharedMemory() if processes and slices > 1 else None
        self.scripts = [kind(dtype, self.room) for _ in self.parts]
        self.dtype = np.dtype(dtype)
        self.memory = Memory(self.room)
        self.stages: list[Stage] = []
        self.told: list[Told] = []
        self.prepared: list[list[Call]] = [[] for _ in self.parts]
        self.shared: dict[Any, np.ndarray] = {}
        self.explain = explain
        self.spare: Callable[[], Sequence[np.ndarray]] = tuple
        """Returns arrays that only this process needs, which begins every step; see `Crew`."""
        self.times = 0
        self.crew: Crew | None = None
        self.settings: Any = None

    def prepare(
        self, key: Any, shape: Shape, write: Callable[[Jobs, np.ndarray], None]
    ) -> np.ndarray:
        """Return an array that all slices read, made anew before the stage that is being written.

        key: who asks, and for what; the first to ask has ``write(jobs, array)`` write the calls.
        What is prepared is prepared at once: no share may read what another writes.
        """
        if key not in self.shared:
            first = len(self.shared) % len(self.parts)  # not always the same one
            array = self.shared[key] = self.memory.new(shape, self.dtype)
            write(Jobs(self.prepared[first:] + self.prepared[:first]), array)
        return self.shared[key]

    def before(self, ask: Callable[[], Any]) -> Told:
        """Have something done once, before the stage that is being written.

        What it returns, all slices are told.
        """
        self.told.append(Told(ask))
        return self.told[-1]

    def meet(self, *meeting: Call, here: bool = False) -> None:
        """End the stage that is being written with a meeting."""
        scripts = [script.calls for script in self.scripts]
        labels = [script.labels for script in self.scripts]
        number = len(self.stages)
        self.stages.append(
            Stage(self.prepared, scripts, labels, list(meeting), self.told, here, number)
        )
        for script in self.scripts:
            script.calls, script.labels = [], []
        self.memory.free(*self.shared.values())
        self.told, self.prepared, self.shared = [], [[] for _ in self.parts], {}

    def run(self, stages: Sequence[Stage]) -> None:
        """Do some stages, with BLAS in one thread: the slices have the others.

        A single slice is so small that BLAS' threads would cost more than they gain.
        """
        try:
            with single_blas():
                if stages[0] is self.stages[0]:
                    self.gather()
                for stage in stages:
                    stage.run(self.crew)
        except MemoryError as error:
            self.explain(error)
            raise

    def gather(self) -> None:
        """Start processes, or part with them, if it's time to: between two times at work.

        A crew is as it was when it was forked: other settings for errors are unknown to it.  Where
        they are that a function of the user's is called, it is to be called here.
        """
        self.times += 1
        settings = np.geterr()
        if self.crew is not None and not (self.crew.close.alive and self.settings == settings):
            self.crew.close()
            self.crew = None
        wanted = self.times > OFTEN and {"call", "log"}.isdisjoint(settings.values())
        if self.crew is None and wanted and isinstance(self.room, SharedMemory):
            self.settings = settings
            do = partial(perform, self.stages, self.explain)
            try:
                self.crew = Crew(len(self.scripts) - 1, do, self.spare())
            except OSError:  # there can't be any: threads do it as well
                self.times = -1000 * OFTEN

    @property
    def nbytes(self) -> int:
        """The memory of all scripts."""
        return self.memory.nbytes + sum(script.memory.nbytes for script in self.scripts)


def perform(
    stages: Sequence[Stage], explain: Explain, number: int, command: tuple[int, str, list[Any]]
) -> None:
    """Do one slice's part of a stage, in a worker process."""
    which, part, values = command
    for told, value in zip(stages[which].told, values, strict=True):
        told.value = value
    try:
        play(getattr(stages[which], part)[number])
    except MemoryError as error:
        explain(error)
        raise
