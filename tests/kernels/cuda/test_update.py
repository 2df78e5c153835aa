from __future__ import annotations

import emulation
import numpy as np
import pytest

from minicnn.functional import update as book
from minicnn.kernels.cuda import update
from minicnn.kernels.cuda.module import KINDS
from minicnn.kernels.cuda.writer import Now

from .test_elementwise import rounded

LIMITS = {"float32": 1e-6, "float64": 1e-12}
RULES = {  # the book's, ours, the number of arrays, the scalars after the learning rate
    "sgd": ("sgd_update", update.sgd, 2, ()),
    "momentum": ("momentum_update", update.momentum, 3, (0.9,)),
    "nesterov": ("momentum_update", update.momentum, 3, (0.9, True)),
    "rmsprop": ("rmsprop_update", update.rmsprop, 3, (0.9, 1e-8)),
    "adam": ("adam_update", update.adam, 4, (0.9, 0.999, 1e-8)),
}
each_rule = pytest.mark.parametrize("name", RULES)
each_kind = pytest.mark.parametrize("kind", KINDS)
SIZE, DECAYED = 5001, 3000


class Setup:
    """The arrays of a rule, on the device and in float64."""

    def __init__(self, cupy, rng, name, kind, size=SIZE):
        self.s, self.name = Now(kind), name
        self.of_book, self.ours, count, self.scalars = RULES[name]
        self.host = [rng.standard_normal(size).astype(self.s.acc_dtype) for _ in range(count)]
        if count > 2:
            np.abs(self.host[-1], out=self.host[-1])
        self.arrays = [cupy.asarray(a) for a in self.host]
        self.host = [a.astype("float64") for a in self.host]
        self.rate = cupy.asarray(np.array([0.01], self.s.acc_dtype))
        self.lr = float(self.rate.get()[0])
        self.clock = cupy.asarray(np.array([3]))

    def step(self, **options):
        times = (self.clock,) if self.name == "adam" else ()
        self.ours(self.s, *self.arrays, self.rate, *times, *self.scalars, **options)

    def reference(self, dw=None, t=3):
        """Take a step by the book, with this gradient."""
        times = (t,) if self.name == "adam" else ()
        w, own, *memory = self.host
        dw = own if dw is None else dw
        rule = getattr(book, self.of_book).dispatch(object)
        rule(w, dw, *memory, *times, self.lr, *self.scalars)

    def check(self):
        limit = LIMITS[str(self.s.acc_dtype)]
        for array, wanted in zip(self.arrays, self.host, strict=True):
            np.testing.assert_allclose(array.get(), wanted, rtol=limit, atol=5 * limit)


@each_rule
@each_kind
@pytest.mark.parametrize("size", [1, 257, SIZE])
def test_rule_equals_the_book(cupy, rng, order, name, kind, size):
    setup = Setup(cupy, rng, name, kind, size)
    setup.step()
    setup.reference()
    setup.check()


@each_rule
@each_kind
def test_rule_writes_the_rounded_copy(cupy, rng, name, kind):
    setup = Setup(cupy, rng, name, kind)
    copy = setup.s.new((SIZE,))
    setup.step(copy=copy)
    setup.reference()
    setup.check()
    np.testing.assert_array_equal(copy.get(), rounded(kind, setup.arrays[0].get()))


@each_rule
def test_rule_scales_and_decays_the_gradient(cupy, rng, name):
    setup = Setup(cupy, rng, name, "float64")
    scale = cupy.asarray(np.array([0.3]))
    setup.step(scale=scale, decay=0.2, decayed=DECAYED)
    w, dw = setup.host[:2]
    dw = dw * 0.3
    dw[:DECAYED] += 0.2 * w[:DECAYED]
    setup.reference(dw)
    setup.check()


@each_rule
@each_kind
def test_rule_multiplies_the_rate_for_a_part_of_the_buffers(cupy, rng, name, kind):
    setup = Setup(cupy, rng, name, kind)
    whole, host, part = setup.arrays, setup.host, slice(32, 4001)
    before = [array.get() for array in whole]
    setup.arrays, setup.host = ([array[part] for array in every] for every in (whole, host))
    setup.step(factor=0.25, decay=0.2, decayed=1000)
    dw = setup.host[1].copy()
    dw[:1000] += 0.2 * setup.host[0][:1000]
    setup.lr *= 0.25
    setup.reference(dw)
    setup.check()
    for array, old in zip(whole, before, strict=True):
        for outside in (slice(0, part.start), slice(part.stop, None)):
            np.testing.assert_array_equal(array.get()[outside], old[outside])


@each_rule
def test_rule_can_be_skipped_on_the_device(cupy, rng, name):
    setup = Setup(cupy, rng, name, "float32")
    copy = cupy.zeros((SIZE,), dtype="float32")
    skip = cupy.asarray(np.array([1], "int32"))
    setup.step(copy=copy, skip=skip)
    setup.check()  # as it was
    assert not copy.get().any()
    skip.fill(0)
    setup.step(copy=copy, skip=skip)
    setup.reference()
    setup.check()


@each_rule
def test_rule_leaves_zeros_without_gradient_zero(cupy, name, rng):
    setup = Setup(cupy, rng, name, "float32")
    for array in setup.arrays:
        array.fill(0)
    setup.step(decay=0.1, decayed=DECAYED)
    for array in setup.arrays:
        assert not array.get().any()


def test_adam_corrects_by_the_clock(cupy, rng):
    for t in (1, 2, 1000, 100_000):
        setup = Setup(cupy, rng, "adam", "float64")
        setup.clock.fill(t)
        setup.step()
        setup.reference(t=t)
        setup.check()


def test_adam_with_decay_beside_the_division(cupy, rng):
    setup = Setup(cupy, rng, "adam", "float64")
    setup.step(shrink=0.3, shrunk=DECAYED)
    book.decay_update(setup.host[0][:DECAYED], setup.lr * 0.3)
    setup.reference()
    setup.check()


@each_kind
def test_decay_and_average(cupy, rng, kind):
    s = Now(kind)
    start = rng.standard_normal((2, SIZE)).astype(s.acc_dtype)
    w, mean = (cupy.asarray(a) for a in start)
    host_w, host_mean = start.astype("float64")
    limit = LIMITS[str(s.acc_dtype)]
    copy, rate = s.new((SIZE,)), cupy.asarray(np.array([0.5], s.acc_dtype))
    update.decay(s, w, 0.2)
    update.decay(s, w, 0.2, rate, copy)
    update.average(s, mean, w, 0.7)
    host_w *= 0.8 * 0.9
    host_mean += (host_w - host_mean) * 0.3
    np.testing.assert_allclose(w.get(), host_w, rtol=limit)
    np.testing.assert_allclose(mean.get(), host_mean, rtol=limit, atol=limit)
    np.testing.assert_array_equal(copy.get(), rounded(kind, w.get()))
    skip = cupy.asarray(np.array([1], "int32"))
    before = w.get(), mean.get()
    update.decay(s, w, 0.2, skip=skip)
    update.average(s, mean, w, 0.7, skip)
    np.testing.assert_array_equal([w.get(), mean.get()], before)


@pytest.mark.parametrize("size", [0, 1, 5000, 700_001])
@pytest.mark.parametrize("kind", ["float32", "float64"])
def test_norm(cupy, rng, order, kind, size):
    s = Now(kind)
    host = rng.standard_normal(size).astype(s.acc_dtype)
    x = cupy.asarray(host)
    length, scale, skip = s.new((1,)), s.new((1,)), s.new((1,), np.int32)
    loss_scale = cupy.asarray(np.array([8.0], s.acc_dtype))
    wanted = np.linalg.norm(host.astype("float64"))
    limit = LIMITS[kind]
    update.norm(s, x, length)
    np.testing.assert_allclose(length.get(), wanted, rtol=limit)
    update.norm(s, x, length, scale, skip, limit=wanted / 32, loss_scale=loss_scale)
    np.testing.assert_allclose(length.get(), wanted / 8, rtol=limit)
    np.testing.assert_allclose(scale.get(), 1 / 32 if size else 1 / 8, rtol=10 * limit)
    assert skip.get() == 0
    update.norm(s, x, scale=scale, limit=wanted + 1)
    assert scale.get() == 1


def test_norm_of_parts(cupy, rng, order):
    s, host = Now("float64"), rng.standard_normal(9000)
    x, length, skip = cupy.asarray(host), s.new((1,)), s.new((1,), np.int32)
    parts = [slice(0, 16), slice(32, 5000), slice(5008, 5009), slice(6000, 9000)]
    x[20] = np.nan  # in none of them
    update.norm(s, [x[part] for part in parts], length, skip=skip)
    wanted = np.linalg.norm(np.concatenate([host[part] for part in parts]))
    np.testing.assert_allclose(length.get(), wanted, rtol=1e-13)
    assert skip.get() == 0


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_norm_of_what_is_not_finite_skips_the_step(cupy, bad):
    s = Now("float32")
    x, skip = cupy.zeros((1000,), dtype="float32"), s.new((1,), np.int32)
    x[77] = bad
    update.norm(s, x, skip=skip)
    assert skip.get() == 1
    x[77] = 3e38  # its square is beyond a float, not beyond a double
    update.norm(s, x, skip=skip)
    assert skip.get() == 0


def test_norm_is_bitwise_repeatable(standin, rng, monkeypatch):
    x, lengths = standin.asarray(rng.standard_normal(100_000)), []
    for backwards in (False, True):
        monkeypatch.setattr(emulation, "backwards", backwards)
        length = standin.empty((1,))
        update.norm(Now("float64"), x, length)
        lengths.append(length.get())
    assert lengths[0] == lengths[1]


def test_tick_reads_the_rate_of_the_step(cupy):
    s = Now("float32")
    rates = cupy.asarray(np.array([0.5, 0.25, 0.125], "float32"))
    clock, rate = cupy.asarray(np.array([9])), s.new((1,))
    first = cupy.asarray(np.array([10]))
    seen = []
    for _ in range(6):
        update.tick(s, rates, first, clock, rate)
        seen.append((int(clock.get()[0]), float(rate.get()[0])))
    assert seen == [(10, 0.5), (11, 0.5), (12, 0.25), (13, 0.125), (14, 0.125), (15, 0.125)]


def test_gradient_without_the_loss_scale(cupy):
    dw, loss_scale = cupy.asarray(np.float32([64, -32, 0])), cupy.asarray(np.float32([64]))
    update.take_back(Now("float16"), dw, loss_scale)
    np.testing.assert_array_equal(dw.get(), [1, -0.5, 0])


def test_loss_scale_finds_itself(cupy):
    s = Now("float16")
    loss_scale, good = cupy.asarray(np.array([64.0], "float32")), cupy.asarray(np.array([0]))
    skip, seen = cupy.zeros((1,), dtype="int32"), []
    for bad in (1, 0, 0, 0, 1, 1, 1, 0, 0, 0, 0, 0, 0):
        skip.fill(bad)
        update.adjust_loss_scale(s, loss_scale, good, skip, patience=3, least=16.0, most=48.0)
        seen.append(float(loss_scale.get()[0]))
    assert seen == [32, 32, 32, 48, 24, 16, 16, 16, 16, 32, 32, 32, 48]


@each_rule
def test_update_leaves_to_the_book_what_it_is_not_for(cupy, rng, name):
    """Views with gaps, other shapes, other dtypes."""
    function, _, count, scalars = RULES[name]
    times = (2,) if name == "adam" else ()
    for dtype, lay_out in (
        ("float32", lambda a: a[::2]),
        ("float32", lambda a: a.reshape(10, 20)),
        ("float16", lambda a: a),
    ):
        host = [abs(rng.standard_normal(200)).astype(dtype) for _ in range(count)]
        arrays = [cupy.asarray(a) for a in host]
        getattr(book, function)(*map(lay_out, arrays), *times, 0.01, *scalars)
        getattr(book, function).dispatch(object)(*map(lay_out, host), *times, 0.01, *scalars)
        for array, wanted in zip(arrays, host, strict=True):
            np.testing.assert_array_equal(array.get(), wanted)


def test_adam_before_the_first_step_is_refused_as_in_the_book(cupy):
    with pytest.raises(ZeroDivisionError):
        book.adam_update(*[cupy.ones((3,)) for _ in range(4)], 0, 0.1, 0.9, 0.999, 1e-8)
