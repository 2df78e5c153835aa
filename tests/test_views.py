"""Test-time augmentation: the mean over views that are made here by padding and cutting."""

from __future__ import annotations

import numpy as np
import pytest

import minicnn as mc

SHAPE, CLASSES = (6, 7, 3), 4
TTA = ["flip", "flip+shift"]


def net(kind="uint8", *more):
    start = [mc.Normalize(0.5, 0.25)] if kind == "uint8" else []
    layers = [mc.Conv2D(5, 3), mc.BatchNorm(), mc.ReLU(), mc.Flatten(), mc.Dense(CLASSES), *more]
    model = mc.Sequential(*start, *layers).build(SHAPE, seed=2, dtype="float64")
    for array in model.state.values():
        array[...] += 0.1
    return model


def pictures(kind="uint8", n=23):
    rng = np.random.default_rng(3)
    x = rng.integers(0, 256, (n, *SHAPE)).astype("uint8")
    return x if kind == "uint8" else rng.standard_normal(x.shape), rng.integers(0, CLASSES, n)


def views(x, tta):
    """Every view and its weight."""
    H, W, _ = SHAPE
    padded = np.pad(x, ((0, 0), (1, 1), (1, 1), (0, 0)), mode="reflect")
    shifted = [padded[:, :H, :W], padded[:, 2:, 2:]]
    found = [(0.5, x)] if tta == "flip" else [(0.25, x), *((0.125, one) for one in shifted)]
    return found + [(weight, one[:, :, ::-1]) for weight, one in found]


def mean_logits(model, x, tta):
    assert sum(weight for weight, _ in views(x, tta)) == 1
    return sum(weight * model.forward(np.ascontiguousarray(one)) for weight, one in views(x, tta))


def softmax(y):
    e = np.exp(y - y.max(axis=1, keepdims=True))
    return e / e.sum(axis=1, keepdims=True)


@pytest.mark.parametrize("tta", TTA)
@pytest.mark.parametrize("kind", ["uint8", "float"])
def test_predict_averages_the_logits_of_all_views(kind, tta):
    model, (x, _) = net(kind), pictures(kind)
    before = x.copy()
    wanted = softmax(mean_logits(model, x, tta))
    for size in (256, 5):
        np.testing.assert_allclose(mc.predict(model, x, size, tta=tta), wanted, rtol=1e-10)
    assert np.abs(wanted - mc.predict(model, x)).max() > 1e-3
    np.testing.assert_array_equal(x, before)


@pytest.mark.parametrize("tta", TTA)
def test_evaluate_takes_the_loss_of_the_mean_logits(tta):
    model, (x, y) = net(), pictures()
    rows = np.array([3, 0, 19, 8, 8])
    for indices, used in ((None, np.arange(len(x))), (rows, rows)):
        logits = mean_logits(model, x[used], tta)
        loss, _ = mc.CrossEntropy()(logits, y[used])
        scores = mc.evaluate(model, x, y, 4, indices=indices, tta=tta)
        right = (logits.argmax(axis=1) == y[used]).mean()
        assert scores["loss"] == pytest.approx(float(loss), rel=1e-10)
        assert scores["accuracy"] == right
        np.testing.assert_allclose(scores.probabilities, softmax(logits), rtol=1e-10)


@pytest.mark.parametrize("tta", TTA)
def test_predict_with_softmax_inside_is_the_same(tta):
    x, _ = pictures()
    wanted = mc.predict(net(), x, tta=tta)
    np.testing.assert_allclose(mc.predict(net("uint8", mc.Softmax()), x, tta=tta), wanted, 1e-10)


def test_predict_of_certain_views_stays_finite():
    model = net("float", mc.Softmax())
    model.params.data[...] *= 1e6
    probabilities = mc.predict(model, pictures("float")[0], tta="flip")
    np.testing.assert_allclose(probabilities.sum(axis=1), 1)


def test_mirrored_picture_is_predicted_alike():
    model, (x, _) = net(), pictures()
    mirrored = mc.predict(model, x[:, :, ::-1], tta="flip")
    np.testing.assert_allclose(mirrored, mc.predict(model, x, tta="flip"), rtol=1e-10)


@pytest.mark.parametrize("tta", ["Flip", "", True, 2, ["flip"]])
def test_views_that_there_are_not_are_refused(tta):
    model, (x, y) = net(), pictures()
    with pytest.raises(ValueError, match=r"tta .*: expected None, 'flip' or 'flip\+shift'"):
        mc.predict(model, x, tta=tta)
    with pytest.raises(ValueError, match="tta"):
        mc.evaluate(model, x, y, tta=tta)


def test_views_of_what_is_no_picture_are_refused():
    model = mc.Sequential(mc.Dense(3)).build((5,))
    with pytest.raises(ValueError, match=r"is for pictures.*the model takes \(5,\)"):
        mc.predict(model, np.zeros((2, 5)), tta="flip")


def test_views_of_answers_that_have_a_place_are_refused():
    """A map of a mirrored picture is mirrored itself; it can't be averaged as it is."""
    model = mc.Sequential(mc.Conv2D(4, 3, padding="same")).build((6, 7, 3))
    x = np.zeros((2, 6, 7, 3), "float32")
    assert mc.predict(model, x).shape == (2, 6, 7, 4)
    with pytest.raises(ValueError, match=r"whole pictures, \(K,\); the model's are \(6, 7, 4\)"):
        mc.predict(model, x, tta="flip")
