from __future__ import annotations

import numpy as np
import pytest

import minicnn as mc
from minicnn.backend import Device
from minicnn.params import Declaration, Parameters


def parameters(dtype="float64"):
    """A weight that decay applies to, between two that it spares."""
    declared = {
        "a/b": Declaration((3,), "ones", decay=False),
        "a/w": Declaration((4, 3), "he_normal"),
        "n/gamma": Declaration((5,), "ones", decay=False),
    }
    return Parameters(declared, np.random.default_rng(0), Device("cpu"), dtype)


def gradients(params, step, size=1.0):
    """Write the gradients of this step into the buffers, and return them by name."""
    rng = np.random.default_rng(100 + step)
    for grad in params.grads.values():
        grad[...] = size * rng.standard_normal(grad.shape)
    return {name: grad.copy() for name, grad in params.grads.items()}


# The textbook: one parameter at a time, loops over steps, no buffers.


def sgd(w, g, memory, t, lr, **o):
    return w - lr * g


def momentum(w, g, memory, t, lr, **o):
    memory["v"] = 0.9 * memory.get("v", 0) + g
    return w - lr * memory["v"]


def nesterov(w, g, memory, t, lr, **o):
    memory["v"] = 0.9 * memory.get("v", 0) + g
    return w - lr * (g + 0.9 * memory["v"])


def rmsprop(w, g, memory, t, lr, **o):
    memory["s"] = 0.8 * memory.get("s", 0) + 0.2 * g**2
    return w - lr * g / (np.sqrt(memory["s"]) + 1e-6)


def adam(w, g, memory, t, lr, **o):
    memory["m"] = 0.8 * memory.get("m", 0) + 0.2 * g
    memory["s"] = 0.95 * memory.get("s", 0) + 0.05 * g**2
    m, s = memory["m"] / (1 - 0.8**t), memory["s"] / (1 - 0.95**t)
    return w - lr * m / (np.sqrt(s) + 1e-7)


RULES = {
    "sgd": (lambda **o: mc.SGD(0.1, **o), sgd),
    "momentum": (lambda **o: mc.SGD(0.1, 0.9, **o), momentum),
    "nesterov": (lambda **o: mc.SGD(0.1, 0.9, nesterov=True, **o), nesterov),
    "rmsprop": (lambda **o: mc.RMSprop(0.1, 0.8, 1e-6, **o), rmsprop),
    "adam": (lambda **o: mc.Adam(0.1, 0.8, 0.95, 1e-7, **o), adam),
    "adamw": (lambda **o: mc.AdamW(0.1, 0.8, 0.95, 1e-7, **o), adam),
}

DECAYS = {
    "none": {"weight_decay": 0.0},
    "weights": {"weight_decay": 0.3},
    "all": {"weight_decay": 0.3, "decay_all": True},
}


@pytest.mark.parametrize("decay", DECAYS)
@pytest.mark.parametrize("name", RULES)
def test_optimizer_is_the_textbook(name, decay):
    make, rule = RULES[name]
    optimizer, params = make(**DECAYS[decay]), parameters()
    w = {key: view.copy() for key, view in params.items()}
    memory = {key: {} for key in w}
    for t in range(1, 11):
        grads = gradients(params, t)
        for key, g in grads.items():
            amount = 0.0 if decay == "none" or (decay == "weights" and key != "a/w") else 0.3
            if name == "adamw":
                w[key] = w[key] * (1 - 0.1 * amount)
            else:
                g = g + amount * w[key]
            w[key] = rule(w[key], g, memory[key], t, 0.1)
        optimizer.step(params)
        for key, g in grads.items():
            np.testing.assert_array_equal(params.grads[key], g)  # the gradients stay
    for key, expected in w.items():
        np.testing.assert_allclose(params[key], expected, rtol=1e-12, err_msg=key)
    assert optimizer.steps == 10


@pytest.mark.parametrize("name", RULES)
def test_optimizer_leaves_the_gaps_zero(name):
    optimizer, params = RULES[name][0](weight_decay=0.1, decay_all=True), parameters("float32")
    inside = np.zeros(params.data.shape, bool)
    for view in mc.params.Views(inside, {k: _slot(params, k) for k in params}).values():
        view[...] = True
    assert not inside.all()
    for t in range(3):
        gradients(params, t)
        optimizer.step(params)
    assert not params.data[~inside].any()
    assert params.data.dtype == np.float32
    assert {array.dtype.name for array in optimizer.memory.values()} <= {"float32"}


def _slot(params, name):
    start = (params[name].__array_interface__["data"][0] - params.data.ctypes.data) // 4
    return slice(start, start + params[name].size), params[name].shape


def test_adamw_decays_by_default_and_spares_biases():
    params = parameters()
    before = {name: view.copy() for name, view in params.items()}
    params.grad[...] = 0
    mc.AdamW(0.5).step(params)
    np.testing.assert_allclose(params["a/w"], before["a/w"] * (1 - 0.5 * 0.01), rtol=1e-12)
    np.testing.assert_array_equal(params["a/b"], before["a/b"])
    np.testing.assert_array_equal(params["n/gamma"], before["n/gamma"])


# Clipping.


@pytest.mark.parametrize(("size", "limit"), [(10.0, 2.0), (0.01, 2.0)])
def test_clipping_is_exact(size, limit):
    params = parameters()
    before = params.data.copy()
    gradients(params, 0, size)
    norm = np.sqrt((params.grad**2).sum())
    mc.SGD(1.0, global_clipnorm=limit).step(params)
    step = before - params.data
    np.testing.assert_allclose(np.sqrt((step**2).sum()), min(norm, limit), rtol=1e-12)
    np.testing.assert_allclose(step, params.grad * min(1, limit / norm), rtol=1e-9)


def test_clipping_bears_a_zero_gradient():
    params = parameters()
    before = params.data.copy()
    params.grad[...] = 0
    mc.SGD(1.0, global_clipnorm=1.0).step(params)
    np.testing.assert_array_equal(params.data, before)


def test_clipping_comes_before_decay():
    params = parameters()
    before = params["a/w"].copy()
    params.grad[...] = 0
    mc.SGD(1.0, global_clipnorm=1e-6, weight_decay=0.25).step(params)
    np.testing.assert_allclose(params["a/w"], before * 0.75, rtol=1e-12)


# The average of the weights.


def test_average_is_exact():
    params, optimizer = parameters(), mc.SGD(0.1, ema_decay=0.75)
    average = params.data.copy()
    for t in range(5):
        gradients(params, t)
        optimizer.step(params)
        average = 0.75 * average + 0.25 * params.data
    own = params.data.copy()
    with optimizer.averaged_weights(params):
        np.testing.assert_allclose(params.data, average, rtol=1e-12)
        assert (params["a/w"] != own[:12].reshape(4, 3)).any()
    np.testing.assert_array_equal(params.data, own)


def test_averaged_weights_are_restored_after_an_error():
    params, optimizer = parameters(), mc.SGD(0.1, ema_decay=0.5)
    gradients(params, 0)
    optimizer.step(params)
    own, average = params.data.copy(), optimizer.memory["average"].copy()
    with pytest.raises(KeyError), optimizer.averaged_weights(params):
        raise KeyError("in the block")
    np.testing.assert_array_equal(params.data, own)
    np.testing.assert_array_equal(optimizer.memory["average"], average)


@pytest.mark.parametrize("optimizer", [mc.SGD(0.1), mc.SGD(0.1, ema_decay=0.5)])
def test_averaged_weights_need_an_average(optimizer):
    own = optimizer.averaged_weights(parameters())
    with pytest.raises(ValueError, match="no averaged weights: give ema_decay, and take a step"):
        own.__enter__()


# The learning rate.


def test_schedule_gives_the_rate_of_each_step():
    params, rates = parameters(), [0.1, 0.01, 0.5]
    optimizer = mc.SGD(lambda step: rates[step])
    for rate in rates:
        before, _ = params.data.copy(), gradients(params, 0)
        assert optimizer.current_lr == rate
        optimizer.step(params)
        np.testing.assert_allclose(before - params.data, rate * params.grad, rtol=1e-9, atol=1e-15)


# Errors.


@pytest.mark.parametrize("make", [mc.Adam, mc.RMSprop, lambda: mc.SGD(0.1, 0.9)])
def test_optimizer_refuses_another_model(make):
    optimizer = make()
    optimizer.step(parameters())
    other = mc.Sequential(mc.Dense(50)).build((50,), dtype="float64").params
    with pytest.raises(ValueError, match=r"(Adam|RMSprop|SGD): its .* One optimizer goes with one"):
        optimizer.step(other)
    with pytest.raises(ValueError, match=r"One optimizer goes with one model"):
        optimizer.step(parameters("float32"))
    assert optimizer.steps == 1


@pytest.mark.parametrize(
    ("make", "text"),
    [
        (lambda: mc.SGD(-0.1), "lr -0.1: expected a number >= 0"),
        (lambda: mc.SGD("0.1"), "lr '0.1'"),
        (lambda: mc.SGD(True), "lr True"),
        (lambda: mc.SGD(float("nan")), "lr nan"),
        (lambda: mc.SGD(float("inf")), "lr inf"),
        (lambda: mc.SGD(0.1, momentum=1.0), "momentum 1.0: expected a number >= 0 and < 1"),
        (lambda: mc.SGD(0.1, nesterov=True), "nesterov looks ahead along the momentum, which is 0"),
        (lambda: mc.Adam(beta1=1.0), "beta1 1.0"),
        (lambda: mc.Adam(beta2=-0.1), "beta2 -0.1"),
        (lambda: mc.RMSprop(rho=1.0), "rho 1.0"),
        (lambda: mc.Adam(weight_decay=-1), "weight_decay -1"),
        (lambda: mc.Adam(global_clipnorm=0), "global_clipnorm 0: expected a number > 0"),
        (lambda: mc.Adam(ema_decay=1.0), "ema_decay 1.0: expected a number >= 0 and < 1"),
    ],
)
def test_optimizer_refuses_options(make, text):
    with pytest.raises(ValueError, match=text):
        make()
