from __future__ import annotations

import numpy as np
import pytest

from minicnn.backend import to_numpy
from minicnn.data.augment import AlternatingFlip, RandomFlip
from minicnn.data.batches import Batches, stratified_split
from minicnn.streams import Stream


def numbered(xp, n=50):
    """Pictures that hold their own number, and labels that are the number too."""
    y = xp.arange(n)
    x = xp.zeros((n, 2, 2, 1), dtype="uint8") + y[:, None, None, None].astype("uint8")
    return x, y


def epoch(batches):
    """The labels of an epoch; each picture must have come with its own."""
    seen = []
    for x, y in batches:
        assert x.dtype == np.uint8 and (to_numpy(x)[:, 0, 0, 0] == to_numpy(y)).all()
        seen.append(to_numpy(y))
    return seen


def test_batches_keep_the_order_without_a_stream(xp):
    batches = Batches(*numbered(xp), 16)
    seen = epoch(batches)
    assert [len(y) for y in seen] == [16, 16, 16, 2]
    np.testing.assert_array_equal(np.concatenate(seen), np.arange(50))
    assert len(batches) == 4 and batches.examples == 50


def test_batches_hold_every_example_once_in_new_orders(xp):
    batches = Batches(*numbered(xp), 16, stream=Stream(0, "shuffle"))
    first, second = np.concatenate(epoch(batches)), np.concatenate(epoch(batches))
    for order in (first, second):
        np.testing.assert_array_equal(np.sort(order), np.arange(50))
    assert (first != second).any() and (first != np.arange(50)).any()


def test_batches_repeat_from_a_position_of_the_stream(xp):
    stream = Stream(3, "shuffle")
    batches = Batches(*numbered(xp), 16, stream=stream)
    epoch(batches)
    assert stream.position == 1
    second = np.concatenate(epoch(batches))
    resumed = Batches(*numbered(xp), 16, stream=Stream(3, "shuffle", position=1))
    np.testing.assert_array_equal(np.concatenate(epoch(resumed)), second)


def test_batches_are_the_same_on_either_device(xp):
    order = np.concatenate(epoch(Batches(*numbered(xp), 7, stream=Stream(1, "s"))))
    expected = np.concatenate(epoch(Batches(*numbered(np), 7, stream=Stream(1, "s"))))
    np.testing.assert_array_equal(order, expected)


def test_batches_drop_the_last(xp):
    batches = Batches(*numbered(xp), 16, drop_last=True)
    assert [len(y) for y in epoch(batches)] == [16, 16, 16]
    assert len(batches) == 3 and batches.examples == 48


@pytest.mark.parametrize("stream", [None, Stream(0, "shuffle")])
def test_batches_take_only_their_indices(xp, stream):
    indices = np.array([40, 3, 17, 5])
    batches = Batches(*numbered(xp), 3, indices=indices, stream=stream)
    seen = np.concatenate(epoch(batches))
    assert len(batches) == 2 and batches.examples == 4
    np.testing.assert_array_equal(
        seen if stream is None else np.sort(seen), indices if stream is None else np.sort(indices)
    )


def test_batches_apply_augmentations_in_turn(xp):
    x, y = numbered(xp)
    calls = []

    def spy(x, labels, rng):
        calls.append(rng)
        return x, labels + 100 * len(calls)

    stream = Stream(0, "augment")
    batches = Batches(x, y, 25, augment=[spy, spy], augment_stream=stream)
    assert [int(labels[0]) for _, labels in batches] == [300, 725]
    assert calls[0] is calls[1] and calls[2] is calls[3] and calls[0] is not calls[2]
    assert stream.position == 2


def test_batches_repeat_their_augmentation(xp):
    rng = np.random.default_rng(0)
    x = xp.asarray(rng.integers(0, 256, (20, 4, 4, 3), dtype=np.uint8))
    before = to_numpy(x).copy()

    def run():
        stream = Stream(0, "augment")
        batches = Batches(x, xp.arange(20), 8, augment=[RandomFlip()], augment_stream=stream)
        return np.concatenate([to_numpy(x) for x, _ in batches])

    np.testing.assert_array_equal(run(), run())
    assert (run() != before).any()
    np.testing.assert_array_equal(to_numpy(x), before)


def mirrored_in(batches):
    """Which pictures of an epoch came mirrored, in the order of the data set."""
    seen = {}
    for x, y in batches:
        left, right = to_numpy(x)[:, 0, 0, 0], to_numpy(x)[:, 0, 1, 0]
        assert (abs(left.astype(int) - right) == 1).all()
        seen |= dict(zip(to_numpy(y).tolist(), (left > right).tolist(), strict=True))
    return [seen[label] for label in sorted(seen)]


def sided(xp, n=50):
    """Pictures that are brighter at the right."""
    x, y = numbered(xp, n)
    x[:, :, 1] += 1
    return x, y


def test_batches_alternate_flips_over_the_epochs(xp):
    """The k-th epoch is the other way round than the one before, however it is cut and resumed."""

    def batches(size=8, position=0, **options):
        streams = Stream(3, "shuffle", position), Stream(3, "augment")
        return Batches(
            *sided(xp), size, stream=streams[0], augment=[AlternatingFlip()],
            augment_stream=streams[1], **options,
        )  # fmt: skip

    run = batches()
    first, second, third = mirrored_in(run), mirrored_in(run), mirrored_in(run)
    assert 12 < sum(first) < 38
    assert second == [not flip for flip in first] and third == first
    for k, epoch in enumerate((first, second, third)):
        assert mirrored_in(batches(size=7 + k, position=k)) == epoch
        rest = batches(position=k)
        of_all = [x for x, _ in batches(position=k)]
        for x, again in zip(of_all[3:], rest.epoch(done=24), strict=True):
            np.testing.assert_array_equal(to_numpy(x), to_numpy(again[0]))
    rows = np.array([40, 3, 17, 5])
    few = batches(indices=rows)
    assert mirrored_in(few) == [first[n] for n in sorted(rows)]


def test_batches_ask_what_depends_on_the_epoch(xp):
    told = []

    class Ask:
        def for_epoch(self, epoch, count, seed, library):
            told.append((epoch, count, seed, library))
            return lambda x, labels, rng: (x, labels + 100 * epoch)

        def __call__(self, x, labels, rng):
            raise AssertionError

    run = Batches(
        *numbered(xp), 25, stream=Stream(1, "s", 4), augment=[Ask()], augment_stream=Stream(2, "a")
    )
    assert [int(labels.min()) >= 400 for _, labels in run] == [True, True]
    assert [int(labels.min()) >= 500 for _, labels in run] == [True, True]
    assert told == [(4, 50, 2, xp), (5, 50, 2, xp)]


@pytest.mark.parametrize(
    "change, message",
    [
        (
            {"augment": [AlternatingFlip()], "augment_stream": Stream(0, "a")},
            "has to know the epoch",
        ),
        ({"y": np.zeros(3, int)}, "50 pictures but 3 labels"),
        ({"batch_size": 0}, "batch_size 0"),
        ({"batch_size": 2.0}, r"batch_size 2\.0"),
        ({"batch_size": 51, "drop_last": True}, "50 examples make no batch of 51"),
        ({"indices": np.array([], int)}, "0 examples make no batch"),
        ({"indices": np.array([0, 50])}, "indices go from 0 to 50, expected 0 to 49"),
        ({"indices": np.array([-1])}, "indices go from -1"),
        ({"indices": np.array([0.0])}, "expected integers"),
        ({"indices": np.ones(50, bool)}, "expected integers"),
        ({"augment": [RandomFlip()]}, "augment_stream"),
    ],
)
def test_batches_refuse_what_does_not_fit(change, message):
    x, y = numbered(np)
    with pytest.raises(ValueError, match=message):
        Batches(**({"x": x, "y": y, "batch_size": 8} | change))


def test_stratified_split_keeps_proportions():
    y = np.random.default_rng(0).permutation(np.repeat([0, 1, 2], [100, 40, 11]))
    train, validation = stratified_split(y, 0.1, Stream(0, "split"))
    assert np.bincount(y[validation]).tolist() == [10, 4, 1]
    for part in (train, validation):
        assert part.dtype == np.int64 and (np.diff(part) > 0).all()
    np.testing.assert_array_equal(np.sort(np.concatenate([train, validation])), np.arange(151))


def test_stratified_split_depends_on_the_seed_alone(xp):
    y = np.arange(200) % 10
    _, first = stratified_split(y, 0.2, Stream(0, "split"))
    _, again = stratified_split(xp.asarray(y), 0.2, Stream(0, "split"))
    _, other = stratified_split(y, 0.2, Stream(1, "split"))
    np.testing.assert_array_equal(first, again)
    assert (first != other).any()


@pytest.mark.parametrize("fraction", [0.01, 0.5, 0.99])
def test_stratified_split_leaves_each_class_on_both_sides(fraction):
    y = np.array([5, 5, 5, 9, 9])
    for part in stratified_split(y, fraction, Stream(0, "split")):
        assert set(y[part]) == {5, 9}


@pytest.mark.parametrize(
    "y, fraction, message",
    [
        ([0, 0, 1, 1], 0, "fraction 0"),
        ([0, 0, 1, 1], 1.0, r"fraction 1\.0"),
        ([0, 0, 1, 1], float("nan"), "fraction nan"),
        ([0, 0, 1], 0.5, "class 1 has one example"),
        ([], 0.5, "expected integers"),
        ([0.0, 1.0], 0.5, "expected integers"),
        ([[0, 1], [0, 1]], 0.5, "expected integers"),
    ],
)
def test_stratified_split_refuses_what_does_not_fit(y, fraction, message):
    with pytest.raises(ValueError, match=message):
        stratified_split(np.array(y), fraction, Stream(0, "split"))
