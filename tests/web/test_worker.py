"""The thread for the model, and the queue before it."""

from __future__ import annotations

import gc
import threading
import time
import weakref

import pytest

from minicnn.web.worker import Busy, Worker


@pytest.fixture
def worker():
    worker = Worker(3)
    yield worker
    worker.close()
    assert not worker.thread.is_alive()


@pytest.fixture
def gate(worker):
    """Keeps the worker at work until it is set."""
    gate, begun = threading.Event(), threading.Event()
    worker.submit(lambda: (begun.set(), gate.wait(30)))
    assert begun.wait(30)
    yield gate
    gate.set()


def test_worker_does_jobs_in_order_in_one_thread(worker, gate):
    threads, order = set(), []
    futures = [
        worker.submit(lambda i=i: (threads.add(threading.get_ident()), order.append(i), i)[-1])
        for i in range(3)
    ]
    gate.set()
    assert [future.result(30) for future in futures] == order == [0, 1, 2]
    assert threads == {worker.thread.ident} and worker.done >= 3 and worker.seconds > 0


def test_worker_refuses_more_than_its_places(worker, gate):
    futures = [worker.submit(int) for _ in range(3)]
    assert worker.waiting == 3
    with pytest.raises(Busy):
        worker.submit(int)
    worker.withdraw(futures[1])
    assert futures[1].cancelled() and worker.waiting == 2
    again = worker.submit(lambda: "again")
    gate.set()
    assert again.result(30) == "again" and futures[2].result(30) == 0


def test_worker_does_not_do_what_was_withdrawn(worker, gate):
    done = []
    future = worker.submit(lambda: done.append(1))
    worker.withdraw(future)
    last = worker.submit(lambda: done.append(2))
    gate.set()
    last.result(30)
    assert done == [2]


def test_worker_goes_on_after_an_error(worker):
    with pytest.raises(ZeroDivisionError):
        worker.submit(lambda: 1 / 0).result(30)
    with pytest.raises(SystemExit):
        worker.submit(exit).result(30)
    assert worker.submit(lambda: 5).result(30) == 5


def test_worker_keeps_nothing_of_a_job(worker):
    class Picture:
        pass

    picture = Picture()
    kept = weakref.ref(picture)
    worker.submit(lambda picture=picture: picture).result(30)
    del picture
    end = time.monotonic() + 10
    while kept() is not None and time.monotonic() < end:  # the thread is about to put it away
        gc.collect()
        time.sleep(0.01)
    assert kept() is None


def test_close_finishes_what_waits_and_takes_no_more(worker, gate):
    futures = [worker.submit(lambda i=i: i) for i in range(3)]
    closing = threading.Thread(target=worker.close)
    closing.start()
    while not worker.closing:
        pass
    with pytest.raises(Busy):
        worker.submit(int)
    gate.set()
    closing.join(30)
    assert [future.result(0) for future in futures] == [0, 1, 2]
