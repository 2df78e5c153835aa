"""What the tests of the search have in common, and a search in a process of its own.

python tuning_helpers.py STORAGE TRIALS [KILL]    waits for a line, searches, and waits for a line
again after its first trial.  KILL: the trial in whose second batch it kills itself.
"""

from __future__ import annotations

import os
import signal
import sys

import numpy as np

import minicnn as mc

SPACE = {"lr": {"low": 0.01, "high": 0.2, "log": True}, "loss.label_smoothing": [0.0, 0.1]}


def recipe(model=None, epochs=1, **training):
    """Return a recipe of a network that is trained in a moment."""
    return mc.Recipe(
        {
            "about": "a test's",
            "model": model or {"name": "densenet_small", "depth": 7, "growth": 2},
            "training": {"epochs": epochs, "batch_size": 15, **training},
            "optimizer": {"name": "SGD", "momentum": 0.9},
            "schedule": {"name": "constant", "lr": 0.05},
        },
        "small",
    )


def pictures(count=40):
    """Return drawn pictures of 8x8."""
    x, y = mc.datasets.synthetic(count, seed=1)
    return np.ascontiguousarray(x[:, ::4, ::4]), y


def tune(storage, trials, **options):
    """Search like all tests that share a study."""
    options = {"space": SPACE, "pruner": "none", "validation": 0.3, "device": "cpu"} | options
    return mc.tune(*pictures(), recipe(), trials=trials, storage=storage, **options)


def main():
    """Search, and maybe die of it."""
    from minicnn.tuning import training

    storage, trials, *kill = sys.argv[1:]
    kill, batches, step = [int(k) for k in kill], [0], training.train_step
    done = []

    def counting(*args, **options):
        batches[0] += 1
        if len(done) in kill and batches[0] == 2:
            os.kill(os.getpid(), signal.SIGKILL)
        return step(*args, **options)

    def report(trial):
        done.append(trial)
        batches[0] = 0
        print(trial, flush=True)
        if len(done) == 1:
            sys.stdin.readline()

    tune("sqlite://", 1)  # what is imported takes a while
    training.train_step = counting
    print("ready", flush=True)
    sys.stdin.readline()
    tune(storage, int(trials), report=report)


if __name__ == "__main__":
    main()
