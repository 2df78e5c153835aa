"""Plans in processes, among threads, copies, other processes; and how they begin and end."""

from __future__ import annotations

import copy
import gc
import os
import pickle
import signal
import threading
import warnings

import numpy as np
import pytest
import run_helpers as runs
from worker_helpers import children, ended, linux, wait_until

import minicnn as mc
from minicnn import plan, workers
from minicnn.kernels.cpu import team as team_module
from minicnn.plan import plan as plan_module
from minicnn.plan.kept import plan_for

from .nets import batch, by_plan, upstream
from .test_processes import N, crews, each_way, labels_of, model_of, net, train

pytestmark = [linux, pytest.mark.usefixtures("at_once")]


# Threads, copies, other processes.


def test_two_models_in_two_threads_at_once():
    def work():
        found = {}
        models = [model_of(), model_of(net()[:4] + net()[8:])]

        def go(number, model):
            with mc.threads(2), mc.processes(allowed):
                found[number] = repr(train(model, 6))

        allowed = workers.processes_allowed()
        threads = [threading.Thread(target=go, args=each) for each in enumerate(models)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(60)
            assert not thread.is_alive()
        assert not allowed or all(map(crews, models))
        return {number: found[number] for number in (0, 1)}

    each_way(work)


@pytest.mark.parametrize("duplicate", [copy.deepcopy, lambda m: pickle.loads(pickle.dumps(m))])
def test_copy_of_a_model_has_processes_of_its_own(duplicate):
    def work():
        model = model_of()
        train(model, 2)
        twin = duplicate(model)
        assert not crews(twin)
        found = train(model, 2)
        assert train(twin, 2) == found
        return found

    each_way(work)


def in_child(work):
    """Do some work in a process of the user's; return what it returns."""
    read, write = os.pipe()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        pid = os.fork()
    if pid == 0:
        code = 1
        try:
            signal.alarm(60)
            with os.fdopen(write, "wb") as file:
                pickle.dump(work(), file)
            code = 0
        finally:
            os._exit(code)
    os.close(write)
    with os.fdopen(read, "rb") as file:
        found = pickle.load(file)
    assert os.waitpid(pid, 0) == (pid, 0)
    return found


def test_forked_process_has_a_model_of_its_own():
    """It trains by plans and with workers, too; neither changes anything in the other."""
    with mc.threads(3):
        model = model_of()
        train(model, 2)
        before, crew = model.params.data.tobytes(), crews(model)[0]
        twin = copy.deepcopy(model)

        def work():
            found = train(model, 2)
            return found, len(crews(model)), len(children())

        found, count, processes = in_child(work)
        assert count == 2 and processes == 4
        assert model.params.data.tobytes() == before and crew.close.alive
        assert train(model, 2) == found == train(twin, 2)
        assert crews(model)[0] is crew


# Beginnings and ends.


def test_processes_are_started_for_what_is_done_often(monkeypatch):
    monkeypatch.setattr(team_module, "OFTEN", 4)
    model = model_of()
    x, dy = batch(model, N), upstream(model, N)
    with mc.threads(2):
        found = []
        for _ in range(7):
            by_plan(model, x, dy)
            found.append(len(children()))
        assert found == [0, 0, 0, 0, 1, 1, 1]
        with np.errstate(over="raise"):  # others are started, which know of it
            crew = crews(model)[0]
            by_plan(model, x, dy)
        assert crews(model) != [crew] and len(children()) == 1
    with mc.threads(1):
        by_plan(model, x, dy)
    assert plan_for(model, x, True).team.crew is not None


def test_large_models_stay_with_threads(monkeypatch):
    model = model_of()
    for size, expected in ((model.params.data.nbytes - 1, 0), (model.params.data.nbytes, 2)):
        monkeypatch.setattr(plan_module, "HEAVY", size)
        plan.forget(model)
        with mc.threads(3):
            by_plan(model, batch(model, N), upstream(model, N))
            assert len(children()) == expected


@pytest.mark.parametrize("way", ["forget", "del", "other sizes"])
def test_processes_go_with_their_plan(way):
    model = model_of()
    with mc.threads(2):
        train(model)
        assert len(children()) == 2
        if way == "forget":
            plan.forget(model)
        elif way == "del":
            del model
            gc.collect()
        else:
            for n in range(4, 12):
                plan.infer(model, batch(model, n))
            assert len(children()) == 4
            plan.forget(model)
    assert not children()


def test_profile_of_a_model_with_processes():
    model, x = model_of(), None
    with mc.threads(2):
        train(model)
        x = batch(model, N)
        table = str(model.profile(x, labels_of(x)))
        assert "conv2d_1" in table and "own_1" in table
        assert train(model, 1).keys()


PROGRAM = """
import os, signal, sys, threading, time
import numpy as np
import minicnn as mc
from minicnn.kernels.cpu import team
from minicnn.plan.kept import plans_of
team.OFTEN = 0
model = mc.Sequential(mc.Conv2D(4, 3), mc.BatchNorm(), mc.Flatten(), mc.Dense(3)).build((6, 6, 2))
x, y, optimizer = np.ones((24, 6, 6, 2), "float32"), np.arange(24) % 3, mc.SGD(0.01)
def train(steps=3):
    with mc.threads(3):
        for _ in range(steps):
            mc.train_step(model, optimizer, x, y)
train()
(plan,) = plans_of(model).kept.values()
print(*plan.team.crew.close.peek()[2][2], flush=True)
del plan
def exit(*_):
    sys.exit(7)
"""
ENDINGS = {
    "end": ("", 0),
    "sys.exit": ("exit()", 7),
    "exception": ("1 / 0", 1),
    "os._exit": ("os._exit(5)", 5),
    "killed": ("os.kill(os.getpid(), signal.SIGKILL)", -9),
    "killed at work": ("threading.Timer(0.2, os.kill, (os.getpid(), 9)).start(); train(10**6)", -9),
    "signal": ("signal.signal(15, exit); os.killpg(0, 15); train(10**6)", 7),
    "signal at work": (
        "signal.signal(15, exit); threading.Timer(0.2, os.killpg, (0, 15)).start(); train(10**6)",
        7),
    "thread": ("threading.Thread(target=train, args=(20,)).start()", 0),
    "daemon": (
        "threading.Thread(target=train, args=(10**6,), daemon=True).start(); time.sleep(0.2)", 0),
}  # fmt: skip


@pytest.mark.parametrize("name", ENDINGS)
def test_processes_end_with_the_program(name):
    last, code = ENDINGS[name]
    with runs.process("-c", PROGRAM + last, start_new_session=True) as program:
        printed, said = program.communicate(timeout=30)
    pids = [int(word) for word in printed.split()]
    assert program.returncode == code, said
    assert len(pids) == 2 and ("ZeroDivisionError" in said if name == "exception" else not said)
    for pid in pids:
        wait_until(lambda pid=pid: ended(pid))
