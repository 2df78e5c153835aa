"""One thread for the model, and a short queue before it."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future
from time import perf_counter
from typing import Any


class Busy(Exception):
    """All places in the queue are taken, or nothing is taken any more."""


class Worker:
    """Does jobs in a thread of its own, one after the other; at most ``places`` wait.

    A model does one thing at a time anyway: more threads would wait inside it, unseen, each with a
    picture in memory.  What waits here is counted, and can be withdrawn.
    """

    def __init__(self, places: int) -> None:
        self.places = places
        self.jobs: deque[tuple[Future[Any], Callable[[], Any]]] = deque()
        self.changed = threading.Condition()
        self.closing = False
        self.done = 0
        self.seconds = 0.0  # at work
        self.thread = threading.Thread(target=self.work, name="minicnn model", daemon=True)
        self.thread.start()

    def submit(self, job: Callable[[], Any]) -> Future[Any]:
        """Put a job at the queue's end; return what will have its result.  Raises `Busy`."""
        future: Future[Any] = Future()
        with self.changed:
            if self.closing or len(self.jobs) >= self.places:
                raise Busy
            self.jobs.append((future, job))
            self.changed.notify()
        return future

    def withdraw(self, future: Future[Any]) -> None:
        """Take a job out of the queue: nobody wants its result.  One that is at work goes on."""
        with self.changed:
            future.cancel()
            kept = [entry for entry in self.jobs if entry[0] is not future]
            self.jobs.clear()
            self.jobs.extend(kept)

    @property
    def waiting(self) -> int:
        """How many jobs wait."""
        return len(self.jobs)

    def work(self) -> None:
        """Do what comes in, until `close` was called and nothing waits: the thread's life."""
        while True:
            with self.changed:
                self.changed.wait_for(lambda: self.jobs or self.closing)
                if not self.jobs:
                    return
                future, job = self.jobs.popleft()
                if not future.set_running_or_notify_cancel():
                    continue
            start = perf_counter()
            result, failed = None, None
            try:
                result = job()
            except BaseException as error:
                failed = error
            self.done += 1
            self.seconds += perf_counter() - start
            if failed is None:
                future.set_result(result)
            else:
                future.set_exception(failed)
            del future, job, result, failed  # a picture isn't kept until the next one comes

    def close(self) -> None:
        """Take no more jobs, finish those that wait, and end the thread."""
        with self.changed:
            self.closing = True
            self.changed.notify()
        self.thread.join()
