"""Gathered and varied batches: only what the CPU's augmentation could make, and all of it."""

from __future__ import annotations

import numpy as np
import pytest

from minicnn.data.augment import Cutout, RandomCrop, RandomFlip
from minicnn.data.sampling import mirror, pick
from minicnn.functional.norm import normalize_forward
from minicnn.kernels.cuda import batch as gpu
from minicnn.kernels.cuda.batch import Changes, Statistics

SHAPES = [(5, 7, 3), (4, 4, 1), (6, 5, 2), (8, 8, 3)]

each_shape = pytest.mark.parametrize("shape", SHAPES, ids=str)


def gathered(floor, pictures, N, changes=gpu.NOTHING, order=None, labels=None, first=0, **options):
    """Run it; return x and the labels."""
    xp = floor.cupy
    x = floor.s.new((N, *pictures.shape[1:]), "uint8")
    y = None if labels is None else floor.s.new((N, *labels.shape[1:]), labels.dtype)
    gpu.gather(
        floor.s, xp.asarray(pictures), None if labels is None else xp.asarray(labels),
        None if order is None else xp.asarray(order), first, x, y, changes, **options,
    )  # fmt: skip
    return x.get(), None if y is None else y.get()


def flips(picture):
    return [picture, picture[:, ::-1]]


def crops(picture, padding):
    """Every result that RandomCrop can have."""
    H, W, _ = picture.shape
    found = []
    for down in range(-padding, padding + 1):
        for right in range(-padding, padding + 1):
            rows, columns = mirror(np.arange(H) + down, H), mirror(np.arange(W) + right, W)
            found.append(pick(picture[None], rows[None, :, None], columns[None, None, :])[0])
    return found


def holes(picture, size, fill):
    """Every result that Cutout can have."""
    H, W, _ = picture.shape
    found = []
    for row in range(H):
        for column in range(W):
            covered = picture.copy()
            top, left = row - size // 2, column - size // 2
            covered[max(top, 0) : max(top + size, 0), max(left, 0) : max(left + size, 0)] = fill
            found.append(covered)
    return found


def distinct(pictures):
    return {picture.tobytes() for picture in pictures}


OUTCOMES = {  # what is asked for, what the CPU does, all that can come out
    "flip": (Changes(flip=True), [RandomFlip()], flips),
    "crop": (Changes(crop=2), [RandomCrop(2)], lambda p: crops(p, 2)),
    "cutout": (Changes(cutout=3, fill=7), [Cutout(3, 7)], lambda p: holes(p, 3, 7)),
    "even cutout": (Changes(cutout=2), [Cutout(2, 128)], lambda p: holes(p, 2, 128)),
    "flip, crop": (
        Changes(flip=True, crop=1),
        [RandomFlip(), RandomCrop(1)],
        lambda p: [c for f in flips(p) for c in crops(f, 1)],
    ),
    "all": (
        Changes(flip=True, crop=1, cutout=1, fill=0),
        [RandomFlip(), RandomCrop(1), Cutout(1, 0)],
        lambda p: [h for f in flips(p) for c in crops(f, 1) for h in holes(c, 1, 0)],
    ),
}


@each_shape
@pytest.mark.parametrize("what", OUTCOMES)
def test_batch_has_all_outcomes_of_the_cpu_and_no_others(floor32, rng, shape, what):
    changes, layers, outcomes = OUTCOMES[what]
    picture = rng.integers(0, 256, shape, dtype="uint8")
    possible = distinct(outcomes(picture))
    N = 12 * len(possible)
    on_gpu, _ = gathered(floor32, picture[None], N, changes, seed=3, step=11)
    found = distinct(on_gpu)
    x = np.repeat(picture[None], N, axis=0)
    for layer in layers:
        x, _ = layer(x, np.zeros(N, int), rng)
    assert found <= possible and distinct(x) <= possible
    assert len(found) > 0.98 * len(possible)


def test_batch_draws_every_shift_equally_often(floor32, rng):
    picture = np.arange(64, dtype="uint8").reshape(1, 8, 8, 1)
    N, padding = 3000, 2
    x, _ = gathered(floor32, picture, N, Changes(flip=True, crop=padding), seed=1)
    kinds = [shifted.tobytes() for flipped in flips(picture[0]) for shifted in crops(flipped, 2)]
    counts = np.array([sum(made.tobytes() == kind for made in x) for kind in kinds])
    assert counts.sum() == N and len(kinds) == 50
    expected = N / len(kinds)
    assert ((counts - expected) ** 2 / expected).sum() < 49 + 4 * np.sqrt(2 * 49)  # chi squared


def test_batch_draws_by_seed_step_and_place(floor32, rng):
    pictures = rng.integers(0, 256, (1, 8, 8, 3), dtype="uint8")
    everything = Changes(flip=True, crop=3, cutout=2)

    def draw(N=40, **options):
        return gathered(floor32, pictures, N, everything, **options)[0]

    base = draw(seed=1, step=5)
    assert (draw(seed=1, step=5) == base).all()
    assert (draw(seed=1, step=5, N=20, first=20) == base[20:]).all()  # however it is cut up
    others = [draw(seed=2, step=5), draw(seed=1, step=6), draw(seed=1, step=5 + (1 << 32))]
    others += [draw(seed=1 + (1 << 32), step=5)]
    for other in others:
        same = (other == base).all(axis=(1, 2, 3)).mean()
        assert same < 0.2


@each_shape
def test_batch_mirrors_the_pictures_that_are_named(floor32, rng, shape):
    pictures = rng.integers(0, 256, (20, *shape), dtype="uint8")
    order, which = rng.permutation(20), rng.integers(0, 2, 20).astype("uint8")
    wanted = np.where(which[:, None, None, None], pictures[:, :, ::-1], pictures)
    how = Changes(flip=floor32.cupy.asarray(which))
    x, _ = gathered(floor32, pictures, 9, how, order=order, first=8)
    np.testing.assert_array_equal(x, wanted[order[8:17]])
    x, _ = gathered(floor32, pictures, 9, how, first=3)
    np.testing.assert_array_equal(x, wanted[3:12])


@each_shape
@pytest.mark.parametrize("dtype", ["int64", "float32", "float64"])
def test_batch_in_an_order(floor32, rng, shape, dtype):
    pictures = rng.integers(0, 256, (20, *shape), dtype="uint8")
    labels = rng.integers(0, 9, 20) if dtype == "int64" else rng.random((20, 4)).astype(dtype)
    order = rng.permutation(20)
    x, y = gathered(floor32, pictures, 6, order=order, labels=labels, first=8)
    np.testing.assert_array_equal(x, pictures[order[8:14]])
    np.testing.assert_array_equal(y, labels[order[8:14]])
    x, y = gathered(floor32, pictures, 6, order=order[:9], labels=labels, first=6)
    np.testing.assert_array_equal(y, labels[[*order[6:9], *order[:3]]])  # and begins again
    x, y = gathered(floor32, pictures, 5, labels=labels, first=2)
    np.testing.assert_array_equal(x, pictures[2:7])
    np.testing.assert_array_equal(y, labels[2:7])
    assert gathered(floor32, pictures, 0, labels=labels)[0].shape == (0, *shape)


def test_batch_reads_its_place_and_step_on_the_device(floor32, rng):
    pictures = rng.integers(0, 256, (30, 5, 5, 3), dtype="uint8")
    how = Changes(flip=True, crop=2)
    place, step = (floor32.cupy.asarray(np.array([n], "int64")) for n in (7, 3))
    expected = gathered(floor32, pictures, 4, how, first=7, step=3)[0]
    assert (gathered(floor32, pictures, 4, how, first=place, step=step)[0] == expected).all()
    place += 4
    step += 1
    expected = gathered(floor32, pictures, 4, how, first=11, step=4)[0]
    assert (gathered(floor32, pictures, 4, how, first=place, step=step)[0] == expected).all()


@each_shape
def test_batch_normalized(floor, rng, shape):
    C = shape[-1]
    pictures = rng.integers(0, 256, (9, *shape), dtype="uint8")
    mean, std = rng.random(C).astype("float32"), (rng.random(C) + 0.2).astype("float32")
    changes = Changes(flip=True, crop=2, cutout=2)
    expected, _ = gathered(floor, pictures, 9, changes, seed=4)
    x = floor.s.new(pictures.shape)
    statistics = Statistics(floor.acc(mean), floor.acc(std))
    on_gpu = floor.cupy.asarray(pictures)
    gpu.gather(floor.s, on_gpu, None, None, 0, x, None, changes, 4, 0, statistics)
    y, _ = normalize_forward(expected, mean.astype("float64"), std.astype("float64"), 1 / 255)
    floor.check(x, y, 5)


@pytest.mark.parametrize(
    ("changes", "labels", "text"),
    [
        (Changes(crop=4), None, "crop 4: pictures are 4 x 6"),
        (Changes(crop=-1), None, "crop -1"),
        (Changes(cutout=-1), None, "cutout -1"),
        (Changes(fill=256), None, "fill 256"),
        (
            Changes(flip=np.zeros(2, "uint8")),
            None,
            r"flip is \(2,\), expected True, False, or \(3,",
        ),
        (Changes(), np.zeros(2, "int64"), "labels are int64"),
        (Changes(), np.zeros(3, "int16"), "labels are int16"),
    ],
)
def test_batch_refuses_what_does_not_fit(floor32, changes, labels, text):
    pictures = np.zeros((3, 4, 6, 1), "uint8")
    with pytest.raises(ValueError, match=text):
        gathered(floor32, pictures, 2, changes, labels=labels)
