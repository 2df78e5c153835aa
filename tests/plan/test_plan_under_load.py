"""Plans in many threads, for batches of many sizes, and for long."""

from __future__ import annotations

import gc
import os
import threading
import time

import numpy as np
from worker_helpers import at_once

import minicnn as mc
from minicnn import plan
from minicnn.kernels.cpu import team as team_module

from .nets import (
    N,
    batch,
    build,
    by_layers,
    by_plan,
    check,
    copy_numbers,
    poison,
    slices_of,
    upstream,
)
from .test_plan import NETS, kept, labels_of, model_of, needs_slices

# Threads of the user's.


def trained(model, steps=8, n=40):
    optimizer = mc.Adam(0.01)
    for step in range(steps):
        x = batch(model, n - step % 3, seed=step)
        mc.train_step(model, optimizer, x, labels_of(x))
    return model


def test_two_models_trained_in_two_threads_at_once():
    wanted = trained(model_of()), trained(model_of(NETS["residual"]()))
    found = model_of(), model_of(NETS["residual"]())
    at_once(*(lambda model=model: trained(model) for model in found))
    for model, other in zip(found, wanted, strict=True):
        np.testing.assert_array_equal(model.params.data, other.params.data)
        for name, array in model.state.items():
            np.testing.assert_array_equal(array, other.state[name])


def test_one_model_trained_in_two_threads_takes_one_step_after_the_other():
    class Slow(mc.SGD):
        def step(self, params):
            time.sleep(0.02)  # in which the other thread would begin
            super().step(params)

    def train(model, optimizer, steps):
        for _ in range(steps):
            mc.train_step(model, optimizer, x, labels_of(x))

    found, wanted = model_of(NETS["residual"]()), model_of(NETS["residual"]())
    x, optimizer = batch(found, N), Slow(0.01)
    at_once(*(lambda: train(found, optimizer, 3) for _ in range(2)))
    train(wanted, mc.SGD(0.01), 6)
    np.testing.assert_array_equal(found.params.data, wanted.params.data)


def test_one_model_predicts_in_several_threads_at_once():
    """As behind a web page."""
    model = model_of(dtype="float32")
    xs = [batch(model, 24, seed) for seed in range(4)]
    wanted = [model.infer(x) for x in xs]

    def ask(x, y):
        for _ in range(20):
            np.testing.assert_allclose(plan.infer(model, x), y, rtol=1e-4, atol=1e-5)

    at_once(*(lambda x=x, y=y: ask(x, y) for x, y in zip(xs, wanted, strict=True)))


def test_one_model_predicts_while_it_is_trained():
    wanted, model, over = trained(model_of()), model_of(), threading.Event()

    def ask():
        while not over.is_set():
            assert np.isfinite(mc.predict(model, batch(model, 40))).all()

    def train():
        try:
            trained(model)
        finally:
            over.set()

    at_once(ask, train)
    np.testing.assert_array_equal(model.params.data, wanted.params.data)


def test_step_in_another_thread_than_the_one_before():
    model, truth = model_of(), model_of()
    for step in range(4):
        x, dy = batch(model, N, step), upstream(model, N)
        at_once(lambda x=x, dy=dy: by_plan(model, x, dy))
        by_layers(truth, x, dy)
    check({"w": model.params.grad}, {"w": truth.params.grad}, 1e-10)


# For long.


@needs_slices
def test_many_small_batches_of_changing_size_on_many_threads(monkeypatch):
    """Equal to one thread's but for rounding; and, for a number of threads, bit for bit."""
    monkeypatch.setattr(team_module, "LEAST", 1)
    start, model = model_of(dtype="float32"), model_of(dtype="float32")
    rng, seen, alone = np.random.default_rng(4), {}, {}
    sizes, counts = rng.integers(1, 41, 150), rng.integers(1, 9, 150)
    twice = rng.permutation(np.repeat(np.arange(150), 2))
    for k in twice:
        n, threads = int(sizes[k]), int(counts[k])
        x, dy = batch(model, n, seed=n), upstream(model, n)
        if n not in alone:
            copy_numbers(start, model)
            with mc.threads(1):
                alone[n] = by_plan(model, x, dy)
        copy_numbers(start, model)
        with mc.threads(threads):
            assert slices_of(model, x) == min(n, threads)
            found = by_plan(model, x, dy)
        check(found, alone[n], 1e-5)
        bits = {name: array.tobytes() for name, array in found.items()}
        assert seen.setdefault((n, threads), bits) == bits


def resident():
    """Return the bytes of this process that lie in memory, if the system tells."""
    try:
        with open("/proc/self/statm") as file:
            return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except OSError:
        return 0


def arrays_there():
    gc.collect()
    found = gc.get_objects()  # by type: an odd object of PyTorch's warns when it is asked its class
    return sum(issubclass(type(item), np.ndarray) for item in found), len(found)


def test_nothing_leaks_over_a_thousand_steps():
    layers = [
        mc.Conv2D(4, 3), mc.BatchNorm(), mc.ReLU(), mc.Dropout(0.3), mc.GELU(), mc.Flatten(),
        mc.Dense(3),
    ]  # fmt: skip
    model = build(layers, (5, 5, 2), "float32")
    optimizer, x = mc.Adam(1e-4), batch(model, 32)
    y = labels_of(x)

    def step(k):
        n = (32, 32, 32, 20)[k % 4]  # a last batch now and then
        mc.train_step(model, optimizer, x[:n], y[:n])
        if k % 10 == 0:
            mc.evaluate(model, x, y, 24)

    with mc.threads(2):
        for k in range(100):
            step(k)
        objects, memory = arrays_there(), resident()
        for k in range(1000):
            step(k)
        assert resident() - memory < 4 << 20
        after = arrays_there()
    assert after[0] - objects[0] < 10 and after[1] - objects[1] < 200


def test_nothing_piles_up_where_every_batch_has_another_size():
    model = build(NETS["residual"](), (12, 12, 3), "float32")
    optimizer, x = mc.SGD(1e-3), batch(model, 128)
    y = labels_of(x)

    def epoch():
        for n in range(60, 129, 3):
            mc.train_step(model, optimizer, x[:n], y[:n])

    gc.disable()
    try:
        epoch()
        memory = resident()
        for _ in range(4):
            epoch()
        largest = max(each.nbytes for each in kept(model))
        assert resident() - memory < 2 * largest + (8 << 20)
    finally:
        gc.enable()


def test_step_reads_nothing_that_others_have_left():
    """Plans of a model share memory: what one leaves there must not matter to another."""
    model, truth = model_of(), model_of()
    with np.errstate(all="ignore"):
        for n in (N, 6, N, 3):
            x, dy = batch(model, n), upstream(model, n)
            poison(model, x, training=True)
            poison(model, x, training=False)
            check(by_plan(model, x, dy), by_layers(truth, x, dy), 1e-10)
            poison(model, x, training=True)
            check({"y": plan.infer(model, x)}, {"y": truth.infer(x)}, 1e-10)
