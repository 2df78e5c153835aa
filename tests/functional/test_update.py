from __future__ import annotations

from math import sqrt

import numpy as np
import pytest

from minicnn.functional import update as f

pytestmark = pytest.mark.usefixtures("body")

STEPS, SIZE = 10, 6
LIMITS = {"float64": {"rtol": 1e-12, "atol": 1e-14}, "float32": {"rtol": 2e-5, "atol": 1e-6}}


def sgd(w, grads, lr=0.1):
    for g in grads:
        w = w - lr * g
    return w


def momentum(w, grads, lr=0.1, mu=0.9):
    v = 0.0
    for g in grads:
        v = mu * v + g
        w = w - lr * v
    return w


def nesterov(w, grads, lr=0.1, mu=0.9):
    v = 0.0
    for g in grads:
        v = mu * v + g
        w = w - lr * (g + mu * v)
    return w


def rmsprop(w, grads, lr=0.01, rho=0.8, eps=1e-3):
    s = 0.0
    for g in grads:
        s = rho * s + (1 - rho) * g * g
        w = w - lr * g / (sqrt(s) + eps)
    return w


def adam(w, grads, lr=0.01, beta1=0.8, beta2=0.95, eps=1e-3):
    m = s = 0.0
    for t, g in enumerate(grads, start=1):
        m = beta1 * m + (1 - beta1) * g
        s = beta2 * s + (1 - beta2) * g * g
        w = w - lr * (m / (1 - beta1**t)) / (sqrt(s / (1 - beta2**t)) + eps)
    return w


def adamw(w, grads, lr=0.01, beta1=0.8, beta2=0.95, eps=1e-3):
    m = s = 0.0
    for t, g in enumerate(grads, start=1):
        m = beta1 * m + (1 - beta1) * g
        s = beta2 * s + (1 - beta2) * g * g
        w = w - lr * 0.3 * w
        w = w - lr * (m / (1 - beta1**t)) / (sqrt(s / (1 - beta2**t)) + eps)
    return w


def average(w, grads, decay=0.7):
    a = w
    for g in grads:
        a = decay * a + (1 - decay) * g  # the "gradients" stand for weights here
    return a


def step_adamw(w, g, m, s, t):
    f.decay_update(w, 0.01 * 0.3)
    f.adam_update(w, g, m, s, t, 0.01, 0.8, 0.95, 1e-3)


RULES = {  # textbook, one step of ours: (w, gradient, two arrays of memory, number of the step)
    "sgd": (sgd, lambda w, g, m, s, t: f.sgd_update(w, g, 0.1)),
    "momentum": (momentum, lambda w, g, m, s, t: f.momentum_update(w, g, m, 0.1, 0.9)),
    "nesterov": (nesterov, lambda w, g, m, s, t: f.momentum_update(w, g, m, 0.1, 0.9, True)),
    "rmsprop": (rmsprop, lambda w, g, m, s, t: f.rmsprop_update(w, g, s, 0.01, 0.8, 1e-3)),
    "adam": (adam, lambda w, g, m, s, t: f.adam_update(w, g, m, s, t, 0.01, 0.8, 0.95, 1e-3)),
    "adamw": (adamw, step_adamw),
    "average": (average, lambda w, g, m, s, t: f.average_update(w, g, 0.7)),
}


@pytest.mark.parametrize("dtype", LIMITS)
@pytest.mark.parametrize("name", RULES)
def test_update_follows_the_textbook(backend, rng, name, dtype):
    textbook, step = RULES[name]
    start, grads = rng.standard_normal(SIZE), rng.standard_normal((STEPS, SIZE))
    w = backend.array(start.astype(dtype))
    memory = [backend.xp.zeros_like(w) for _ in range(2)]
    for t, g in enumerate(grads, start=1):
        dw = backend.array(g.astype(dtype))
        before = dw.copy()
        step(w, dw, *memory, t)
        assert bool((dw == before).all()), "the gradient was modified"
    assert w.dtype == dtype
    assert all(array.dtype == dtype for array in memory)
    expected = [textbook(w0, g) for w0, g in zip(start.tolist(), grads.T.tolist(), strict=True)]
    np.testing.assert_allclose(backend.numpy(w), expected, **LIMITS[dtype])


@pytest.mark.parametrize("name", RULES)
def test_update_works_in_place(backend, name):
    """The flat buffers' views must see the step."""
    flat = backend.array(np.ones(4))
    step = RULES[name][1]
    step(flat[1:3], backend.array(np.array([1.0, -2.0])), *backend.xp.zeros((2, 2)), 1)
    w = backend.numpy(flat)
    assert w[0] == w[3] == 1.0
    assert (w[2] != 1.0) and (w[1] != 1.0 or name == "average")


@pytest.mark.parametrize("name", sorted(set(RULES) - {"average"}))
def test_update_leaves_zeros_without_gradient_zero(backend, name):
    """What lies between the parameters in the flat buffers stays zero, with no 0 / 0."""
    w = backend.array(np.zeros(3, "float32"))
    memory = [backend.xp.zeros_like(w) for _ in range(2)]
    for t in (1, 2):
        RULES[name][1](w, backend.xp.zeros_like(w), *memory, t)
    np.testing.assert_array_equal(backend.numpy(w), 0)


def test_adam_first_step_is_lr_whatever_the_gradient(backend):
    w = backend.array(np.zeros(3))
    m, s = backend.xp.zeros((2, 3))
    f.adam_update(w, backend.array(np.array([1e-3, -5.0, 1e3])), m, s, 1, 0.1, 0.9, 0.999, 1e-12)
    np.testing.assert_allclose(backend.numpy(w), [-0.1, 0.1, -0.1], rtol=1e-8)


def test_lookahead_meets_between(backend):
    slow, w = backend.array(np.array([1.0, -2.0, 0.0])), backend.array(np.array([5.0, 2.0, 0.0]))
    assert f.lookahead_update(slow, w, 0.75) is None
    for array in (slow, w):
        np.testing.assert_allclose(backend.numpy(array), [2.0, -1.0, 0.0], rtol=1e-12)
