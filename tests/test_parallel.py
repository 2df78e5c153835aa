"""Jobs at once: every one done, whatever fails or comes between, and BLAS as it was."""

from __future__ import annotations

import gc
import os
import random
import signal
import sys
import threading
import time
import traceback
import warnings
import weakref
from contextlib import contextmanager, suppress

import numpy as np
import pytest
import run_helpers as runs
import threadpoolctl
from worker_helpers import at_once

from minicnn import parallel
from minicnn.parallel import blas_can_be_limited, cores, run, single_blas, thread_count, threads

needs_fork = pytest.mark.skipif(not hasattr(os, "fork"), reason="needs os.fork")
needs_timers = pytest.mark.skipif(not hasattr(signal, "setitimer"), reason="needs Unix signals")
needs_blas = pytest.mark.skipif(not blas_can_be_limited(), reason="NumPy's BLAS can't be limited")


@pytest.fixture(autouse=True, scope="module")
def libraries_that_other_tests_have_loaded():
    """Know them too: libraries loaded after a first use, of a plan for example, aren't known."""
    parallel._libraries.cache_clear()


@pytest.fixture(autouse=True)
def nothing_asked(monkeypatch):
    monkeypatch.delenv("MINICNN_NUM_THREADS", raising=False)


@pytest.fixture
def new_pool(monkeypatch):
    """A pool without workers; return its list of those that are idle."""
    idle = []
    monkeypatch.setattr(parallel, "_idle", idle)
    return idle


# Cores.


def groups(folder, membership, limits):
    """Write the files of control groups; return where."""
    (folder / "membership").write_text(membership)
    for name, text in limits.items():
        path = folder / "tree" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return folder / "membership", folder / "tree"


@pytest.mark.parametrize(
    ("membership", "limits", "expected"),
    [
        ("0::/\n", {}, []),
        ("0::/\n", {"cpu.max": "max 100000\n"}, []),
        ("0::/\n", {"cpu.max": "250000 100000\n"}, [2.5]),
        ("0::/a/b\n", {"a/b/cpu.max": "max 100000", "a/cpu.max": "150000 50000"}, [3.0]),
        ("0::/a/b\n", {"a/b/cpu.max": "70000 100000", "cpu.max": "400000 100000"}, [4.0, 0.7]),
        ("0::/a b:c\n", {"a b:c/cpu.max": "200000 100000"}, [2.0]),
        ("0::/the/hosts\n", {"cpu.max": "100000 100000"}, [1.0]),
        ("0::/../../a\n", {"a/cpu.max": "100000 100000", "cpu.max": "max 1"}, [1.0]),
        ("0::/a\n", {"b/cpu.max": "100000 100000"}, []),
        ("0::/\n", {"cpu.max": ""}, []),
        ("0::/\n", {"cpu.max": "much of it"}, []),
        ("0::/\n", {"cpu.max": "100000 0"}, []),
        ("", {"cpu.max": "100000 100000"}, []),
    ],
)
def test_cores_version_2(tmp_path, membership, limits, expected):
    assert parallel._quotas(*groups(tmp_path, membership, limits)) == expected


@pytest.mark.parametrize(
    ("line", "quota", "period", "expected"),
    [
        ("4:cpu,cpuacct:/a", "150000\n", "100000\n", [1.5]),
        ("4:cpuacct,cpu:/a", "300000\n", "100000\n", [3.0]),
        ("4:cpu:/a", "-1\n", "100000\n", []),
        ("4:cpu:/a", "50000\n", "0\n", []),
        ("4:cpu:/a", "", "", []),
        ("4:cpuset:/a", "100000\n", "100000\n", []),
        ("4:cpuacct:/a", "100000\n", "100000\n", []),
    ],
)
@pytest.mark.parametrize("where", ["cpu/a/", "cpu/"])
def test_cores_version_1(tmp_path, line, quota, period, expected, where):
    limits = {f"{where}cpu.cfs_quota_us": quota, f"{where}cpu.cfs_period_us": period}
    assert parallel._quotas(*groups(tmp_path, f"9:name=systemd:/\n{line}\n", limits)) == expected


def test_cores_both_versions(tmp_path):
    limits = {"cpu/cpu.cfs_quota_us": "3", "cpu/cpu.cfs_period_us": "1", "cpu.max": "2 1"}
    assert parallel._quotas(*groups(tmp_path, "1:cpu:/\n0::/\n", limits)) == [3.0, 2.0]


def test_cores_without_control_groups(tmp_path):
    assert parallel._quotas(tmp_path / "none", tmp_path) == []


@pytest.fixture
def machine(monkeypatch):
    """Set what cores() finds; return what it says."""

    def says(affinity, count, quotas):
        if affinity is None:
            monkeypatch.delattr(os, "sched_getaffinity", raising=False)
        else:
            everywhere = set(range(affinity))
            monkeypatch.setattr(os, "sched_getaffinity", lambda pid: everywhere, raising=False)
        monkeypatch.setattr(os, "cpu_count", lambda: count)
        monkeypatch.setattr(parallel, "_quotas", lambda *paths: quotas)
        cores.cache_clear()
        return cores()

    yield says
    cores.cache_clear()


@pytest.mark.parametrize(
    ("affinity", "count", "quotas", "expected"),
    [
        (6, 64, [], 6),
        (6, 64, [2.9], 2),
        (6, 64, [7.0], 6),
        (6, 64, [4.0, 3.5], 3),
        (6, 64, [0.2], 1),
        (None, 64, [], 64),
        (None, None, [], 1),
    ],
)
def test_cores(machine, affinity, count, quotas, expected):
    assert machine(affinity, count, quotas) == expected
    assert isinstance(cores(), int)


def test_cores_are_counted_once(machine, monkeypatch):
    assert machine(4, 4, []) == 4
    monkeypatch.setattr(parallel, "_quotas", None)
    assert cores() == 4


def test_cores_here():
    assert 1 <= cores() <= os.cpu_count()


# Threads.


@pytest.mark.parametrize(("here", "expected"), [(1, 1), (2, 2), (8, 8), (64, 8)])
def test_threads_are_as_many_as_cores_at_most_8(machine, here, expected):
    machine(here, here, [])
    assert thread_count() == expected


def test_threads_of_the_environment(monkeypatch):
    monkeypatch.setenv("MINICNN_NUM_THREADS", "12")
    assert thread_count() == 12
    with threads(3):
        assert thread_count() == 3


@pytest.mark.parametrize("text", ["", "0", "-1", "two", "2.0", "1e1"])
def test_threads_of_the_environment_wrong(monkeypatch, text):
    monkeypatch.setenv("MINICNN_NUM_THREADS", text)
    with pytest.raises(ValueError, match=f"MINICNN_NUM_THREADS is '{text}': .* integer >= 1; with"):
        thread_count()
    with threads(2):
        assert thread_count() == 2


def test_threads_nest():
    before = thread_count()
    with threads(5):
        with pytest.raises(KeyError), threads(np.int64(7)):
            assert thread_count() == 7 and type(thread_count()) is int
            raise KeyError
        assert thread_count() == 5
    assert thread_count() == before


@pytest.mark.parametrize("n", [0, -1, True, 2.0, "2", None])
def test_threads_wrong(n):
    with pytest.raises(ValueError, match=r"threads .*: expected an integer >= 1"), threads(n):
        pass


def test_threads_hold_here_alone():
    found = []
    with threads(11):
        at_once(lambda: found.append(thread_count()))
        assert thread_count() == 11
    assert found[0] != 11


# The pool.


@pytest.mark.parametrize("count", [2, 3, 8, 16])
def test_run_runs_jobs_at_once(count):
    barrier, ran = threading.Barrier(count), {}

    def job(place):
        barrier.wait(20)  # all of them at work, or it breaks
        ran[place] = threading.get_ident()

    assert run([lambda place=place: job(place) for place in range(count)]) is None
    assert sorted(ran) == list(range(count)) and len(set(ran.values())) == count
    assert ran[0] == threading.get_ident()


def test_run_of_no_job_and_of_one(new_pool, monkeypatch):
    monkeypatch.setattr(threading.Thread, "start", None)
    run([])
    ran = []
    run([lambda: ran.append(threading.get_ident())])
    assert ran == [threading.get_ident()]
    with pytest.raises(KeyError, match="own"):
        run((lambda: fail(KeyError("own")),))


def fail(error):
    raise error


def test_run_keeps_its_workers(new_pool):
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)  # threads change at every line
    try:
        for count in [2, 5, 3, 5, 4]:
            for _ in range(100):
                run([lambda: None] * count)
    finally:
        sys.setswitchinterval(interval)
    assert len(new_pool) == 4  # the most that one call needed besides its own thread
    names = {thread.name for thread in threading.enumerate() if thread.name.startswith("minicnn")}
    assert names == {"minicnn worker"}
    assert all(t.daemon for t in threading.enumerate() if t.name == "minicnn worker")


def test_run_gives_jobs_the_callers_context():
    found = []

    def job():
        found.append((thread_count(), np.geterr()["divide"]))
        np.seterr(divide="call")  # is the job's own affair

    with threads(9), np.errstate(divide="raise"):
        run([job] * 3)
        assert np.geterr()["divide"] == "raise"
    assert found == [(9, "raise")] * 3


@pytest.mark.parametrize("wrong", [[0], [2], [1, 3], [3, 1, 0]])
@pytest.mark.parametrize("kind", [ValueError, SystemExit, KeyboardInterrupt])
def test_run_raises_the_first_error_when_all_are_done(wrong, kind):
    done = []

    def job(place):
        if place in wrong:
            raise kind(place)
        time.sleep(0.05)
        done.append(place)

    with pytest.raises(kind) as caught:
        run([lambda place=place: job(place) for place in range(4)])
    assert caught.value.args == (min(wrong),)
    assert sorted(done) == sorted(set(range(4)) - set(wrong))
    names = [frame.name for frame in traceback.extract_tb(caught.value.__traceback__)]
    assert names[-1] == "job"
    assert caught.value.__cause__ is None and caught.value.__context__ is None
    run([lambda: done.append(9)] * 3)
    assert done[-3:] == [9] * 3


def gone(reference):
    """Return whether the object of a weak reference is gone soon."""
    end = time.monotonic() + 5
    while reference() is not None and time.monotonic() < end:
        time.sleep(0.001)
    return reference() is None


@pytest.mark.parametrize("wrong", [None, 0, 1])
def test_run_holds_on_to_nothing(wrong):
    """Not to the arrays in a job, and not even to those in a failed one, once it's caught."""
    gc.disable()
    try:
        data = np.zeros(10)
        reference = weakref.ref(data)

        def job(place, data=data):
            if place == wrong:
                raise ValueError(data.sum())

        jobs = [lambda place=place, job=job: job(place) for place in range(3)]
        with suppress(ValueError):
            run(jobs)
        del data, job, jobs
        assert gone(reference)
    finally:
        gc.enable()


def test_run_within_a_job_runs_in_place():
    found = []

    def inner(place):
        found.append((place, threading.get_ident()))

    def job(place):
        here = threading.get_ident()
        run([lambda: inner(place), lambda: inner(place), lambda: run([lambda: inner(place)] * 2)])
        assert {ident for p, ident in found if p == place} == {here}

    for _ in range(20):
        found.clear()
        run([lambda place=place: job(place) for place in range(4)])
        assert sorted(place for place, _ in found) == sorted([0, 1, 2, 3] * 4)
    with pytest.raises(ValueError, match="inner"):
        run([lambda: None, lambda: run([lambda: None, lambda: fail(ValueError("inner"))])])
    barrier = threading.Barrier(2)
    run([lambda: barrier.wait(20)] * 2)  # and afterwards at once again


def test_run_when_no_thread_can_be_started(new_pool, monkeypatch):
    start, ran = threading.Thread.start, []

    def only_one(thread):
        if new_pool or threading.active_count() > before:
            raise RuntimeError("can't start new thread")
        start(thread)

    before = threading.active_count()
    with monkeypatch.context() as patched, pytest.raises(RuntimeError, match="new thread"):
        patched.setattr(threading.Thread, "start", only_one)
        run([lambda: ran.append(0)] * 3)
    assert ran == [] and len(new_pool) == 1
    run([lambda: ran.append(1)] * 3)
    assert ran == [1] * 3 and len(new_pool) == 2


def test_run_stress_of_many_callers():
    """Many short jobs from several threads, some failing: each call gets its own results."""

    def caller(seed):
        rng = random.Random(seed)
        for turn in range(150):
            count = rng.randint(1, 16)
            wrong = rng.randrange(count) if rng.random() < 0.2 else None
            results = [None] * count

            def job(place, turn=turn, wrong=wrong, results=results):
                if place == wrong:
                    raise ValueError(seed, turn, place)
                results[place] = (seed, turn, place)

            expected = [(seed, turn, place) for place in range(count)]
            try:
                run([lambda place=place, job=job: job(place) for place in range(count)])
                assert wrong is None
            except ValueError as error:
                assert error.args == expected[wrong]
                expected[wrong] = None
            if count > 1:
                assert results == expected

    at_once(*[lambda seed=seed: caller(seed) for seed in range(8)])


def test_run_stress_of_arithmetic(rng):
    """Slices of an array, in NumPy's own time."""
    x = rng.standard_normal((16, 64, 64)).astype("float32")
    expected, found = x @ x, np.empty_like(x)
    for _ in range(100):
        found[:] = 0
        run([lambda i=i: np.matmul(x[i], x[i], out=found[i]) for i in range(16)])
        np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-4)


# Ctrl-C.


def test_interruption_in_the_callers_job_waits_for_the_others():
    done = []

    def own():
        signal.raise_signal(signal.SIGINT)
        done.append("own")

    def other():
        time.sleep(0.1)
        done.append("other")

    with pytest.raises(KeyboardInterrupt):
        run([own, other, other])
    assert done == ["other", "other"]


@needs_timers
@pytest.mark.parametrize("times", [1, 5])
@pytest.mark.parametrize("error", [None, ValueError])
def test_interruption_while_waiting_waits_on(times, error):
    done = []

    def other():
        for _ in range(times):
            signal.pthread_kill(threading.main_thread().ident, signal.SIGINT)
            time.sleep(0.03)
        done.append("other")
        if error is not None:
            raise error

    with pytest.raises(KeyboardInterrupt):
        run([lambda: None, other])
    assert done == ["other"]
    run([lambda: done.append("next")] * 2)
    assert done == ["other", "next", "next"]


@contextmanager
def alarms():
    """Let SIGALRM raise KeyboardInterrupt; give a function that sets it off in so many seconds.

    Then it goes off every 50 ms, until that is called with 0: one that another thread of the
    process was given may go unnoticed.  In garbage collection it would come to nothing, too:
    Hypothesis has a function called there, in which errors are ignored.
    """
    gc.collect()
    gc.disable()
    before = signal.signal(signal.SIGALRM, signal.default_int_handler)
    try:
        yield lambda seconds: signal.setitimer(signal.ITIMER_REAL, seconds, 0.05)
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        gc.enable()
        signal.signal(signal.SIGALRM, before)


@needs_timers
def test_interruption_at_any_moment_leaves_no_job_at_work():
    """A thousand, at random: none hangs, and none comes through before the jobs are over."""
    rng, here = random.Random(0), threading.get_ident()
    begun, ended = [], []

    def job():
        if threading.get_ident() != here:  # that of this thread may be broken off
            begun.append(1)
            sum(range(200))
            ended.append(1)

    with alarms() as alarm:
        for _ in range(1000):
            with pytest.raises(KeyboardInterrupt):
                alarm(rng.uniform(1e-6, 4e-4))
                while True:
                    run([job] * 4)
            alarm(0)
            count = len(begun)
            assert len(ended) == count
            time.sleep(1e-4)
            assert len(begun) == count
    four_at_once()


@needs_blas
@needs_timers
def test_interruption_at_any_moment_leaves_blas_as_it_was(two_blas_threads):
    rng = random.Random(0)
    with alarms() as alarm:
        for _ in range(500):
            with suppress(KeyboardInterrupt):
                alarm(rng.uniform(1e-6, 1e-4))
                while True:
                    with single_blas():
                        pass
            alarm(0)
            with single_blas():
                assert blas_threads() == {1}
            assert blas_threads() == {2}


# Child processes, and the end.


def in_child(work):
    """Fork, do work() in the child, and return its exit status: 0 if it ended well."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # Python 3.12: there are threads
        child = os.fork()
    if child == 0:
        code = 1
        try:
            signal.alarm(30)  # ends a child that hangs
            work()
            code = 0
        except BaseException:
            traceback.print_exc()
        finally:
            os._exit(code)
    return os.waitpid(child, 0)[1]


def four_at_once():
    barrier = threading.Barrier(4)
    run([lambda: barrier.wait(10)] * 4)


@needs_fork
def test_fork_makes_a_new_pool():
    four_at_once()

    def work():
        four_at_once()
        assert in_child(four_at_once) == 0

    assert in_child(work) == 0
    four_at_once()


@needs_fork
def test_fork_while_others_run():
    """A child of a process whose other threads are in the middle of it."""
    over = threading.Event()

    def busy():
        while not over.is_set():
            with single_blas():
                run([lambda: None] * 3)

    def work():
        four_at_once()
        with single_blas():
            four_at_once()

    def parent():
        try:
            for _ in range(10):
                assert in_child(work) == 0
        finally:
            over.set()

    at_once(busy, busy, parent)


@needs_fork
def test_fork_while_another_thread_holds_the_lock():
    """Deep in single_blas(), that is: nobody would ever release it in the child."""
    inside, over = threading.Event(), threading.Event()

    def other():
        with parallel._everywhere.lock:
            inside.set()
            over.wait(60)

    def work():
        with single_blas():
            pass

    def parent():
        inside.wait(60)
        try:
            assert in_child(work) == 0
        finally:
            over.set()

    at_once(other, parent)


@needs_blas
@needs_fork
def test_fork_forgets_other_threads_blocks(two_blas_threads):
    """A block of a thread that the child doesn't have ends there; this thread's own goes on."""
    inside, over = threading.Event(), threading.Event()

    def other():
        with single_blas():
            inside.set()
            over.wait(30)

    def alone():
        assert blas_threads() == {2}
        with single_blas():
            assert blas_threads() == {1}
        assert blas_threads() == {2}

    def within():
        assert blas_threads() == {1}

    thread = threading.Thread(target=other, daemon=True)
    thread.start()
    assert inside.wait(30)
    try:
        assert in_child(alone) == 0
        with single_blas():
            assert in_child(within) == 0
    finally:
        over.set()
        thread.join()
    assert blas_threads() == {2}


@pytest.mark.parametrize("end", ["", "sys.exit(0)", "threading.Thread(target=go).start()"])
def test_program_ends_while_workers_are_idle(end):
    code = f"""if True:
        import sys, threading, time
        from minicnn.parallel import run, single_blas
        def go():
            with single_blas():
                run([lambda: None] * 8)
            print(time.time(), flush=True)
        go()
        {end}
    """
    with runs.process("-W", "error", "-c", code) as started:
        printed, said = started.communicate(timeout=60)
        ended = time.time()
    assert (started.returncode, said) == (0, "")
    assert ended - float(printed.split()[-1]) < 1


# BLAS.


def blas_threads():
    """Return the numbers of threads of all BLAS libraries, by threadpoolctl."""
    info = threadpoolctl.threadpool_info()
    return {pool["num_threads"] for pool in info if pool["user_api"] == "blas"}


@pytest.fixture
def two_blas_threads():
    """Two threads for BLAS, set as a user would, by this thread."""
    with threadpoolctl.threadpool_limits(2, user_api="blas"):
        if blas_threads() != {2}:
            pytest.skip("BLAS doesn't take two threads here")
        yield


@needs_blas
def test_single_blas_restores(two_blas_threads):
    with single_blas():
        assert blas_threads() == {1}
        with single_blas():
            assert blas_threads() == {1}
        assert blas_threads() == {1}
    assert blas_threads() == {2}
    with pytest.raises(KeyError), single_blas():
        raise KeyError
    assert blas_threads() == {2}


@needs_blas
def test_single_blas_restores_what_was_there_last():
    for n in (2, 1, 2):
        with threadpoolctl.threadpool_limits(n, user_api="blas"):
            before = blas_threads()
            with single_blas():
                assert blas_threads() == {1}
            assert blas_threads() == before


@needs_blas
def test_single_blas_holds_in_jobs(two_blas_threads):
    found = []
    with single_blas():
        run([lambda: found.append(blas_threads())] * 4)
    assert found == [{1}] * 4 and blas_threads() == {2}


@needs_blas
def test_single_blas_of_several_threads(two_blas_threads):
    """The last one out restores, whichever thread it is: threadpoolctl lets only one set."""
    turns = [threading.Event() for _ in range(4)]

    def early():
        with single_blas():
            turns[0].set()
            turns[1].wait(20)
        turns[2].set()

    def late():
        turns[0].wait(20)
        with single_blas():
            turns[1].set()
            turns[2].wait(20)
            assert blas_threads() == {1}
        turns[3].set()

    at_once(early, late)
    assert turns[3].is_set() and blas_threads() == {2}


@needs_blas
def test_single_blas_stress(two_blas_threads):
    def enter():
        for _ in range(300):
            with single_blas():
                assert all(get() == 1 for get, _ in parallel._libraries()["process"])

    at_once(*[enter] * 6)
    assert blas_threads() == {2}


class Fake:
    """A library with a number of threads for each thread, as MKL has, or with one for all."""

    def __init__(self, scope, monkeypatch):
        self.here = threading.local() if scope == "thread" else Fake
        self.here.n, self.sets = 4, []
        found = {"process": [], "thread": [], scope: [(self.get, self.set)]}
        monkeypatch.setattr(parallel, "_libraries", lambda: found)

    def get(self):
        return getattr(self.here, "n", 4)

    def set(self, n):
        self.sets.append(n)
        self.here.n = n


@pytest.mark.parametrize("scope", ["process", "thread"])
def test_single_blas_holds_in_each_thread(scope, monkeypatch, new_pool):
    library, found = Fake(scope, monkeypatch), []
    barrier = threading.Barrier(3)

    def job():
        barrier.wait(20)
        found.append(library.get())

    with single_blas():
        run([job] * 3)
    assert found == [1, 1, 1] and library.get() == 4


def test_single_blas_of_several_threads_each_with_its_number(monkeypatch):
    library, barrier = Fake("thread", monkeypatch), threading.Barrier(2)

    def enter():
        with single_blas():
            barrier.wait(20)
            assert library.get() == 1
            barrier.wait(20)
        assert library.get() == 4

    at_once(enter, enter)


@pytest.mark.parametrize("scope", ["process", "thread"])
def test_single_blas_does_nothing_where_it_is(scope, monkeypatch):
    library = Fake(scope, monkeypatch)
    library.here.n = 1
    with single_blas():
        assert library.sets == []
    assert library.sets == [] and library.get() == 1


@pytest.mark.parametrize("moment", [1, 2, 3, 4])
def test_single_blas_makes_good_what_was_broken_off(moment, monkeypatch):
    """A Ctrl-C within setting or restoring: the end of the block, or the next, restores."""
    library = Fake("process", monkeypatch)
    change, calls = library.set, []

    def broken(n):
        calls.append(n)
        if len(calls) == (moment + 1) // 2:  # the first or second call, before or after its effect
            if moment % 2 == 0:
                change(n)
            raise KeyboardInterrupt
        change(n)

    found = {"process": [(library.get, broken)], "thread": []}
    monkeypatch.setattr(parallel, "_libraries", lambda: found)
    with pytest.raises(KeyboardInterrupt), single_blas():
        pass
    with single_blas():
        assert library.get() == 1
    assert library.get() == 4


@pytest.mark.parametrize("built_with", ["accelerate", "Accelerate"])
def test_blas_of_apple_cant_be_limited(built_with, monkeypatch):
    config = {"Build Dependencies": {"blas": {"name": built_with}}}
    monkeypatch.setattr(np, "show_config", lambda mode: config)
    assert not blas_can_be_limited()


def test_blas_that_isnt_found_cant_be_limited(monkeypatch):
    monkeypatch.setattr(parallel, "_libraries", lambda: {"process": [], "thread": []})
    assert blas_can_be_limited() is False
    with single_blas():
        run([lambda: None] * 2)


@pytest.mark.parametrize("n", ["1", "2"])
def test_blas_can_be_limited_whatever_the_environment_says(n):
    code = "import minicnn.parallel as p; print(p.blas_can_be_limited())"
    environment = runs.environment() | {"OPENBLAS_NUM_THREADS": n}
    with runs.process("-c", code, env=environment) as started:
        assert started.communicate(timeout=60) == (f"{blas_can_be_limited()}\n", "")


def test_libraries_by_their_scope(monkeypatch):
    """Which libraries have a number for each thread: read off what threadpoolctl says of them."""

    class Controller:
        def __init__(self, api, kind, layer=""):
            self.user_api, self.internal_api, self.threading_layer = api, kind, layer
            self.get_num_threads, self.set_num_threads = f"get {kind}", f"set {kind}"
            self.filepath = None  # PyDLL(None) is the program itself, which has no such functions

    class Found:
        lib_controllers = (
            Controller("openmp", "openmp"),
            Controller("blas", "openblas", "openmp"),
            Controller("blas", "mkl", "intel"),
            Controller("blas", "blis", "pthreads"),
            Controller("blas", "flexiblas"),
        )

    monkeypatch.setattr(threadpoolctl, "ThreadpoolController", Found)
    found = parallel._libraries.__wrapped__()
    assert found["thread"] == [("get openblas", "set openblas"), ("get mkl", "set mkl")]
    assert found["process"] == [("get blis", "set blis"), ("get flexiblas", "set flexiblas")]


@needs_blas
def test_openblas_is_set_directly(two_blas_threads):
    """Without the GIL changing hands, and by any thread."""
    if all(i["internal_api"] != "openblas" for i in threadpoolctl.threadpool_info()):
        pytest.skip("NumPy has another BLAS")
    (get, put), *_ = parallel._libraries()["process"]
    at_once(lambda: put(1))
    assert get() == 1
    at_once(lambda: put(2))
    assert get() == 2


def test_threadpoolctl_is_imported_late():
    code = "import sys, minicnn.parallel; print('threadpoolctl' in sys.modules)"
    with runs.process("-c", code) as started:
        assert started.communicate(timeout=60) == ("False\n", "")
    assert sys.modules["threadpoolctl"] is threadpoolctl
