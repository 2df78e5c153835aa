"""Bodies with random numbers: what they draw is other than on the CPU, what can come out isn't."""

from __future__ import annotations

import copy

import numpy as np
import pytest
from philox import Numbers

import minicnn as mc
from minicnn.functional.dropout import dropout_backward, dropout_forward
from minicnn.functional.gather import gather
from minicnn.kernels.cuda import batch
from minicnn.streams import Stream

M, H, W, C = 11, 6, 5, 3


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_dropout_draws_by_counting(cupy, rng, dtype):
    x, dy = rng.standard_normal((2, 7, 3, 5)).astype(dtype)
    stream = Stream(2**40 + 3, "dropout/x", position=2**33)
    key = stream.seed, stream.number, stream.position
    y, cache = dropout_forward(cupy.asarray(x), 0.3, stream.next(cupy))
    wanted, kept = dropout_forward(x, 0.3, Numbers(*key))
    np.testing.assert_allclose(y.get(), wanted, rtol=1e-6)
    dx = dropout_backward(cupy.asarray(dy), cache)
    np.testing.assert_allclose(dx.get(), dropout_backward(dy, kept), rtol=1e-6)
    again, _ = dropout_forward(cupy.asarray(x), 0.3, stream.next(cupy))
    assert (again.get() != y.get()).any()


def test_dropout_with_a_generator_is_the_books(cupy, rng):
    x = cupy.asarray(rng.standard_normal((40, 5)))
    y, cache = dropout_forward(x, 0.5, cupy.random.default_rng(3))
    wanted, kept = dropout_forward.dispatch(object)(x, 0.5, cupy.random.default_rng(3))
    np.testing.assert_array_equal(y.get(), wanted.get())
    np.testing.assert_array_equal(
        dropout_backward(x, cache).get(), dropout_backward.dispatch(object)(x, kept).get()
    )


@pytest.fixture
def data(rng):
    return rng.integers(0, 256, (M, H, W, C)).astype("uint8"), np.arange(M)


LABELS = {
    "int64": lambda n: n,
    "int32": lambda n: n.astype("int32"),
    "uint8": lambda n: n.astype("uint8"),
    "shares": lambda n: np.stack([n, 1 - n], axis=1).astype("float32"),
}


@pytest.mark.parametrize("kind", LABELS)
@pytest.mark.parametrize("size", [1, 4, M])
def test_batches_are_those_of_the_cpu(cupy, data, kind, size):
    x, labels = data[0], LABELS[kind](data[1])
    for options in ({}, {"stream": Stream(1, "s")}, {"indices": np.array([3, 3, 0, 10, 9])}):
        size = min(size, len(options.get("indices", x)))
        cpu = mc.Batches(x, labels, size, **copy.deepcopy(options))
        gpu = mc.Batches(cupy.asarray(x), cupy.asarray(labels), size, **copy.deepcopy(options))
        for (a, b), (c, d) in zip(cpu, gpu, strict=True):
            np.testing.assert_array_equal(a, c.get())
            np.testing.assert_array_equal(b, d.get())
            assert (c.dtype, d.dtype) == (a.dtype, b.dtype)


def outcomes(picture, augment):
    """Return all that can become of a picture, by the CPU's classes."""
    found, stream = set(), Stream(0, "a")
    for _ in range(40):
        x, labels = np.repeat(picture[None], 64, axis=0), np.zeros(64, int)
        rng = stream.next()
        for vary in augment:
            x, labels = vary(x, labels, rng)
        found |= {each.tobytes() for each in x}
    return found


VARIATIONS = {
    "flip": [mc.augment.RandomFlip()],
    "crop": [mc.augment.RandomCrop(1)],
    "flip, crop": [mc.augment.RandomFlip(), mc.augment.RandomCrop(1)],
    "flip, cutout": [mc.augment.RandomFlip(), mc.augment.Cutout(2, fill=9)],
    "cutout first": [mc.augment.Cutout(2), mc.augment.RandomFlip()],
}


@pytest.mark.parametrize("name", VARIATIONS)
def test_variations_are_those_of_the_cpu(cupy, data, name):
    augment = VARIATIONS[name]
    x, _ = data
    batches = mc.Batches(
        *map(cupy.asarray, data), 4,
        stream=Stream(1, "s"), augment=augment, augment_stream=Stream(5, "a"),
    )  # fmt: skip
    possible, seen = {n: outcomes(x[n], augment) for n in (2, 7)}, {2: set(), 7: set()}
    for _ in range(30):
        for pictures, targets in batches:
            for picture, label in zip(pictures.get(), targets.get(), strict=True):
                if label in seen:
                    seen[label].add(picture.tobytes())
    for n, found in seen.items():
        assert found <= possible[n]
        assert len(found) >= 0.6 * min(12, len(possible[n]))


@pytest.mark.parametrize("size", [4, M])
@pytest.mark.parametrize("order", [Stream(2, "s"), Stream(2, "s", 5)], ids=["even", "odd"])
@pytest.mark.parametrize("more", [[], [mc.augment.RandomCrop(1)], [lambda x, y, rng: (x, y)]])
def test_alternating_flips_are_the_cpus(cupy, data, size, order, more, monkeypatch):
    """The same pictures are mirrored, with the kernel and without; and a crop comes after that."""
    launched = []
    write = batch.gather
    monkeypatch.setattr(batch, "gather", lambda *a, **k: (launched.append(a[7]), write(*a, **k)))

    def epoch(to, extra):
        batches = mc.Batches(
            *map(to, data), size, stream=copy.copy(order),
            augment=[mc.augment.AlternatingFlip(), *extra], augment_stream=Stream(5, "a"),
        )  # fmt: skip
        return list(batches)

    for (x, y), (on_gpu, ids) in zip(epoch(np.asarray, []), epoch(cupy.asarray, more), strict=True):
        np.testing.assert_array_equal(ids.get(), y)
        if more and isinstance(more[0], mc.augment.RandomCrop):
            for picture, cropped in zip(x, on_gpu.get(), strict=True):
                assert cropped.tobytes() in outcomes(picture, more)
        else:
            np.testing.assert_array_equal(on_gpu.get(), x)
    known = not more or isinstance(more[0], mc.augment.RandomCrop)
    assert len(launched) == known * -(-M // size)


def test_variations_are_drawn_anew_and_repeatably(cupy, data):
    def epoch(stream):
        batches = mc.Batches(
            *map(cupy.asarray, data), 4, augment=VARIATIONS["flip, crop"], augment_stream=stream
        )
        return [x.get() for x, _ in batches]

    stream = Stream(5, "a")
    first, second, again = epoch(stream), epoch(stream), epoch(Stream(5, "a"))
    assert all((a == b).all() for a, b in zip(first, again, strict=True))
    assert any((a != b).any() for a, b in zip(first, second, strict=True))
    assert stream.position == 6


def test_what_a_user_varies_is_done(cupy, data):
    class Darker(mc.augment.RandomFlip):
        def __call__(self, x, labels, rng):
            return x // 2, labels

    x, labels = map(cupy.asarray, data)
    rng = Stream(0, "a").next(cupy)
    for varied in (
        [Darker()],
        [mc.augment.RandomFlip(), Darker()],
        [lambda x, y, rng: (x // 2, y)],
    ):
        found, _ = gather(x, labels, cupy.arange(M), varied, rng)
        assert found.get().max() <= 127
    mixed, shares = gather(x, labels, cupy.arange(M), [mc.augment.MixUp(1.0, classes=M)], rng)
    assert mixed.dtype == "uint8" and shares.shape == (M, M)
