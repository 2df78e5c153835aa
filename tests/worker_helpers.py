"""Threads that a test starts, and processes: which there are, and whether they end."""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

import pytest

linux = pytest.mark.skipif(sys.platform != "linux", reason="workers are forked on Linux only")


def status(pid: int) -> tuple[str, int] | None:
    """Return a process' state (Z: a zombie) and its parent, None if there is no such process."""
    try:
        with open(f"/proc/{pid}/stat") as file:
            state, parent, *_ = file.read().rpartition(")")[2].split()
    except OSError:
        return None
    return state, int(parent)


def children() -> set[int]:
    """Return the processes that are this one's, zombies included.

    Python's resource tracker isn't counted: a pool of processes leaves it behind for good.
    """
    pids = [int(name) for name in os.listdir("/proc") if name.isdigit()]
    mine = {pid for pid in pids if (found := status(pid)) and found[1] == os.getpid()}
    return {pid for pid in mine if not tracks_resources(pid)}


def tracks_resources(pid: int) -> bool:
    """Whether a process is the resource tracker of `multiprocessing`."""
    try:
        with open(f"/proc/{pid}/cmdline") as file:
            return "multiprocessing.resource_tracker" in file.read()
    except OSError:
        return False


def ended(pid: int) -> bool:
    """Whether a process does nothing any more; perhaps nobody has taken note of it."""
    found = status(pid)
    return found is None or found[0] == "Z"


def open_files(pid: int) -> list[str]:
    """Return what a process' file descriptors are."""
    where, found = f"/proc/{pid}/fd", []
    for number in os.listdir(where):
        with suppress(FileNotFoundError):  # what lists them is one of them
            found.append(os.readlink(f"{where}/{number}"))
    return found


def wait_until(condition: Callable[[], bool], seconds: float = 20) -> None:
    """Return when something has come true."""
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it never came true"
        time.sleep(0.005)


@contextmanager
def alarm(seconds: float, every: float = 0) -> Iterator[None]:
    """Press Ctrl-C in the block, so many seconds from now, and then again and again."""
    before = signal.signal(signal.SIGALRM, signal.default_int_handler)
    signal.setitimer(signal.ITIMER_REAL, seconds, every)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def at_once(*works: Callable[[], object]) -> None:
    """Run functions each in a thread of its own, and raise the first error."""
    errors = []

    def guarded(work: Callable[[], object]) -> None:
        try:
            work()
        except BaseException as error:
            errors.append(error)

    started = [threading.Thread(target=guarded, args=(work,), daemon=True) for work in works]
    for thread in started:
        thread.start()
    for thread in started:
        thread.join(60)
        assert not thread.is_alive(), "hangs"
    if errors:
        raise errors[0]
