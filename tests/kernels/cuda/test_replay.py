"""Launches recorded once and replayed read their step from the device: each draws anew."""

from __future__ import annotations

import numpy as np

from minicnn.kernels.cuda import batch, dropout, loss, norm
from minicnn.kernels.cuda.batch import Changes


def test_replayed_launches_follow_the_clock(cupy, floor32, rng):
    pictures = rng.integers(0, 256, (20, 6, 6, 4), dtype="uint8")
    s, order, ids = floor32.s, rng.permutation(20), rng.integers(0, 4, 20)
    on_gpu, on_order, on_ids = (cupy.asarray(each) for each in (pictures, order, ids))
    where, clock = (cupy.asarray(np.zeros(1, "int64")) for _ in range(2))
    x, y = s.new((5, 6, 6, 4), "uint8"), s.new((5,), "int64")
    numbers, dropped, sums = s.new(x.shape), s.new(x.shape), s.new((4,))
    into = cupy.asarray(np.zeros(1)), cupy.asarray(np.zeros(1, "int64"))
    mean, std = floor32.acc(np.zeros(4)), floor32.acc(np.ones(4))
    mse, logits = s.new(()), floor32.real(rng.standard_normal((5, 4)))
    changes = Changes(flip=True, crop=2, cutout=2)

    def step():
        batch.gather(s, on_gpu, on_ids, on_order, where, x, y, changes, seed=1, step=clock)
        norm.normalize_forward(s, x, mean, std, 1 / 255, numbers)
        dropout.dropout_forward(s, numbers, 0.5, 2, 0, clock, dropped)
        norm.channel_sum(s, dropped, sums)
        loss.cross_entropy(s, logits, y, 0.0, None, mse, None, counters=into)

    def state():
        return [each.get() for each in (x, y, dropped, sums, mse, *into)]

    stream = cupy.cuda.Stream(non_blocking=True)
    pool = cupy.cuda.MemoryPool()
    eager, replayed = [], []
    with stream, cupy.cuda.using_allocator(pool.malloc):
        for number in range(3):
            where.fill(5 * number)
            clock.fill(number)
            step()
            stream.synchronize()
            eager.append(state())
        for each in into:
            each.fill(0)
        stream.begin_capture()
        step()
        graph = stream.end_capture()
        for number in range(3):
            where.fill(5 * number)
            clock.fill(number)
            graph.launch(stream)
            stream.synchronize()
            replayed.append(state())
    for one, other in zip(eager, replayed, strict=True):
        for a, b in zip(one, other, strict=True):
            np.testing.assert_array_equal(a, b)
    assert (eager[0][0] != eager[1][0]).any()
    np.testing.assert_array_equal(np.concatenate([each[1] for each in eager]), ids[order[:15]])
