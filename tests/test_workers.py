"""Workers: they see what they should, do what they are told, and never outstay their welcome."""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
import warnings
from itertools import pairwise

import numpy as np
import pytest
from worker_helpers import alarm, children, ended, linux, open_files, wait_until

import minicnn as mc
from minicnn import workers
from minicnn.workers import ARENA, LINE, Bells, Crew, SharedMemory, processes_allowed

pytestmark = linux


@pytest.fixture(autouse=True)
def nobody_left_behind():
    """Whatever a test does, afterwards there are no more processes than before, nor zombies."""
    before = children()
    yield
    assert children() <= before


@pytest.fixture
def note():
    """Numbers that all processes see."""
    return SharedMemory()(64 * 8).view("int64")


def nothing():
    pass


def address(array):
    return array.__array_interface__["data"][0]


# Memory.

SIZES = [0, 1, 63, 64, 65, 1000, ARENA // 4, ARENA // 4 + 1, ARENA, 3 * ARENA + 5]


def test_shared_memory_is_aligned_zero_and_given_out_once():
    room, rng = SharedMemory(), np.random.default_rng(0)
    sizes = [*SIZES, *rng.integers(0, ARENA // 4, 40).tolist()]  # more than one arena
    arrays = [room(size) for size in sizes]
    for number, (size, array) in enumerate(zip(sizes, arrays, strict=True)):
        assert array.dtype == np.uint8 and array.nbytes >= size and not array.any()
        assert address(array) % LINE == 0 and array.flags.writeable
        array.fill(number + 1)
    assert all((array == number + 1).all() for number, array in enumerate(arrays))
    starts = sorted((address(array), array.nbytes) for array in arrays)
    assert all(a + n <= b for (a, n), (b, _) in pairwise(starts))


@pytest.mark.parametrize("size", [8, 1000, ARENA])
def test_shared_memory_is_one_for_parent_and_child(size):
    """Both ways, after the fork; memory of another kind is the child's own by then."""
    shared, private = SharedMemory()(size), np.zeros(8, "uint8")

    def do(k, command):
        private.fill(9)
        shared[-1] = shared[0] + 1

    crew = Crew(1, do)
    for value in (3, 7):
        shared[0] = value
        crew.run(None, nothing)
        assert shared[-1] == value + 1
    assert not private.any()
    crew.close()


def test_workers_let_go_of_what_they_do_not_need():
    """Whole pages of it: what else lies in the first and the last stays."""
    page = 4096
    whole, answer = np.full(5 * page + 100, 7, "uint8"), SharedMemory()(2)
    spare = whole[50:-50]

    def do(k, command):
        kept = np.flatnonzero(whole)
        answer[0] = len(kept) < 2 * page + 200
        answer[1] = whole[:50].all() and whole[-50:].all()

    crew = Crew(1, do, [spare, np.ones(3)])
    crew.run(None, nothing)
    assert answer.all() and (whole == 7).all()
    crew.close()


def test_memory_that_cannot_be_mapped_is_a_memory_error(monkeypatch):
    def refuse(*_):
        raise OSError("no")

    monkeypatch.setattr(workers, "mmap", refuse)
    with pytest.raises(MemoryError, match=r"1.0 MiB of shared memory: no"):
        SharedMemory()


def test_bells_are_heard_once_and_not_waited_for_forever():
    bells = Bells(3)
    bells.patience = 0.1
    bells.ring(1)
    for k, least, most in ((1, 0, 0.09), (1, 0.1, 0.5), (2, 0.1, 0.5)):
        start = time.perf_counter()
        bells.listen(k)
        assert least <= time.perf_counter() - start < most
    assert np.flatnonzero(bells.counters).tolist() == [LINE // 8], "on a cache line of its own"


def test_bells_are_not_listened_to_where_others_need_the_core(monkeypatch):
    monkeypatch.setattr(workers, "cores", lambda: 2)
    assert Bells(2).patience > 0 and Bells(3).patience == 0


# Settings.


@pytest.mark.parametrize(("text", "expected"), [(None, True), ("1", True), ("0", False)])
def test_processes_variable(monkeypatch, text, expected):
    monkeypatch.delenv("MINICNN_PROCESSES", raising=False)
    if text is not None:
        monkeypatch.setenv("MINICNN_PROCESSES", text)
    assert processes_allowed() is expected
    for inner in (True, False):
        with mc.processes(inner):
            assert processes_allowed() is inner
    assert processes_allowed() is expected


@pytest.mark.parametrize("text", ["", "2", "yes", "-1", " 1"])
def test_processes_wrong_variable(monkeypatch, text):
    monkeypatch.setenv("MINICNN_PROCESSES", text)
    with pytest.raises(ValueError, match=f"MINICNN_PROCESSES is '{text}': expected 1"):
        processes_allowed()
    with mc.processes(False):
        assert not processes_allowed()


@pytest.mark.parametrize("wrong", [None, 0, 1, "no"])
def test_processes_wrong_argument(wrong):
    with pytest.raises(ValueError, match="expected True or False"), mc.processes(wrong):
        pass


def test_processes_nest_and_end_with_an_error():
    with mc.processes(False):
        with pytest.raises(KeyError), mc.processes(True):
            assert processes_allowed()
            raise KeyError
        assert not processes_allowed()


def test_processes_holds_for_the_calling_thread():
    found = []
    with mc.processes(not processes_allowed()):
        asking = threading.Thread(target=lambda: found.append(processes_allowed()))
        asking.start()
        asking.join()
        assert found == [not processes_allowed()]


@pytest.mark.parametrize("platform", ["darwin", "win32"])
def test_processes_on_other_platforms(monkeypatch, platform):
    monkeypatch.setattr(sys, "platform", platform)
    with mc.processes(True):
        assert not processes_allowed()


@pytest.mark.parametrize("lock", [True, False])
def test_processes_without_pythons_lock(monkeypatch, lock):
    monkeypatch.setattr(sys, "_is_gil_enabled", lambda: lock, raising=False)
    with mc.processes(True):
        assert processes_allowed() is lock


# At work.


@pytest.mark.parametrize("count", [1, 2, 5])
def test_crew_does_what_it_is_told(note, count):
    """Everyone once, each with his number; what is said may be long."""

    def do(k, command):
        note[k] = note[k] * 10 + len(command)

    crew = Crew(count, do)
    for text in ("a", "bb", "c" * 200_000):
        note[0] = 0
        crew.run(text, lambda: note.__setitem__(0, 1))
        assert note[0] == 1
    assert note[1 : count + 2].tolist() == [200_120] * count + [0]
    crew.close()


def test_crews_are_limited(monkeypatch):
    """And one that was dismissed doesn't count, though somebody may still know it."""
    monkeypatch.setattr(workers, "MOST", sum(c.close.alive for c in list(workers.crews)) + 1)
    first = Crew(1, lambda number, command: None)
    with pytest.raises(OSError, match="crews of worker processes already"):
        Crew(1, lambda number, command: None)
    first.close()
    Crew(1, lambda number, command: None).close()


def test_crew_is_at_work_at_once(note):
    """Each waits for all the others to have begun."""

    def arrive(k):
        note[k] = 1
        wait_until(lambda: note[:4].all())

    crew = Crew(3, lambda k, command: arrive(k))
    crew.run(None, lambda: arrive(0))
    crew.close()


class Odd(Exception):
    """Can be pickled, but not read again."""

    def __init__(self, one, other):
        super().__init__(f"{one} and {other}")


def fail(k, command):
    if command is not None and k in command[0]:
        raise command[1]


@pytest.mark.parametrize("error", [ZeroDivisionError("of worker"), KeyError("k"), SystemExit(3)])
def test_error_of_a_worker_is_raised_here(note, error):
    def do(k, command):
        note[k] = 1
        fail(k, command)

    crew = Crew(3, do)
    with pytest.raises(type(error)) as caught:
        crew.run(([2, 3], error), nothing)
    assert caught.value.args == error.args
    (text,) = caught.value.__notes__
    assert text.startswith("In a worker process:") and "in fail" in text
    assert note[1:4].all()
    crew.run(None, nothing)
    assert crew.close.alive, "they are still there"
    crew.close()


def test_first_error_is_raised():
    def do(k, command):
        raise ValueError(k)

    crew = Crew(3, do)
    with pytest.raises(ValueError, match="1"):
        crew.run(None, nothing)
    crew.close()


@pytest.mark.parametrize("kind", ["local", "odd"])
def test_error_that_cannot_be_sent_is_told(kind):
    def do(k, command):
        class Local(Exception):
            pass

        raise Local("a and b") if kind == "local" else Odd("a", "b")

    crew = Crew(1, do)
    with pytest.raises(RuntimeError, match=f"{kind.title()}: a and b") as caught:
        crew.run(None, nothing)
    assert "in do" in caught.value.__notes__[0]
    crew.close()


def test_warnings_of_workers_are_given_here():
    def do(k, command):
        np.log(np.zeros(3)) if k == 2 else warnings.warn("of one", UserWarning, stacklevel=1)

    crew = Crew(2, do)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("default")
        crew.run(None, nothing)
        crew.run(None, nothing)
    texts = [(w.category, str(w.message)) for w in caught]
    assert texts == [(UserWarning, "of one"), (RuntimeWarning, "divide by zero encountered in log")]
    assert {w.filename for w in caught} == {__file__}
    for _ in range(2):
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            with pytest.raises(UserWarning, match="of one"):
                crew.run(None, nothing)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        crew.run(None, nothing)
    crew.close()


def test_tracing_is_for_the_parent(note):
    """A debugger steps through the program, not through its workers."""

    def trace(frame, event, argument):
        note[int(os.getpid() != parent)] += 1

    parent, before = os.getpid(), sys.gettrace()
    sys.settrace(trace)
    try:
        crew = Crew(1, lambda k, command: nothing())
        crew.run(None, nothing)
        note[1] = 0
        crew.run(None, nothing)
    finally:
        sys.settrace(before)
    assert note[0] > 0 and note[1] == 0
    crew.close()


# Ends.


def test_worker_that_is_killed_in_the_middle():
    crew = Crew(3, lambda k, command: k == 2 and os.kill(os.getpid(), signal.SIGKILL))
    with pytest.raises(RuntimeError, match=r"ended from outside in the middle of a step.*=0 does"):
        crew.run(None, nothing)
    assert not crew.close.alive and not children()


def test_worker_that_is_killed_while_it_waits():
    crew = Crew(2, fail)
    victim = min(children())
    os.kill(victim, signal.SIGKILL)
    wait_until(lambda: ended(victim))
    with pytest.raises(RuntimeError, match="ended from outside"):
        crew.run(None, nothing)
    assert not children()


@pytest.mark.parametrize("error", [KeyboardInterrupt, MemoryError])
def test_nobody_is_at_work_after_an_error_here(note, error):
    def do(k, command):
        time.sleep(0.2)
        note[k] += 1

    def mine():
        raise error("on purpose")

    crew = Crew(2, do)
    with pytest.raises(error, match="on purpose"):
        crew.run(None, mine)
    assert note[1:3].tolist() == [1, 1] and not children()


def test_ctrl_c_that_is_pressed_again_ends_workers_that_hang():
    crew = Crew(2, lambda k, command: time.sleep(60))
    start = time.monotonic()
    with pytest.raises(KeyboardInterrupt), alarm(0.2, every=0.2):
        crew.run(None, nothing)
    assert time.monotonic() - start < 10 and not children()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1])
def test_signals_do_not_reach_workers(note, number):
    crew = Crew(2, lambda k, command: note.__setitem__(k, 1))
    for pid in children():
        os.kill(pid, number)
    crew.run(None, nothing)
    assert note[1:3].all()
    crew.close()


@pytest.mark.parametrize("at", [1, 3])
def test_ctrl_c_while_workers_are_started(monkeypatch, at):
    """It comes when there is a new process already, whose number mustn't be lost."""
    real, count = os.fork, [0]

    def fork():
        count[0] += 1
        pid = real()
        if pid and count[0] == at:
            signal.raise_signal(signal.SIGINT)
        return pid

    files = open_files(os.getpid())
    monkeypatch.setattr(os, "fork", fork)
    with pytest.raises(KeyboardInterrupt):
        Crew(3, fail)
    assert signal.SIGINT not in signal.pthread_sigmask(signal.SIG_BLOCK, [])
    assert not children() and len(open_files(os.getpid())) == len(files)


def test_ctrl_c_while_signals_are_held_back(monkeypatch):
    """They are let through again."""
    real = signal.pthread_sigmask

    def interrupted(how, mask):
        before = real(how, mask)
        if how == signal.SIG_BLOCK and mask:
            raise KeyboardInterrupt
        return before

    before = real(signal.SIG_BLOCK, [])
    monkeypatch.setattr(signal, "pthread_sigmask", interrupted)
    with pytest.raises(KeyboardInterrupt):
        Crew(1, fail)
    assert real(signal.SIG_BLOCK, []) == before


def test_crew_ends_with_its_last_reference():
    crew = Crew(2, fail)
    assert len(children()) == 2
    del crew
    assert not children()


def test_files_are_closed_in_workers_and_here(tmp_path):
    with open(tmp_path / "file", "w"):
        before = len(open_files(os.getpid()))
        for count in range(1, 4):
            crews = [Crew(count, fail), Crew(2, fail)]
            for pid in children():
                assert len(open_files(pid)) <= 3 + 1, "the standard three and the line"
                assert str(tmp_path / "file") not in open_files(pid)
            for crew in crews:
                crew.close()
        for _ in range(20):
            Crew(1, fail).run(None, nothing)
        assert len(open_files(os.getpid())) == before


def test_no_fork_is_an_os_error(monkeypatch):
    real, left, files = os.fork, [2], len(open_files(os.getpid()))

    def fork():
        left[0] -= 1
        if left[0] < 0:
            raise BlockingIOError(11, "no more")
        return real()

    monkeypatch.setattr(os, "fork", fork)
    with pytest.raises(OSError, match="no more"):
        Crew(5, fail)
    assert not children() and len(open_files(os.getpid())) == files


@pytest.mark.parametrize(
    ("serve", "said"),
    [(lambda *_: time.sleep(60), "didn't start"), (lambda *_: os._exit(1), "before it began")],
    ids=["hangs", "ends"],
)
def test_worker_that_never_is_ready_is_an_os_error(monkeypatch, serve, said):
    monkeypatch.setattr(workers, "serve", serve)
    monkeypatch.setattr(workers, "READY", 0.3)
    with pytest.raises(OSError, match=said):
        Crew(2, fail)
    assert not children()


def test_crew_can_be_parted_with_while_a_child_of_the_users_lives(note):
    """Who is forked holds no line open: the workers see their end.  Nor can he wait for them."""
    crew = Crew(2, fail)
    pid = os.fork()
    if pid == 0:
        try:
            note[0] = sum(not line.closed for line in crew.lines)
            crew.close()
            note[1] = 1
            time.sleep(60)
        finally:
            os._exit(0)
    try:
        wait_until(lambda: note[1] == 1)
        assert note[0] == 0
        crew.run(None, nothing)
        with alarm(10):
            crew.close()
        assert children() == {pid}
    finally:
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
