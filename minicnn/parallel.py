"""Threads on the CPU: how many, a pool that runs jobs at once, and BLAS kept to one of them.

A step is cut into slices, and each is a job for `run`.  These share the cores already, so BLAS must
not start threads of its own in them: `single_blas` sees to that.
"""

from __future__ import annotations

import ctypes
import os
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from contextvars import ContextVar, copy_context
from functools import cache
from itertools import accumulate, product
from pathlib import Path
from queue import SimpleQueue
from typing import Any, TypeAlias

import numpy as np

MOST = 8  # threads, unless more are asked for: beyond it, the GIL takes what they bring
VARIABLE = "MINICNN_NUM_THREADS"
_asked: ContextVar[int | None] = ContextVar("minicnn_threads", default=None)


@cache
def cores() -> int:
    """Return how many cores this process may use: its affinity, within its container's quota."""
    affinity = getattr(os, "sched_getaffinity", None)  # Linux has it, macOS and Windows don't
    found = len(affinity(0)) if affinity is not None else os.cpu_count() or 1
    return max(1, int(min([found, *_quotas(Path("/proc/self/cgroup"), Path("/sys/fs/cgroup"))])))


def _quotas(membership: Path, root: Path) -> list[float]:
    """Return the limits, in cores, that this process' control groups and those above them set.

    membership: lines "number:controllers:path"; version 2 names no controllers.  A container may
    see the host's path there, of which only the last on the way up, ``root``, exists inside.
    """
    found: list[float] = []
    for line in membership.read_text().splitlines() if membership.is_file() else []:
        controllers, _, path = line.partition(":")[2].partition(":")
        if controllers and "cpu" not in controllers.split(","):
            continue
        names = ["cpu.cfs_quota_us", "cpu.cfs_period_us"] if controllers else ["cpu.max"]
        parts = [part for part in path.split("/") if part not in ("", "..")]
        top = root / "cpu" if controllers else root
        for folder in accumulate(parts, Path.joinpath, initial=top):
            with suppress(OSError, ValueError):  # no such file, or "max 100000": no limit
                text = " ".join((folder / name).read_text() for name in names)
                quota, period = map(int, text.split())
                if quota > 0 and period > 0:  # -1 is no limit either
                    found.append(quota / period)
    return found


def thread_count() -> int:
    """Return how many threads to use now.

    That is what the innermost `threads` says, else the environment variable MINICNN_NUM_THREADS,
    else the number of `cores`, at most 8.
    """
    asked = _asked.get()
    if asked is not None:
        return asked
    text = os.environ.get(VARIABLE)
    if text is None:
        return min(cores(), MOST)
    with suppress(ValueError):
        if (n := int(text)) >= 1:
            return n
    raise ValueError(
        f"the environment variable {VARIABLE} is {text!r}: expected an integer >= 1; "
        f"without it, there are as many threads as cores, at most {MOST}"
    )


@contextmanager
def threads(n: int) -> Iterator[None]:
    """Use n threads within the block: ``with mc.threads(2): ...``.  Blocks nest.

    It holds for the calling thread, and for the jobs of `run` that it starts.
    """
    if isinstance(n, bool) or not isinstance(n, int | np.integer) or n < 1:
        raise ValueError(f"threads {n!r}: expected an integer >= 1")
    token = _asked.set(int(n))
    try:
        yield
    finally:
        _asked.reset(token)


# The pool.  Each worker waits at a queue of its own, which lies in _idle while it has no job.  What
# a hand-off takes is the system's waking of a sleeping thread: locks or pipes are no faster.

_Errors: TypeAlias = dict[int, BaseException]  # by the place of the job
_Inbox: TypeAlias = "SimpleQueue[_Job]"
_idle: list[_Inbox] = []


class _Job:
    """A job of a call, with its place in it, on its way to a worker and back.

    It runs in a copy of the caller's context: ``np.errstate`` and `threads` hold in every thread.
    """

    def __init__(self, work: Callable[[], object], place: int, errors: _Errors) -> None:
        self.work, self.place, self.errors = work, place, errors
        self.context = copy_context()
        self.over, self.end = False, threading.Lock()
        self.end.acquire()

    def do(self) -> None:
        try:
            self.context.run(self.work)
        except BaseException as error:
            self.errors[self.place] = error

    def wait(self) -> None:
        """Return when the job is over.  If a Ctrl-C breaks it off, this can be called again."""
        while not self.over:
            self.end.acquire()


def run(jobs: Sequence[Callable[[], object]]) -> None:
    """Run all jobs at once, the first in this thread; return when all are over.

    Then the first of them that failed has its error raised.  A Ctrl-C, too, is raised only when no
    job is at work any more: they write to buffers that others will use.  A `run` within a job runs
    its jobs there, one after the other.
    """
    if len(jobs) < 2 or _here.working:
        for job in jobs:
            job()
        return
    errors: _Errors = {}
    inboxes, given = list[_Inbox](), list[None]()  # given: as long as the jobs handed over
    first, *others = [_Job(job, place, errors) for place, job in enumerate(jobs)]
    try:
        _here.working = True
        inboxes.extend(_free_inbox() for _ in others)
        # One call into C: no Ctrl-C comes between handing over and taking note of it.
        given.extend(map(SimpleQueue.put, inboxes, others))
        first.do()
    except BaseException as error:
        errors[-1] = error
    while True:
        try:
            for other, _ in zip(others, given, strict=False):
                other.wait()
            break
        except BaseException as error:
            errors[-1] = error
    _here.working = False
    _idle.extend(inboxes[len(given) :])
    try:
        if errors:
            raise errors[min(errors)]
    finally:
        errors.clear()  # they hold on to this frame, which must not hold on to them


def _free_inbox() -> _Inbox:
    """Return the queue of a worker that has no job, of a new one if all have."""
    try:
        return _idle.pop()
    except IndexError:
        _libraries()  # what could fail in the new worker fails here instead
    inbox: _Inbox = SimpleQueue()
    threading.Thread(target=_serve, args=(inbox,), name="minicnn worker", daemon=True).start()
    return inbox


def _serve(inbox: _Inbox) -> None:
    """Do what comes in, until the program ends: a worker's life."""
    _here.working = True
    _here.limit.enter(inbox)  # for good: a job is one of several, whoever gives it
    while True:
        job = inbox.get()
        job.do()
        _idle.append(inbox)  # before anyone can miss it
        job.over = True
        job.end.release()
        del job  # and the arrays that it holds on to


# BLAS.  Of a library, there is what tells its number of threads and what sets it.

_Library: TypeAlias = tuple[Callable[[], int], Callable[[int], object]]


class _Limit:
    """Keeps libraries to one thread, from the first entry to the last leave.

    scope: "process" for libraries with one number of threads for all, "thread" for those with a
    number for each calling thread.  What a Ctrl-C breaks off, calling `leave` again makes good.
    """

    def __init__(self, scope: str) -> None:
        self.scope, self.lock = scope, threading.RLock()
        self.inside: dict[object, int] = {}  # entries, with their threads
        self.before: list[tuple[Callable[[int], object], int]] = []  # what to restore

    def enter(self, entry: object) -> None:
        with self.lock:
            self.inside[entry] = threading.get_ident()
            if len(self.inside) == 1:
                many = [(put, n) for get, put in _libraries()[self.scope] if (n := get()) > 1]
                self.before += many
                for put, _ in many:
                    put(1)

    def leave(self, entry: object) -> None:
        with self.lock:
            self.inside.pop(entry, None)
            while self.before and not self.inside:
                put, n = self.before[-1]
                put(n)
                self.before.pop()

    def forked(self) -> None:
        """In a child process, leave for the threads that it doesn't have: all but this one."""
        self.lock = threading.RLock()
        here = threading.get_ident()
        self.inside = {entry: thread for entry, thread in self.inside.items() if thread == here}
        self.leave(None)


class _Here(threading.local):
    def __init__(self) -> None:  # in each thread
        self.working = False  # on a job of a `run`
        self.limit = _Limit("thread")


_here, _everywhere = _Here(), _Limit("process")


@contextmanager
def single_blas() -> Iterator[None]:
    """Let BLAS use one thread within the block, here and in the jobs of `run`.

    A BLAS with one number of threads for the process, as NumPy's own OpenBLAS, uses one in all of
    it until the last thread leaves such a block.  Libraries loaded after a first use aren't known.
    """
    entry, limits = object(), (_everywhere, _here.limit)
    try:
        for limit in limits:
            limit.enter(entry)
        yield
    finally:
        try:
            for limit in limits:
                limit.leave(entry)
        finally:  # again, in case that a Ctrl-C came there
            for limit in limits:
                limit.leave(entry)


def blas_can_be_limited() -> bool:
    """Return whether `single_blas` works on NumPy's BLAS: OpenBLAS, MKL, BLIS; not Accelerate."""
    built_with: Any = np.show_config(mode="dicts")
    name = built_with.get("Build Dependencies", {}).get("blas", {}).get("name", "")
    return "accelerate" not in name.lower() and any(_libraries().values())


@cache
def _libraries() -> dict[str, list[_Library]]:
    """Find the BLAS libraries of this process, by the scope of their number of threads."""
    from threadpoolctl import ThreadpoolController  # not at import time: it takes milliseconds

    found: dict[str, list[_Library]] = {"process": [], "thread": []}
    for controller in ThreadpoolController().lib_controllers:
        if controller.user_api == "blas":
            kind, layer = controller.internal_api, getattr(controller, "threading_layer", "")
            per_thread = kind == "mkl" or (kind == "openblas" and layer == "openmp")
            found["thread" if per_thread else "process"].append(_library(controller))
    return found


def _library(controller: Any) -> _Library:
    """Return a library's functions: OpenBLAS' own, threadpoolctl's for the others.

    threadpoolctl 3.8 lets one thread set OpenBLAS' number and ignores the rest without a word; and
    it gives up the GIL for the call, which can take 5 ms to get back.  PyDLL keeps it.
    """
    if controller.internal_api == "openblas" and controller.threading_layer != "openmp":
        library = ctypes.PyDLL(controller.filepath)
        for prefix, suffix in product(("", "scipy_"), ("", "64_", "_64")):
            names = [f"{prefix}openblas_{verb}_num_threads{suffix}" for verb in ("get", "set")]
            if all(hasattr(library, name) for name in names):
                return getattr(library, names[0]), getattr(library, names[1])
    return controller.get_num_threads, controller.set_num_threads


if hasattr(os, "register_at_fork"):  # a child process has one thread and none of the workers
    os.register_at_fork(after_in_child=_idle.clear)
    os.register_at_fork(after_in_child=_everywhere.forked)
