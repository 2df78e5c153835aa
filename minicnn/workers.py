"""Processes on the CPU: workers that share memory, for when threads are in each other's way.

Threads of Python take turns at its interpreter.  A slice of a batch needs it for a microsecond
between two array functions of thirty; but who finds it taken sleeps, and is woken late.  Processes
have an interpreter each.  A `Crew` is forked when all is written down, so that its workers know
what "stage 7" means without being sent anything, and what one writes and another reads lies in
`SharedMemory`.

A worker calls array functions and nothing else: it opens no file, starts no thread, and ends with
the connection to its parent, however that ended.
"""

from __future__ import annotations

import gc
import os
import pickle
import signal
import sys
import traceback
import warnings
import weakref
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from functools import partial
from mmap import mmap
from operator import call
from time import perf_counter
from typing import TYPE_CHECKING, Any, NoReturn

import numpy as np

from .pages import letting_go
from .parallel import cores, single_blas

if TYPE_CHECKING:
    from multiprocessing.connection import Connection

VARIABLE = "MINICNN_PROCESSES"
ARENA = 1 << 20  # bytes that are mapped at once for small arrays
LINE = 64  # bytes of a cache line: arrays begin with one
MOST = 16  # crews at a time: of many models in one program, the later ones do without
READY = 10.0  # seconds in which a new worker must say that it's there
PATIENT = 5e-4  # seconds to look out for a message before going to sleep: who sleeps wakes late
_asked: ContextVar[bool | None] = ContextVar("minicnn_processes", default=None)


def processes_allowed() -> bool:
    """Return whether slices may run in processes of their own.

    That is what the innermost `processes` says, else the environment variable MINICNN_PROCESSES (0
    or 1), else yes.  Without fork (Windows), where fork isn't safe (macOS), and in a Python without
    the lock that they are to get round, it's no.
    """
    asked, text = _asked.get(), os.environ.get(VARIABLE, "1")
    if asked is None and text not in ("0", "1"):
        raise ValueError(
            f"the environment variable {VARIABLE} is {text!r}: expected 1 (slices of a batch may "
            "run in processes of their own, as without it) or 0 (in threads only)"
        )
    lock = getattr(sys, "_is_gil_enabled", lambda: True)()
    return lock and sys.platform == "linux" and (text == "1" if asked is None else asked)


@contextmanager
def processes(allowed: bool) -> Iterator[None]:
    """Let slices run in processes within the block, or don't: ``with mc.processes(False): ...``.

    The results are the same to the last bit.  It holds for the calling thread.  Raises ValueError
    for anything but True and False.
    """
    if not isinstance(allowed, bool):
        raise ValueError(f"processes {allowed!r}: expected True or False")
    token = _asked.set(allowed)
    try:
        yield
    finally:
        _asked.reset(token)


class SharedMemory:
    """Gives out memory that this process and those forked from it later have in common."""

    def __init__(self) -> None:
        self.arena, self.used = mapped(ARENA), 0

    def __call__(self, size: int) -> np.ndarray:
        """Return ``size`` bytes, zero, beginning with a cache line."""
        if size > ARENA // 4:
            return np.frombuffer(mapped(size), np.uint8, size)
        if self.used + size > ARENA:
            self.arena, self.used = mapped(ARENA), 0
        start, self.used = self.used, self.used + max(1, -(-size // LINE)) * LINE
        return np.frombuffer(self.arena, np.uint8, max(size, 1), start)


def mapped(size: int) -> mmap:
    """Return new memory that children will share."""
    try:
        return mmap(-1, size)
    except OSError as error:
        why = error.strerror or error
        raise MemoryError(
            f"Unable to allocate {size / 2**20:,.1f} MiB of shared memory: {why}"
        ) from None


class Bells:
    """Counters in shared memory, rung when a message was sent; each on a cache line of its own.

    They are no more than hints: the message itself is waited for at its line.
    """

    def __init__(self, count: int) -> None:
        self.counters = memoryview(mapped(count * LINE)).cast("q")
        self.heard = [0] * count
        self.patience = PATIENT if count <= cores() else 0.0  # others need the core

    def ring(self, k: int) -> None:
        """Ring bell k, which one process does."""
        self.counters[k * LINE // 8] += 1

    def listen(self, k: int) -> None:
        """Return when bell k has been rung once more, or after a while."""
        self.heard[k] += 1
        end = perf_counter() + self.patience
        while self.counters[k * LINE // 8] < self.heard[k] and perf_counter() < end:
            pass


class Crew:
    """Worker processes, forked now; the first is number 1, for 0 is this process.

    do(k, command): what worker k does when it is told a command, which is pickled.  It sees all
    that there is now, and of what comes later what lies in shared memory.

    spare: arrays that they don't need.  Otherwise they would keep what was in them when they were
    forked, as soon as it is overwritten here.

    Raises OSError where there can be no processes, or are enough.
    """

    close: weakref.finalize[..., Any]

    def __init__(
        self, count: int, do: Callable[[int, Any], None], spare: Sequence[np.ndarray] = ()
    ) -> None:
        from multiprocessing.connection import Pipe  # not at import time: it takes milliseconds

        if sum(crew.close.alive for crew in list(crews)) >= MOST:
            raise OSError(f"there are {MOST} crews of worker processes already")
        self.lines: list[Connection] = []
        self.bells = Bells(count + 1)
        pids: list[int] = []
        let_go = letting_go(spare)
        self.close = weakref.finalize(self, dismiss, os.getpid(), self.lines, pids)
        crews.add(self)
        try:
            for number in range(1, count + 1):
                mine, theirs = Pipe()
                self.lines.append(mine)
                with theirs, single_blas():
                    fork(partial(serve, theirs, self.bells, number, do, let_go), pids)
            for line in self.lines:
                if not line.poll(READY):  # it took over a lock that nobody there will release
                    for pid in pids:  # the others may have done so, too
                        os.kill(pid, signal.SIGKILL)
                    raise OSError(f"a worker process didn't start within {READY:g} seconds")
                line.recv_bytes()
        except BaseException as error:
            self.close()
            if isinstance(error, EOFError):
                raise OSError("a worker process ended before it began") from None
            raise

    def run(self, command: Any, mine: Callable[[], None]) -> None:
        """Have all workers do a command, and do ``mine`` here; return when all are done.

        Then the first error of a worker is raised, if there was one.  If something goes wrong here,
        such as a Ctrl-C, the crew is dismissed: then nobody is at work any more.
        """
        message = pickle.dumps(command)
        try:
            for line in self.lines:
                line.send_bytes(message)
            self.bells.ring(0)
            mine()
            answers = []
            for number, line in enumerate(self.lines, 1):
                self.bells.listen(number)
                answers.append(pickle.loads(line.recv_bytes()))
        except BaseException as error:
            if not self.close.alive:  # the program ends, and with it this daemon thread
                raise SystemExit from None
            self.close()
            if isinstance(error, EOFError | ConnectionError):
                raise RuntimeError(
                    "a worker process was ended from outside in the middle of a step, perhaps for "
                    f"want of memory. The next step starts others; {VARIABLE}=0 does without"
                ) from error
            raise
        for _, caught in answers:
            for message, category, file, line_number in caught:
                warnings.warn_explicit(message, category, file, line_number, registry=_warned)
        failed = [error for error, _ in answers if error is not None]
        if failed:
            raise failed[0]


crews: weakref.WeakSet[Crew] = weakref.WeakSet()
_warned: dict[Any, Any] = {}


def fork(child: Callable[[], NoReturn], pids: list[int]) -> None:
    """Start a process that does ``child``; append its number to ``pids``.

    No signal reaches it: Ctrl-C and SIGTERM often go to all processes of a program, and what
    they mean the parent decides, perhaps to finish a step first.
    """
    before = signal.pthread_sigmask(signal.SIG_BLOCK, [])
    try:
        signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
        with warnings.catch_warnings():
            # Other threads may hold locks now which the child would wait for.  It wants none of
            # Python's, and says that it's there before anyone relies on it.
            warnings.simplefilter("ignore", DeprecationWarning)
            pids.extend(map(call, [os.fork]))  # in one call: a Ctrl-C between would lose the number
        if pids[-1] == 0:
            child()
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def serve(
    line: Connection,
    bells: Bells,
    number: int,
    do: Callable[[int, Any], None],
    let_go: Callable[[], None],
) -> NoReturn:
    """Do what comes in, until the line is closed: a worker's life."""
    try:
        gc.disable()  # what the parent has left behind isn't this process' to finish
        sys.settrace(None)  # a debugger's prompt, too, is the parent's
        let_go()
        for opened in map(int, os.listdir("/proc/self/fd")):
            if opened > 2 and opened != line.fileno():
                with suppress(OSError):  # the listing's own, which is closed already
                    os.close(opened)  # among them other workers' lines, which would never end
        np.matmul(np.ones((64, 64)), np.ones((64, 64)))
        line.send_bytes(b"ready")
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            while True:
                bells.listen(0)
                error = attempt(do, number, pickle.loads(line.recv_bytes()))
                found = [(w.message, w.category, w.filename, w.lineno) for w in caught]
                line.send_bytes(pickle.dumps((error, found)))
                bells.ring(number)
                caught.clear()
    except BaseException as error:
        if not isinstance(error, EOFError | ConnectionError):
            traceback.print_exc()
    finally:
        os._exit(0)


def attempt(do: Callable[[int, Any], None], number: int, command: Any) -> BaseException | None:
    """Do it; return the error, if there was one, as it can be sent."""
    try:
        do(number, command)
        return None
    except BaseException as error:
        note = "In a worker process:\n" + traceback.format_exc()
        error.__traceback__ = error.__cause__ = error.__context__ = None
        try:
            pickle.loads(pickle.dumps(error))
        except Exception:
            error = RuntimeError(f"{type(error).__name__}: {error}")
        error.add_note(note)
        return error


def dismiss(owner: int, lines: Sequence[Connection], pids: list[int]) -> None:
    """Close the lines and wait until the workers have ended, as they do after their last stage.

    A Ctrl-C is raised when they have; it has them end at once, for they have nothing to lose.
    """
    interruption = None
    while True:
        try:
            for line in lines:
                line.close()
            while pids and os.getpid() == owner:
                with suppress(ChildProcessError):  # somebody else has waited for it
                    if interruption is not None and os.waitpid(pids[-1], os.WNOHANG) == (0, 0):
                        os.kill(pids[-1], signal.SIGKILL)
                    os.waitpid(pids[-1], 0)
                pids.pop()
            break
        except BaseException as error:
            interruption = error
    if interruption is not None:
        raise interruption


def _forked() -> None:
    """In a child process, close the lines: the workers aren't its own, and must see their end."""
    for crew in list(crews):
        for line in crew.lines:
            line.close()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forked)
