"""Clocks in a plan: its calls as they are, in the same threads, and notes of how long they took."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable
from copy import copy
from dataclasses import dataclass
from functools import partial
from itertools import groupby
from operator import itemgetter
from time import perf_counter
from typing import Any

from ..kernels.cpu.team import Stage
from ..kernels.script import Call, play
from ..layers import Sequential
from ..workers import Crew
from .plan import Plan
from .profile_table import BETWEEN, COPIES, LOSS, MEETINGS, PREPARED, SUM, WAITING, Key


@dataclass(frozen=True)
class Step:
    """The seconds that a step took.  times: by way and key; they add up.

    work: of all threads together, without waiting.
    """

    seconds: float
    work: float
    times: dict[tuple[str, Key], float]


class Clock:
    """Takes note of what takes how long.

    notes: (way, key, seconds, threads that do such things at once), from whatever thread.  stages:
    the seconds of whole stages, by way.  runs: by key, the paths of layers that are done at once.
    """

    def __init__(self, model: Sequential) -> None:
        self.synchronize = model.device.synchronize
        self.notes: list[tuple[str, Key, float, int]] = []
        self.stages = defaultdict[str, float](float)
        self.runs: dict[Key, tuple[str, ...]] = {}
        self.within = 0.0

    def time(self, way: str, key: Key, threads: int, do: Callable[..., Any], *args: Any) -> Any:
        """Do something and note its time, less the times that are noted within."""
        start, within = self.now(), self.within
        result = do(*args)
        seconds = self.now() - start
        self.notes.append((way, key, seconds - (self.within - within), threads))
        if threads == 1:
            self.within = within + seconds
        return result

    def watch(self, model: Sequential) -> None:
        """Put clocks around the methods of all layers."""
        for layer in model.walk():
            for name in ("forward", "backward", "backward_params"):
                if type(layer) is not Sequential and layer is not model:
                    way, method = name.partition("_")[0], getattr(layer, name)
                    vars(layer)[name] = partial(self.time, way, (layer.path,), 1, method)

    def step(self, forward: float, loss: float, backward: float, by_plan: bool) -> Step:
        """Put together what was noted in a step; its three parts took so long."""
        times = defaultdict[tuple[str, Key], float](float)
        for way, key, seconds, threads in self.notes:
            times[way, key] += seconds / threads
        work = sum(seconds for _, _, seconds, _ in self.notes)
        for way, whole in (("forward", forward), ("backward", backward)):
            known = sum(seconds for (its, _), seconds in times.items() if its == way)
            inside = self.stages[way] if by_plan else known
            times[way, WAITING] += inside - known
            times[way, COPIES if by_plan else BETWEEN] += whole - inside
            work += whole - inside
        times["forward", LOSS] = loss
        return Step(forward + loss + backward, work + loss, times)

    def now(self) -> float:
        """Return the time, after all that was begun is done."""
        self.synchronize()
        return perf_counter()

    def clear(self) -> None:
        """Begin another step."""
        self.notes.clear()
        self.stages.clear()


class Watched(Stage):
    """A stage of a plan with clocks in it.

    use: what it is for, if its calls don't belong to layers.
    """

    def __init__(self, stage: Stage, way: str, clock: Clock, use: Key = ()) -> None:
        self.way, self.clock = way, clock
        threads = len(stage.scripts)

        def clocked(key: Key, calls: list[Call], threads: int) -> list[Call]:
            return [(clock.time, (way, key, threads, play, calls))] if calls else []

        def script(labels: list[str], calls: list[Call]) -> list[Call]:
            found: list[Call] = []
            for label, group in groupby(zip(labels, calls, strict=True), itemgetter(0)):
                labelled, run = read(label)
                if labelled != way:  # the way back begins with a copy
                    key: Key = COPIES
                elif use:
                    key = use
                else:
                    key = run[-1:]
                    clock.runs[key] = max(run, clock.runs.get(key, ()), key=len)
                found += clocked(key, [call for _, call in group], threads)
            return found

        super().__init__(
            [clocked(PREPARED, jobs, threads) for jobs in stage.prepared],
            list(map(script, stage.labels, stage.scripts)),
            stage.labels,
            clocked(MEETINGS, stage.meeting, 1),
            stage.told,
            here=True,  # what other processes note, this one wouldn't hear of
        )

    def run(self, crew: Crew | None = None) -> None:
        """Do it, and note how long that took from beginning to end."""
        start = perf_counter()
        super().run(crew)
        self.clock.stages[self.way] += perf_counter() - start


def read(label: str) -> tuple[str, tuple[str, ...]]:
    """Return the way, and the paths of the layers, from what `walk.label` wrote."""
    way, _, names = label.partition(" ")
    return way, tuple(names.split(" + "))


def watched(plan: Plan, clock: Clock) -> Plan:
    """Return a plan with clocks in it: the same calls on the same arrays."""
    twin, last = copy(plan), len(plan.backward_stages) - 1
    twin.forward_stages = [Watched(stage, "forward", clock) for stage in plan.forward_stages]
    twin.backward_stages = [
        Watched(stage, "backward", clock, SUM if len(plan.grads) > 1 and number == last else ())
        for number, stage in enumerate(plan.backward_stages)
    ]
    return twin
