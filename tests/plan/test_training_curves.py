"""Training is the same, whichever way the convolutions are computed and the layers are run."""

from __future__ import annotations

import numpy as np
import pytest

import minicnn as mc
from minicnn.functional.activation import softmax_forward

BATCH, CLASSES = (
    64,
    (6, 7, 8, 9),
)  # few steps are enough to tell these four apart better than chance


@pytest.fixture(scope="module")
def pictures():
    """1,280 pictures to train on, 1,000 others."""
    x, y = mc.datasets.synthetic(5700, seed=3)
    chosen = np.isin(y, CLASSES)
    x, y = x[chosen], y[chosen] - CLASSES[0]
    return (x[1000:2280], y[1000:2280]), (x[:1000], y[:1000])


def tutorial(dtype="float32"):
    return mc.models.tutorial_cnn(len(CLASSES)).build((32, 32, 3), seed=7, dtype=dtype)


def with_batchnorm():
    return mc.Sequential(
        mc.Normalize(0.5, 0.25),
        mc.Conv2D(16, 3, padding="same"), mc.BatchNorm(), mc.ReLU(), mc.MaxPool2D(2),
        mc.Conv2D(24, 3, padding="same"), mc.BatchNorm(), mc.ReLU(), mc.MaxPool2D(2),
        mc.Residual([mc.Conv2D(24, 3, padding="same"), mc.BatchNorm()]), mc.ReLU(),
        mc.GlobalAveragePool2D(), mc.Dense(len(CLASSES)),
    ).build((32, 32, 3), seed=7)  # fmt: skip


def train(model, optimizer, pictures, steps, algorithm="auto"):
    """Return the losses of some steps."""
    (x, y), _ = pictures
    losses = []
    with mc.conv_algorithm(algorithm):
        for k in range(steps):
            start = k * BATCH % len(x)
            part = slice(start, start + BATCH)
            losses.append(float(mc.train_step(model, optimizer, x[part], y[part])))
    return np.array(losses)


@pytest.mark.parametrize("make", [tutorial, with_batchnorm])
def test_winograd_has_the_losses_of_direct(make, pictures):
    """But for rounding, as long as few ReLUs have seen a number from the other side of zero."""
    direct, winograd = (
        train(make(), mc.SGD(0.005, momentum=0.9), pictures, 10, algorithm)
        for algorithm in ("direct", "winograd")
    )
    np.testing.assert_allclose(winograd, direct, rtol=1e-4)


@pytest.mark.parametrize("make", [tutorial, with_batchnorm])
def test_winograd_learns_as_direct_does(make, pictures):
    """Each way finds weights of its own, as each seed does, and those are as good."""
    accuracies, weights = [], []
    for algorithm in ("direct", "winograd"):
        model, optimizer = make(), mc.Adam(1e-3, ema_decay=0.9)
        train(model, optimizer, pictures, 50, algorithm)
        weights.append(model.params.data)
        with mc.conv_algorithm(algorithm), optimizer.averaged_weights(model.params):
            accuracies.append(mc.evaluate(model, *pictures[1])["accuracy"])
    print("accuracy: direct {:.3f}, winograd {:.3f}".format(*accuracies))
    assert abs(accuracies[0] - accuracies[1]) < 0.03
    assert min(accuracies) > 0.35, "chance is 0.25"
    assert (weights[0] != weights[1]).any(), "both were computed in one way"


def test_threads_have_the_losses_of_one(pictures):
    losses = []
    for threads in (1, 2, 3):
        with mc.threads(threads):
            losses.append(train(tutorial(), mc.SGD(0.005, momentum=0.9), pictures, 10))
    np.testing.assert_allclose(losses[1], losses[0], rtol=1e-4)
    np.testing.assert_allclose(losses[2], losses[0], rtol=1e-4)


def by_hand(model, optimizer, x, y):
    """Take a step as a student would write it down."""
    logits = model.forward(x, training=True)
    p, _ = softmax_forward(logits)
    dlogits = (p - np.eye(p.shape[1], dtype=p.dtype)[y]) / len(y)
    model.backward_params(dlogits)
    optimizer.step(model.params)
    return -np.log(p[np.arange(len(y)), y]).mean()


@pytest.mark.parametrize(
    ("dtype", "limit", "optimizer"),
    [
        ("float32", 1e-4, lambda: mc.SGD(0.005, momentum=0.9)),
        ("float64", 1e-10, lambda: mc.Adam(1e-3)),
    ],
    ids=["float32", "float64"],
)
def test_train_step_is_what_one_does_by_hand(dtype, limit, optimizer, pictures):
    (x, y), _ = pictures
    planned, plain = tutorial(dtype), tutorial(dtype)
    steps, other_steps, start = optimizer(), optimizer(), planned.params.data.copy()
    for k in range(3):
        part = slice(k * 40, (k + 1) * 40)
        loss = mc.train_step(planned, steps, x[part], y[part])
        assert float(loss) == pytest.approx(
            by_hand(plain, other_steps, x[part], y[part]), rel=limit
        )
    moved = np.linalg.norm(plain.params.data - start)
    assert np.linalg.norm(planned.params.data - plain.params.data) < 10 * limit * moved
    assert steps.steps == other_steps.steps == 3


def test_fit_is_steps_by_hand(pictures):
    """Epochs whose last batch is smaller, without shuffling by chance: the same order."""
    (x, y), _ = pictures
    x, y = x[:100], y[:100]
    planned, plain = tutorial(), tutorial()
    seen, step = [], mc.train_step

    def noting(model, optimizer, x, labels, *rest):
        seen.append((x.copy(), labels.copy()))
        return step(model, optimizer, x, labels, *rest)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(mc.fitting, "train_step", noting)
        list(mc.fit(planned, x, y, optimizer=mc.SGD(0.02), epochs=2, batch_size=32, progress=False))
    assert [len(labels) for _, labels in seen] == [32, 32, 32, 4] * 2
    optimizer = mc.SGD(0.02)
    for batch in seen:
        by_hand(plain, optimizer, *batch)
    np.testing.assert_allclose(planned.params.data, plain.params.data, rtol=1e-4, atol=1e-6)
