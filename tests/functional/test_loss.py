from __future__ import annotations

import naive
import numpy as np
import pytest

from minicnn.functional.loss import (
    mean_squared_error_backward,
    mean_squared_error_forward,
    penalty_backward,
    penalty_forward,
    softmax_cross_entropy_backward,
    softmax_cross_entropy_forward,
)

from .pairs import TOLERANCE, assert_small_cache, check_gradient, check_pair

WEIGHTS = np.array([0.5, 2.0, 1.0, 0.25])
OPTIONS = {
    "plain": {},
    "label smoothing": {"label_smoothing": 0.1},
    "class weights": {"class_weight": WEIGHTS},
    "both": {"label_smoothing": 0.3, "class_weight": WEIGHTS},
}


def targets(rng, kind, N, K=4):
    if kind == "class ids":
        return rng.integers(0, K, N)
    soft = rng.random((N, K))
    return soft / soft.sum(axis=1, keepdims=True)


def bound(options, backend=None):
    """The loss with its options, class weights in the backend's library."""
    options = dict(options)
    if backend is not None and "class_weight" in options:
        options["class_weight"] = backend.array(options["class_weight"])

    def cross_entropy(logits, labels):
        return softmax_cross_entropy_forward(logits, labels, **options)

    return cross_entropy


@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize("kind", ["class ids", "distributions"])
@pytest.mark.parametrize("case", OPTIONS)
@pytest.mark.parametrize("N", [1, 5])
def test_softmax_cross_entropy_matches_loops(backend, rng, N, case, kind, dtype):
    logits, labels = 3 * rng.standard_normal((N, 4)), targets(rng, kind, N)
    x = backend.array(logits.astype(dtype))
    before = x.copy()
    loss, cache = bound(OPTIONS[case], backend)(x, backend.array(labels))
    dlogits = softmax_cross_entropy_backward(backend.xp.ones_like(loss), cache)
    assert loss.shape == ()
    assert loss.dtype == dlogits.dtype == dtype
    assert dlogits.shape == x.shape
    assert bool((x == before).all())
    expected = naive.softmax_cross_entropy(logits, labels, **OPTIONS[case])
    np.testing.assert_allclose(backend.numpy(loss), expected, **TOLERANCE[dtype])

    exact, cache = bound(OPTIONS[case])(logits, labels)
    expected = softmax_cross_entropy_backward(np.ones_like(exact), cache)
    np.testing.assert_allclose(backend.numpy(dlogits), expected, **TOLERANCE[dtype])


@pytest.mark.parametrize("kind", ["class ids", "distributions"])
@pytest.mark.parametrize("case", OPTIONS)
@pytest.mark.parametrize("N", [1, 5])
def test_softmax_cross_entropy_gradient(rng, N, case, kind):
    logits, labels = 3 * rng.standard_normal((N, 4)), targets(rng, kind, N)
    loss = bound(OPTIONS[case])
    if kind == "class ids":
        check_gradient(loss, softmax_cross_entropy_backward, [logits, labels])
    else:
        forward = lambda logits: loss(logits, labels)  # noqa: E731
        check_gradient(forward, softmax_cross_entropy_backward, [logits])


def test_softmax_cross_entropy_gradient_scales_with_dloss(backend, rng):
    logits, labels = backend.array(rng.standard_normal((3, 4))), backend.array(np.array([0, 1, 3]))
    loss, cache = softmax_cross_entropy_forward(logits, labels)
    one = backend.numpy(softmax_cross_entropy_backward(backend.xp.ones_like(loss), cache))
    many = softmax_cross_entropy_backward(backend.xp.ones_like(loss) * -2.5, cache)
    np.testing.assert_allclose(backend.numpy(many), -2.5 * one, rtol=1e-14)


def test_softmax_cross_entropy_averages_over_the_batch(rng):
    """The same pictures twice: the same loss, and half the gradient for each."""
    logits, labels = rng.standard_normal((3, 4)), np.array([2, 0, 1])
    once, cache = softmax_cross_entropy_forward(logits, labels)
    twice, cache2 = softmax_cross_entropy_forward(np.tile(logits, (2, 1)), np.tile(labels, 2))
    assert twice == pytest.approx(float(once), rel=1e-14)
    d, d2 = (softmax_cross_entropy_backward(np.ones(()), c) for c in (cache, cache2))
    np.testing.assert_allclose(2 * d2, np.tile(d, (2, 1)), rtol=1e-12)


def test_softmax_cross_entropy_mean_is_over_pictures_not_weights():
    """Two pictures of equal logits and class weights 1 and 3: mean (1 + 3) / 2 times log 2."""
    loss, _ = softmax_cross_entropy_forward(
        np.zeros((2, 2)), np.array([0, 1]), class_weight=np.array([1.0, 3.0])
    )
    assert float(loss) == pytest.approx(2 * np.log(2), rel=1e-14)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_softmax_cross_entropy_of_large_logits_stays_finite(backend, dtype):
    logits = backend.array(np.array([[1e4, -1e4, 0], [-1e4, 1e4, 0]], dtype))
    loss, cache = softmax_cross_entropy_forward(logits, backend.array(np.array([0, 0])))
    dlogits = softmax_cross_entropy_backward(backend.xp.ones_like(loss), cache)
    assert float(loss) == pytest.approx(1e4, rel=1e-6)  # the mean of 0 and 2e4
    np.testing.assert_array_equal(backend.numpy(dlogits), [[0, 0, 0], [-0.5, 0.5, 0]])


def test_softmax_cross_entropy_takes_each_row_for_itself(backend):
    """A row far below the others mustn't vanish: every row has its own maximum."""
    logits = backend.array(np.array([[1e4, 1e4], [-1e4, -1e4]]))
    loss, _ = softmax_cross_entropy_forward(logits, backend.array(np.array([0, 1])))
    assert float(loss) == pytest.approx(np.log(2), rel=1e-12)


def test_softmax_cross_entropy_ignores_a_common_shift(rng):
    logits, labels = rng.standard_normal((3, 4)), np.array([2, 0, 1])
    loss, _ = softmax_cross_entropy_forward(logits, labels)
    moved, _ = softmax_cross_entropy_forward(logits + 512.0, labels)
    assert float(moved) == pytest.approx(float(loss), rel=1e-12)


@pytest.mark.parametrize("dtype", ["uint8", "int32", "int64"])
def test_softmax_cross_entropy_takes_any_integer_labels(backend, dtype):
    labels = backend.array(np.array([0, 2], dtype))
    loss, _ = softmax_cross_entropy_forward(backend.array(np.zeros((2, 3), "float32")), labels)
    assert loss.dtype == "float32"
    assert float(loss) == pytest.approx(np.log(3), rel=1e-6)


def test_softmax_cross_entropy_cache_is_small(rng):
    logits = rng.standard_normal((6, 4))
    assert_small_cache(
        softmax_cross_entropy_forward,
        [logits, np.zeros(6, int)],
        extra=logits.nbytes,  # log p and the targets
        label_smoothing=0.1,
        class_weight=WEIGHTS,
    )


@pytest.mark.parametrize("shape", [(1,), (3, 4), (2, 3, 4)])
def test_mean_squared_error_matches_loops(backend, rng, shape):
    y, target = rng.standard_normal(shape), rng.standard_normal(shape)
    pairs = zip(y.ravel().tolist(), target.ravel().tolist(), strict=True)
    expected = np.array(sum((a - b) ** 2 for a, b in pairs) / y.size)
    pair = mean_squared_error_forward, mean_squared_error_backward
    check_pair(backend, *pair, [y, target], expected)
    check_gradient(lambda y: pair[0](y, target), pair[1], [y])


def test_softmax_cross_entropy_gradient_of_targets_that_dont_add_up_to_one(rng):
    """They shouldn't be given; if they are, the gradient is still that of the loss."""
    logits, target = rng.standard_normal((3, 4)), rng.random((3, 4)) + 0.5
    check_gradient(
        lambda logits: softmax_cross_entropy_forward(logits, target, 0.1),
        softmax_cross_entropy_backward,
        [logits],
    )


def test_mean_squared_error_keeps_float32_beside_a_float64_target(rng):
    y, target = rng.random((3, 4), dtype="float32"), rng.random((3, 4))
    value, cache = mean_squared_error_forward(y, target)
    assert value.dtype == mean_squared_error_backward(np.ones_like(value), cache).dtype == "float32"


def test_mean_squared_error_refuses_misfits():
    with pytest.raises(ValueError, match=r"y is \(2, 3\), but the target is \(3,\)"):
        mean_squared_error_forward(np.zeros((2, 3)), np.zeros(3))


@pytest.mark.parametrize("strength", [(0.0, 0.5), (0.3, 0.0), (0.3, 0.5)])
def test_penalty_matches_loops(backend, rng, strength):
    l1, l2 = strength
    w = rng.standard_normal((2, 3, 2))
    w += 0.05 * np.sign(w)
    expected = np.array(sum(l1 * abs(v) + l2 * v * v for v in w.ravel().tolist()))

    def forward(w):
        return penalty_forward(w, l1, l2)

    check_pair(backend, forward, penalty_backward, [w], expected)
    check_gradient(forward, penalty_backward, [w])


def test_penalty_gradient_of_l1_is_zero_at_zero(backend):
    loss, cache = penalty_forward(backend.array(np.zeros(2)), 0.5, 0.0)
    dw = penalty_backward(backend.xp.ones_like(loss), cache)
    np.testing.assert_array_equal(backend.numpy(dw), 0)


@pytest.mark.parametrize(
    "labels",
    [np.zeros(1, int), np.zeros((3, 1), int), np.zeros((3, 1)), np.zeros((1, 4)), np.zeros(4, int)],
    ids=lambda a: f"{a.shape} {a.dtype}",
)
def test_softmax_cross_entropy_refuses_labels_that_dont_fit(labels):
    """NumPy would stretch most of these over the batch, and the loss would be that of no target."""
    with pytest.raises(ValueError, match="labels"):
        softmax_cross_entropy_forward(np.zeros((3, 4)), labels)
