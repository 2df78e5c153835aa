from __future__ import annotations

import math

import numpy as np
import pytest

from minicnn.backend import to_numpy
from minicnn.data.augment import (
    AlternatingFlip,
    BrightnessContrast,
    CutMix,
    Cutout,
    MixUp,
    RandomCrop,
    RandomFlip,
    RandomRotation,
    RandomZoom,
)
from minicnn.data.sampling import turn_and_zoom
from minicnn.streams import Stream

EVERY = [
    RandomFlip(),
    RandomCrop(3),
    RandomRotation(30),
    RandomZoom(0.3),
    Cutout(4),
    BrightnessContrast(0.3, 0.3),
    MixUp(0.4, classes=10),
    CutMix(1.0, classes=10),
]
every = pytest.mark.parametrize("vary", EVERY, ids=lambda vary: type(vary).__name__)


def pictures(xp, n=32, h=9, w=12, c=3):
    """Random pictures, higher than 128 so that none is the grey of Cutout, and labels."""
    rng = np.random.default_rng(n)
    x = rng.integers(129, 256, (n, h, w, c), dtype=np.uint8)
    return xp.asarray(x), xp.asarray(rng.integers(0, 10, n))


def run(vary, x, labels, xp, seed=0):
    y, targets = vary(x, labels, Stream(seed, "augment").next(xp))
    return to_numpy(y), to_numpy(targets)


@every
def test_augment_keeps_shape_dtype_and_input(xp, vary):
    x, labels = pictures(xp)
    before, labels_before = to_numpy(x).copy(), to_numpy(labels).copy()
    y, _ = vary(x, labels, Stream(0, "augment").next(xp))
    assert isinstance(y, xp.ndarray) and y.dtype == np.uint8 and y.shape == x.shape
    np.testing.assert_array_equal(to_numpy(x), before)
    np.testing.assert_array_equal(to_numpy(labels), labels_before)


@every
def test_augment_repeats_with_the_generator(xp, vary):
    x, labels = pictures(xp)
    once, again, other = (run(vary, x, labels, xp, seed)[0] for seed in (5, 5, 6))
    np.testing.assert_array_equal(once, again)
    assert (once != other).any()


@every
def test_augment_varies_each_picture_by_itself(xp, vary):
    x, labels = pictures(xp)
    x = xp.repeat(x[:1], 32, axis=0)
    if isinstance(vary, MixUp | CutMix):
        x = (x // 32 * xp.arange(1, 9, dtype="uint8").repeat(4)[:, None, None, None]).astype("u1")
    y, _ = run(vary, x, labels, xp)
    assert len(np.unique(y.reshape(32, -1), axis=0)) >= (2 if isinstance(vary, RandomFlip) else 8)


@every
@pytest.mark.parametrize("shape", [(1, 8, 8, 3), (2, 5, 4, 1), (1, 4, 11, 2)])
def test_augment_takes_any_shape(xp, vary, shape):
    x, labels = pictures(xp, *shape)
    assert run(vary, x, labels, xp)[0].shape == shape


@every
def test_augment_takes_views(xp, vary):
    x, labels = pictures(xp, w=20)
    view = x[:, ::-1, ::2]
    expected, _ = run(vary, xp.ascontiguousarray(view), labels, xp)
    np.testing.assert_array_equal(run(vary, view, labels, xp)[0], expected)


@every
def test_augment_keeps_labels(xp, vary):
    if isinstance(vary, MixUp | CutMix):
        pytest.skip("it mixes them")
    x, labels = pictures(xp)
    assert vary(x, labels, Stream(0, "augment").next(xp))[1] is labels


@every
def test_augment_refuses_what_is_no_picture(vary):
    rng, labels = np.random.default_rng(0), np.zeros(2, int)
    for x in (np.zeros((2, 8, 8, 3), np.float32), np.zeros((2, 8, 8), np.uint8)):
        with pytest.raises(ValueError, match="expected uint8"):
            vary(x, labels, rng)


@pytest.mark.parametrize(
    "vary", [RandomCrop(0), RandomRotation(0), RandomZoom(0), BrightnessContrast(0, 0)]
)
def test_augment_by_nothing_is_identity(xp, vary):
    x, labels = pictures(xp)
    np.testing.assert_array_equal(run(vary, x, labels, xp)[0], to_numpy(x))


@pytest.mark.parametrize(
    "make",
    [
        lambda: RandomCrop(-1),
        lambda: RandomCrop(1.5),
        lambda: RandomRotation(-1),
        lambda: RandomRotation(181),
        lambda: RandomZoom(1),
        lambda: RandomZoom(math.nan),
        lambda: Cutout(0),
        lambda: Cutout(4, fill=256),
        lambda: BrightnessContrast(2, 0),
        lambda: BrightnessContrast(0, -1),
        lambda: MixUp(0),
        lambda: MixUp(0.2, classes=1),
        lambda: CutMix(-1),
        lambda: CutMix(math.nan),
        lambda: CutMix(math.inf),
        lambda: CutMix("1"),
        lambda: CutMix(None),
        lambda: MixUp(True),
        lambda: CutMix(classes=2.5),
        lambda: CutMix(probability=1.5),
        lambda: CutMix(probability="1"),
        lambda: CutMix(probability=None),
        lambda: RandomZoom("0.1"),
    ],
)
def test_augment_refuses_wrong_parameters(make):
    with pytest.raises(ValueError, match=r"\w+\(\w+=.*\): expected"):
        make()


def test_randomflip_mirrors_about_half(xp):
    x, labels = pictures(xp, n=400)
    y, _ = run(RandomFlip(), x, labels, xp)
    x = to_numpy(x)
    flipped = (y == x[:, :, ::-1]).all((1, 2, 3))
    assert (flipped ^ (y == x).all((1, 2, 3))).all()
    assert 150 < flipped.sum() < 250


def test_alternatingflip_has_to_be_told_the_epoch():
    with pytest.raises(ValueError, match="give it to fit or to Batches"):
        AlternatingFlip()(*pictures(np), np.random.default_rng(0))


def test_alternatingflip_is_by_chance_at_first_and_then_the_other_way_round(xp):
    first, second, third = (AlternatingFlip().for_epoch(n, 1000, 7, xp).which for n in range(3))
    assert 400 < int(first.sum()) < 600
    np.testing.assert_array_equal(to_numpy(second), ~to_numpy(first))
    np.testing.assert_array_equal(to_numpy(third), to_numpy(first))
    other = AlternatingFlip().for_epoch(0, 1000, 8, xp).which
    assert 400 < int((other != first).sum()) < 600


def test_randomcrop_shifts_exactly(xp):
    x, labels = pictures(xp, n=300)
    y, _ = run(RandomCrop(2), x, labels, xp)
    padded = np.pad(to_numpy(x), ((0, 0), (2, 2), (2, 2), (0, 0)), mode="reflect")
    shifts = []
    for picture, source in zip(y, padded, strict=True):
        fits = [
            (i, j)
            for i in range(5)
            for j in range(5)
            if np.array_equal(picture, source[i : i + 9, j : j + 12])
        ]
        assert len(fits) == 1
        shifts += fits
    assert set(shifts) == {(i, j) for i in range(5) for j in range(5)}


def test_randomcrop_refuses_too_much_padding():
    with pytest.raises(ValueError, match="padding of at most 8"):
        RandomCrop(9)(*pictures(np), np.random.default_rng(0))


def naive_turn(x, angle, zoom):
    """Turn one picture counterclockwise, pixel by pixel; mirrored at the borders."""
    H, W, _ = x.shape

    def fold(place, size):
        while not 0 <= place <= size - 1:
            place = -place if place < 0 else 2 * (size - 1) - place
        return place

    y = np.zeros(x.shape)
    for h in range(H):
        for w in range(W):
            r, c = (h - (H - 1) / 2) / zoom, (w - (W - 1) / 2) / zoom
            a = fold(math.cos(angle) * r + math.sin(angle) * c + (H - 1) / 2, H)
            b = fold(math.cos(angle) * c - math.sin(angle) * r + (W - 1) / 2, W)
            for i in (math.floor(a), math.floor(a) + 1):
                for j in (math.floor(b), math.floor(b) + 1):
                    share = (1 - abs(a - i)) * (1 - abs(b - j))
                    if share > 0:
                        y[h, w] += share * x[i, j]
    return y


@pytest.mark.parametrize("angle, zoom", [(0.4, 1), (-2.0, 1), (0, 1.4), (0, 0.7), (1.0, 0.9)])
def test_turn_and_zoom_equals_loops(xp, angle, zoom):
    x, _ = pictures(xp, n=2, h=7, w=10)
    cos, sin = (xp.full(2, f(angle) / zoom, dtype="float32") for f in (math.cos, math.sin))
    y = to_numpy(turn_and_zoom(x, cos, sin))
    expected = np.stack([naive_turn(picture, angle, zoom) for picture in to_numpy(x)])
    assert np.abs(y - expected).max() < 0.51


@pytest.mark.parametrize("quarters", [1, 2, 3])
def test_turn_and_zoom_by_quarters_equals_rot90(xp, quarters):
    x, _ = pictures(xp, h=12)
    angle = xp.full(32, quarters * math.pi / 2, dtype="float32")
    y = to_numpy(turn_and_zoom(x, xp.cos(angle), xp.sin(angle)))
    expected = np.rot90(to_numpy(x), quarters, axes=(1, 2))
    assert np.abs(y.astype(int) - expected).max() <= 1


def test_randomrotation_and_randomzoom_stay_in_their_range(xp):
    """A bright spot right of the middle shows where each picture went."""
    x = np.zeros((500, 65, 65, 1), np.uint8)
    x[:, 31:34, 51:54] = 255  # its middle is 20 pixels right of the picture's

    def spot(vary):
        y = run(vary, xp.asarray(x), xp.zeros(500, dtype=int), xp)[0][..., 0].astype(float)
        axis = np.arange(65) - 32
        mass = y.sum((1, 2))
        return (y.sum(2) @ axis) / mass, (y.sum(1) @ axis) / mass

    down, right = spot(RandomRotation(20))
    degrees = np.degrees(np.arctan2(-down, right))
    assert -20.5 < degrees.min() < -18 and 18 < degrees.max() < 20.5
    np.testing.assert_allclose(np.hypot(down, right), 20, atol=0.5)
    down, right = spot(RandomZoom(0.2))
    assert 15.5 < right.min() < 17 and 23 < right.max() < 24.5
    np.testing.assert_allclose(down, 0, atol=0.1)


def test_cutout_covers_one_square(xp):
    x, labels = pictures(xp, n=300)
    y, _ = run(Cutout(4), x, labels, xp)
    sizes = set()
    for picture, source in zip(y, to_numpy(x), strict=True):
        rows, columns = np.nonzero((picture == 128).all(-1))
        hole = (slice(rows.min(), rows.max() + 1), slice(columns.min(), columns.max() + 1))
        assert (picture[hole] == 128).all()
        sizes.add(picture[hole].shape[:2])
        picture[hole] = source[hole]
        np.testing.assert_array_equal(picture, source)
    assert max(sizes) == (4, 4) and min(sizes) == (2, 2)


def test_brightnesscontrast_lifts_all_pixels_alike(xp):
    x, labels = pictures(xp)
    x = x // 2  # room for the light
    y, _ = run(BrightnessContrast(0.2, 0), x, labels, xp)
    lift = y.astype(int) - to_numpy(x)
    assert (lift == lift[:, :1, :1, :1]).all()
    assert lift.min() < -30 and lift.max() > 30 and abs(lift).max() <= 51


def test_brightnesscontrast_stretches_about_the_mean(xp):
    x, labels = pictures(xp, n=300)
    x = x // 2 + 30
    y, _ = run(BrightnessContrast(0, 0.5), x, labels, xp)
    x, y = to_numpy(x).astype(float), y.astype(float)
    np.testing.assert_allclose(y.mean((1, 2, 3)), x.mean((1, 2, 3)), atol=0.3)
    factor = y.std((1, 2, 3)) / x.std((1, 2, 3))
    assert 0.49 < factor.min() < 0.6 and 1.4 < factor.max() < 1.51


def test_brightnesscontrast_clips(xp):
    x = xp.asarray([[[[0]], [[255]]]] * 50, dtype="uint8")
    y, _ = run(BrightnessContrast(1, 1), x, xp.zeros(50, dtype=int), xp)
    assert {0, 255} <= set(y.ravel().tolist())
    assert (y[:, 0] <= y[:, 1]).all()  # no value went around


@pytest.mark.parametrize("given", ["labels", "targets"])
def test_mixup_mixes_pictures_and_labels_alike(xp, given):
    n = 16
    x, _ = pictures(xp, n=n)
    labels = xp.arange(n) if given == "labels" else xp.eye(n, dtype="float32")
    y, targets = run(MixUp(1.0, classes=n), x, labels, xp)
    assert targets.shape == (n, n) and targets.dtype == np.float32
    np.testing.assert_allclose(targets.sum(1), 1, atol=1e-6)
    assert (targets >= 0).all() and ((targets > 0).sum(1) <= 2).all()
    expected = np.tensordot(targets.astype(float), to_numpy(x).astype(float), 1)
    assert np.abs(y - expected).max() < 0.51
    assert len(np.unique(targets.max(1))) > n // 2  # each pair has a share of its own


@pytest.mark.parametrize("vary", [MixUp(), CutMix()])
def test_mixing_refuses_other_labels(vary):
    x, _ = pictures(np)
    with pytest.raises(ValueError, match=r"labels are \(32, 3\), expected \(32,\) or \(32, 10\)"):
        vary(x, np.zeros((32, 3)), np.random.default_rng(0))


@pytest.mark.parametrize("given", ["labels", "targets"])
@pytest.mark.parametrize("shape", [(9, 12, 3), (5, 4, 1), (1, 6, 1)])
def test_cutmix_shares_labels_by_the_pixels(xp, given, shape):
    """Each picture has one number only: so its pixels say whose they are."""
    n, (H, W, _) = 8, shape
    x = xp.zeros((n, *shape), dtype="uint8") + xp.arange(n, dtype="uint8")[:, None, None, None]
    labels = xp.arange(n) if given == "labels" else xp.eye(n, dtype="float32")
    areas = set()
    for seed in range(60):
        y, targets = run(CutMix(1.0, classes=n), x, labels, xp, seed)
        assert targets.shape == (n, n) and targets.dtype == np.float32
        boxes = []
        for own, (picture, target) in enumerate(zip(y, targets, strict=True)):
            counts = np.bincount(picture[..., 0].ravel(), minlength=n)
            np.testing.assert_allclose(target, counts / (H * W), atol=1e-6)
            foreign = (picture != own).any(axis=2)
            if foreign.any():  # its partner may be itself
                rows, columns = np.nonzero(foreign)
                box = (rows.min(), rows.max() + 1, columns.min(), columns.max() + 1)
                assert foreign[box[0] : box[1], box[2] : box[3]].all()
                boxes.append(box)
        assert len(set(boxes)) <= 1
        areas |= {(b - a) * (d - c) / (H * W) for a, b, c, d in boxes}
    assert min(areas) < 0.35 and max(areas) > 0.65


def test_cutmix_cuts_boxes_of_the_pictures_shape_anywhere():
    """Sides are sqrt(u) of the picture's, u uniform; about any pixel, cut off at the border.

    Of a side s, s - s^2 / 4 are inside on average: so the mean area is 1/2 - 1/5 + 1/48.
    """
    x = np.zeros((2, 40, 80, 1), "uint8")
    x[1] = 1
    areas, inside = [], []
    for seed in range(800):
        y, _ = run(CutMix(1.0, classes=2), x, np.arange(2), np, seed)
        rows, columns = np.nonzero(y[0, :, :, 0])
        if len(rows):  # or its partner is itself
            areas.append(len(rows) / 3200)
            ends = rows.min(), rows.max(), columns.min(), columns.max()
            if ends[0] > 0 and ends[1] < 39 and ends[2] > 0 and ends[3] < 79:
                assert abs(np.ptp(columns) - 2 * np.ptp(rows)) <= 3
                inside.append((rows.mean() / 39, columns.mean() / 79))
    assert abs(np.mean(areas) - (1 / 2 - 1 / 5 + 1 / 48)) < 0.04
    assert len(inside) > 40 and (np.ptp(inside, axis=0) > 0.6).all()


def test_cutmix_leaves_batches_alone_by_chance(xp):
    x, labels = pictures(xp)
    changed = 0
    for seed in range(60):
        y, targets = run(CutMix(1.0, probability=0.5), x, labels, xp, seed)
        if (y == to_numpy(x)).all():
            np.testing.assert_array_equal(targets, np.eye(10)[to_numpy(labels)])
        else:
            changed += 1
    assert 15 < changed < 45
    y, _ = run(CutMix(1.0, probability=0), x, labels, xp)
    np.testing.assert_array_equal(y, to_numpy(x))


def test_mixing_twice_keeps_distributions(xp):
    x, labels = pictures(xp)
    y, targets = CutMix()(x, labels, Stream(0, "a").next(xp))
    y, targets = run(MixUp(1.0), y, targets, xp)
    assert y.dtype == np.uint8 and targets.dtype == np.float32
    np.testing.assert_allclose(targets.sum(1), 1, atol=1e-6)
    assert ((targets > 0).sum(1) > 2).any()
