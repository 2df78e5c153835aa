from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest

import minicnn as mc
from minicnn import schedule


def values(lr, steps):
    return [lr(step) for step in range(steps)]


def rising(numbers):
    return all(a < b for a, b in pairwise(numbers))


def falling(numbers):
    return all(a > b for a, b in pairwise(numbers))


def test_constant():
    assert values(schedule.constant(0.3), 3) == [0.3] * 3


def test_step_decay_falls_at_the_right_steps():
    lr = schedule.step_decay(0.8, every=3, factor=0.5)
    assert values(lr, 7) == pytest.approx([0.8, 0.8, 0.8, 0.4, 0.4, 0.4, 0.2])
    assert schedule.step_decay(1.0, every=2)(4) == pytest.approx(0.01)


def test_exponential_falls_smoothly():
    lr = schedule.exponential(0.8, every=4, factor=0.25)
    assert [lr(0), lr(2), lr(4), lr(8)] == pytest.approx([0.8, 0.4, 0.2, 0.05])
    assert falling(values(lr, 9))


def test_milestones_fall_where_they_are():
    lr = schedule.milestones(0.1, at=[4, 6])
    assert values(lr, 8) == pytest.approx([0.1] * 4 + [0.01] * 2 + [0.001] * 2)
    for at in ([], [6, 4], [4, 4], [0, 3]):
        with pytest.raises(ValueError, match="at"):
            schedule.milestones(0.1, at)


def test_triangle_is_airbenchs():
    """As NumPy's interpolation draws it there."""
    lr = schedule.triangle(1.5, steps=476)
    points = np.interp(np.arange(477), [0, int(0.23 * 476), 476], [0.2, 1.0, 0.07])
    np.testing.assert_allclose(values(lr, 477), 1.5 * points, rtol=1e-12)
    assert lr(500) == pytest.approx(1.5 * 0.07)
    assert schedule.triangle(1.0, steps=2)(0) == 1.0  # no step before the top


def test_cosine_corners():
    lr = schedule.cosine(0.1, steps=110, warmup=10, final=0.02)
    assert lr(0) == pytest.approx(0.01) and lr(9) == lr(10) == pytest.approx(0.1)
    assert lr(60) == pytest.approx(0.06)  # half way
    assert lr(35) == pytest.approx(0.02 + 0.08 * (1 + 2**-0.5) / 2)  # a quarter
    assert lr(110) == lr(10_000) == pytest.approx(0.02)
    assert rising(values(lr, 10)) and falling([lr(step) for step in range(10, 111)])


def test_cosine_without_warmup_begins_at_the_top():
    lr = schedule.cosine(0.1, steps=10)
    assert lr(0) == 0.1 and lr(5) == pytest.approx(0.05) and lr(10) == pytest.approx(0, abs=1e-12)


def test_cosine_of_the_docstring():
    lr = schedule.cosine(0.1, steps=3900, warmup=390)
    assert [lr(0), lr(390)] == pytest.approx([0.1 / 390, 0.1])
    assert lr(3899) == pytest.approx(2e-8, rel=0.01)


def test_one_cycle_corners():
    lr = schedule.one_cycle(1.0, steps=101, rise=0.5, start=10, final=100)
    top = 0.5 * 101 - 1
    assert lr(0) == pytest.approx(0.1) and lr(100) == pytest.approx(0.1 / 100)
    assert max(values(lr, 101)) == pytest.approx(1.0, abs=1e-3)
    assert rising([lr(step) for step in range(int(top) + 1)])
    assert falling([lr(step) for step in range(int(top) + 1, 101)])
    assert lr(1000) == pytest.approx(0.001)


@pytest.mark.parametrize("steps", [10, 100, 333])
def test_one_cycle_is_that_of_pytorch(steps):
    torch = pytest.importorskip("torch", exc_type=ImportError)
    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], 1.0)
    theirs = torch.optim.lr_scheduler.OneCycleLR(optimizer, 0.5, total_steps=steps)
    lr = schedule.one_cycle(0.5, steps)
    for step in range(steps):
        assert lr(step) == pytest.approx(theirs.get_last_lr()[0], rel=1e-9)
        optimizer.step()
        if step < steps - 1:
            theirs.step()


@pytest.mark.parametrize("steps", [1, 2, 3])
def test_one_cycle_of_few_steps(steps):
    lr = schedule.one_cycle(1.0, steps, rise=0.3)
    assert all(0 < value <= 1.0 for value in values(lr, steps + 2))


@pytest.mark.parametrize(
    ("make", "text"),
    [
        (lambda: schedule.step_decay(0.1, every=0), "every 0: expected an integer >= 1"),
        (lambda: schedule.step_decay(0.1, every=3, factor=0), "factor 0"),
        (lambda: schedule.exponential(0.1, every=-1, factor=0.5), "every -1"),
        (lambda: schedule.cosine(0.1, steps=0), "steps 0"),
        (lambda: schedule.cosine(0.1, steps=10, warmup=10), r"0 <= warmup < steps \(10\)"),
        (lambda: schedule.cosine(0.1, steps=10, warmup=-1), "warmup -1"),
        (lambda: schedule.one_cycle(0.1, steps=0), "steps 0"),
        (lambda: schedule.one_cycle(0.1, steps=10, rise=0), "rise 0"),
        (lambda: schedule.one_cycle(0.1, steps=10, rise=1.0), "rise 1.0"),
        (lambda: schedule.one_cycle(0.1, steps=10, start=0), "start 0"),
        (lambda: schedule.ReduceOnPlateau(0.0), "lr 0.0"),
        (lambda: schedule.ReduceOnPlateau(0.1, factor=1.0), "factor 1.0: .* > 0 and < 1"),
    ],
)
def test_schedule_refuses(make, text):
    with pytest.raises(ValueError, match=text):
        make()


def test_reduce_on_plateau_waits_and_lowers():
    lr = schedule.ReduceOnPlateau(1.0, factor=0.5, patience=2)
    seen = []
    for loss in [5, 4, 4, 4, 4, 4, 3, 3, 3, 3]:
        lr.observe(loss)
        seen.append(lr(0))
    assert seen == [1, 1, 1, 1, 0.5, 0.5, 0.5, 0.5, 0.5, 0.25]


def test_reduce_on_plateau_needs_a_real_improvement():
    lr = schedule.ReduceOnPlateau(1.0, factor=0.5, patience=0, threshold=0.1)
    lr.observe(10.0)
    lr.observe(9.5)  # less than a tenth better
    assert lr(0) == 0.5
    lr.observe(8.9)
    assert lr(0) == 0.5


def test_reduce_on_plateau_stops_at_the_minimum():
    lr = schedule.ReduceOnPlateau(1.0, factor=0.1, patience=0, minimum=0.05)
    for _ in range(5):
        lr.observe(1.0)
    assert lr(7) == 0.05


def test_fit_tells_reduce_on_plateau_the_validation_loss():
    rng = np_rng()
    x, y = rng.standard_normal((40, 4)).astype("float32"), rng.integers(0, 2, 40)
    model = mc.Sequential(mc.Dense(2)).build((4,))
    lr = schedule.ReduceOnPlateau(1e-9, factor=0.5, patience=0)  # too small to improve
    run = mc.fit(model, x, y, optimizer=mc.SGD(lr), epochs=3, validation=0.25)
    records = list(run)
    assert lr.best == records[0].val_loss != records[0].loss
    assert [record.lr for record in records] == [1e-9, 1e-9, 0.5e-9]


def np_rng():
    import numpy as np

    return np.random.default_rng(0)
