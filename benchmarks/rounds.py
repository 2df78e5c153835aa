"""Taking turns: workers that stay alive, of which one works while all others wait.

Speed changes with the minute on most machines (other load, heat, a neighbour's virtual machine).
Contenders that alternate see the same minutes, and the spread over the rounds shows how much to
believe.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeAlias

from benchmarks.machine import Watch
from benchmarks.peers.protocol import Worker, WorkerError
from benchmarks.settings import OWN, ROOFLINE, Setting, python_of

PAUSE = 0.2  # seconds between turns: threads that spin when they are done (OpenBLAS: 0.11) sleep
TOLERANCE = 1e-3  # of the largest logit: the same network gives the same numbers
PATIENCE = 3600.0  # seconds: who takes longer for an answer is ended
KEPT = ("losses", "gpu_mb", "flops")  # of what a worker says at its start, for the record


Check: TypeAlias = Callable[[Setting, dict[str, Any]], None]
"""Looks at what a worker says at its start; raises `WorkerError` if it isn't the same work."""


@dataclass
class Runner:
    """A setting with its worker, and what it has measured."""

    setting: Setting
    worker: Worker
    start: dict[str, Any]
    steps: int = 1
    rounds: list[dict[str, Any]] = field(default_factory=list)

    def turn(self) -> None:
        """Do one round, and note how many cores somebody else kept busy meanwhile."""
        watch = Watch()
        reply = self.worker.ask("round", steps=self.steps)
        self.rounds.append({**reply, "others_cores": watch.others(reply["cpu_seconds"])})

    def report(self) -> dict[str, Any]:
        """Return what goes into the record."""
        return {
            "name": self.setting.name,
            "peer": self.setting.peer,
            "steps": self.steps,
            "loaded_mb": self.start["loaded_mb"],
            "peak_mb": self.rounds[-1]["peak_mb"],
            "rounds": self.rounds,
            **{key: self.start[key] for key in KEPT if key in self.start},
        }


def spawn(setting: Setting, task: dict[str, Any], folder: Path, pythons: dict[str, str]) -> Worker:
    """Start a worker's process; it waits for orders once it has imported its framework."""
    log = folder / f"{setting.name.replace(' ', '-')}.log"
    python = python_of(setting, pythons)
    patience = task.get("patience", PATIENCE)
    return Worker(python, setting.module, task["threads"], log, setting.variables, patience)


def start(setting: Setting, task: dict[str, Any], worker: Worker, check: Check) -> Runner:
    """Let a worker begin with its network, and check that it is the same network.

    Raises `WorkerError` where the framework isn't there, can't do it, or gives other outputs.
    """
    try:
        reply = worker.ask("start", task=task | setting.options)
        check(setting, reply)
        return Runner(setting, worker, reply)
    except BaseException:
        worker.close()
        raise


def checker(logits: list[list[float]], parameters: int) -> Check:
    """Return what checks that a worker, if it has a network, has ours."""

    def check(setting: Setting, reply: dict[str, Any]) -> None:
        if setting.peer != ROOFLINE:
            tolerance = setting.options.get("tolerance", TOLERANCE)
            check_twin(reply, logits, parameters, tolerance)

    return check


def check_twin(
    reply: dict[str, Any],
    logits: list[list[float]],
    parameters: int,
    tolerance: float = TOLERANCE,
) -> None:
    """Raise `WorkerError` unless a worker's network has our parameters and gives our outputs."""
    if reply["parameters"] != parameters:
        raise WorkerError(f"another network: {reply['parameters']} parameters, not {parameters}")
    pairs = [
        (theirs, ours)
        for row, expected in zip(reply["logits"], logits, strict=True)
        for theirs, ours in zip(row, expected, strict=True)
    ]
    largest = max(abs(ours) for _, ours in pairs)
    worst = max(abs(theirs - ours) for theirs, ours in pairs) / largest
    if not worst < tolerance:
        raise WorkerError(f"another network: its outputs differ by {worst:.1g} of the largest")


def warm_up(runner: Runner, seconds: float) -> None:
    """Let it compile, allocate and settle; then choose the steps that take about ``seconds``."""
    runner.worker.ask("round", steps=1)
    steps, took = 1, 0.0
    while True:
        took = runner.worker.ask("round", steps=steps)["seconds"]
        if took >= seconds / 4:
            break
        steps = max(steps + 1, min(steps * 10, round(steps * seconds / 2 / took)))
    runner.steps = max(1, round(steps * seconds / took))


def alternate(
    runners: list[Runner],
    rounds: int,
    say: Callable[[str], None],
    lose: Callable[[Runner, WorkerError], None],
) -> None:
    """Let all work in turn, ``rounds`` times; every round begins with another one.

    lose: called with who fails, and why; it may take the runner out of the list.
    """
    for number in range(rounds):
        say(f"round {number + 1} of {rounds}")
        first = number % max(1, len(runners))
        for runner in runners[first:] + runners[:first]:
            time.sleep(PAUSE)
            try:
                runner.turn()
            except WorkerError as error:
                lose(runner, error)


def run(
    settings: list[Setting],
    task: dict[str, Any],
    folder: Path,
    pythons: dict[str, str],
    check: Check,
    schedule: tuple[int, float],
    say: Callable[[str], None],
    needed: tuple[str, ...] = (OWN, ROOFLINE),
    ahead: bool = False,
) -> tuple[list[Runner], dict[str, str]]:
    """Start everybody, one after the other, then alternate; return who ran, and who couldn't.

    check: see `checker`.  schedule: rounds, and seconds of each.  needed: without them nothing is
    measured; raises `WorkerError` if they can't.  ahead: let all processes import at once, where
    there are cores for it.
    """
    runners: list[Runner] = []
    skipped: dict[str, str] = {}
    waiting: dict[str, Worker] = {}

    def lose(runner: Runner, error: WorkerError) -> None:
        if runner.setting.peer in needed:
            raise error
        skipped[runner.setting.name] = str(error)
        runners.remove(runner)
        runner.worker.close()

    try:
        for setting in settings if ahead else []:
            with suppress(WorkerError):  # it is said below
                waiting[setting.name] = spawn(setting, task, folder, pythons)
        for setting in settings:
            say(f"starting {setting.name}")
            try:
                worker = waiting.pop(setting.name, None)
                worker = worker or spawn(setting, task, folder, pythons)
                runners.append(start(setting, task, worker, check))
            except WorkerError as error:
                if setting.peer in needed:
                    raise
                skipped[setting.name] = str(error)
                continue
            try:
                warm_up(runners[-1], schedule[1])
            except WorkerError as error:
                lose(runners[-1], error)
        alternate(runners, schedule[0], say, lose)
    finally:
        for worker in [*waiting.values(), *(runner.worker for runner in runners)]:
            worker.close()
    return runners, skipped
