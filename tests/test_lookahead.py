"""Lookahead: slow weights beside the optimizer's, and what is done with them at the end."""

from __future__ import annotations

import copy
import json

import numpy as np
import pytest
from test_optim import RULES, gradients, parameters

import minicnn as mc


@pytest.mark.parametrize("name", ["sgd", "momentum", "adamw"])
def test_lookahead_is_the_textbook(name):
    params, alone = parameters(), parameters()
    optimizer = RULES[name][0](lookahead=mc.Lookahead(every=3, decay=0.25))
    rule = RULES[name][0]()
    slow = alone.data.copy()
    for t in range(1, 8):
        for each, way in ((params, optimizer), (alone, rule)):
            gradients(each, t)
            way.step(each)
        if t % 3 == 0:
            slow = 0.25 * slow + 0.75 * alone.data
            alone.data[...] = slow
        np.testing.assert_allclose(params.data, alone.data, rtol=1e-12, atol=1e-15)
        np.testing.assert_allclose(optimizer.memory["slow"], slow, rtol=1e-12, atol=1e-15)


def test_decay_may_be_a_function_of_the_steps_done():
    seen = []

    def decay(step):
        seen.append(step)
        return 1.0 if step == 6 else 0.0

    params = parameters()
    optimizer = mc.SGD(0.1, lookahead=mc.Lookahead(2, decay))
    for t in range(6):
        gradients(params, t)
        optimizer.step(params)
        if t == 3:  # decay 0 takes the fast weights
            after_four = params.data.copy()
    assert seen == [2, 4, 6]
    np.testing.assert_array_equal(params.data, after_four)  # decay 1 the slow ones


def test_rise_is_a_power_of_the_share():
    decay = mc.schedule.rise(0.5, steps=10, power=3)
    assert [decay(0), decay(5), decay(10), decay(20)] == [0, 0.5 * 0.125, 0.5, 0.5]


def test_frozen_weights_stay_though_the_slow_ones_differ():
    params, optimizer = parameters(), mc.SGD(0.1, lookahead=mc.Lookahead(2), ema_decay=0.5)
    gradients(params, 0)
    optimizer.step(params)
    params.frozen, before = frozenset({"a/w"}), params["a/w"].copy()
    optimizer.step(params)
    np.testing.assert_array_equal(params["a/w"], before)
    optimizer.use_averaged(params, "slow")
    optimizer.use_averaged(params)
    np.testing.assert_array_equal(params["a/w"], before)


def test_weights_that_are_taken_for_good():
    params = parameters()
    optimizer = mc.SGD(0.1, lookahead=mc.Lookahead(3), ema_decay=0.5)
    for t in range(4):
        gradients(params, t)
        optimizer.step(params)
    slow, average = optimizer.memory["slow"].copy(), optimizer.memory["average"].copy()
    own = params.data.copy()
    with optimizer.averaged_weights(params, "slow"):
        np.testing.assert_array_equal(params.data, slow)
    np.testing.assert_array_equal(params.data, own)
    optimizer.use_averaged(params)
    np.testing.assert_array_equal(params.data, average)
    optimizer.use_averaged(params, "slow")
    np.testing.assert_array_equal(params.data, slow)
    assert not np.array_equal(slow, average)
    only = mc.SGD(0.1, lookahead=mc.Lookahead(3))
    params = parameters()
    only.step(params)
    only.use_averaged(params)
    np.testing.assert_array_equal(params.data, only.memory["slow"])
    with pytest.raises(ValueError, match="no average weights: give ema_decay"):
        only.use_averaged(params, "average")
    with pytest.raises(ValueError, match="no averaged weights: give ema_decay, and take a step"):
        mc.SGD(0.1).use_averaged(params)


def network(**options):
    layers = [mc.Normalize(), mc.Conv2D(4, 3), mc.ReLU(), mc.Flatten(), mc.Dense(10)]
    return mc.Sequential(*layers).build((8, 8, 3), seed=0, **options)


def data(N=96):
    x, y = mc.datasets.synthetic(N, seed=0)
    return x[:, 8:16, 8:16], y


def averaged():
    lookahead = mc.Lookahead(3, mc.schedule.rise(0.9, 20))
    return mc.AdamW(1e-2, lookahead=lookahead, ema_decay=0.9, lr_scale={"dense_1/*": 0.5})


def train(epochs, folder, model=None, optimizer=None):
    x, y = data()
    model, optimizer = model or network(), optimizer or averaged()
    for _ in mc.fit(model, x, y, optimizer=optimizer, epochs=epochs, batch_size=16,
                    checkpoint=folder):  # fmt: skip
        pass
    return model, optimizer


def test_run_that_is_taken_up_again_is_the_same_run(tmp_path):
    whole, one = train(3, tmp_path / "whole")
    train(1, tmp_path / "parts")
    again, other = train(3, tmp_path / "parts")
    np.testing.assert_array_equal(whole.params.data, again.params.data)
    assert one.memory.keys() == other.memory.keys() == {"m", "v", "average", "slow"}
    for kind, array in one.memory.items():
        np.testing.assert_array_equal(array, other.memory[kind])


def test_run_goes_on_with_other_factors_and_says_so(tmp_path):
    train(1, tmp_path)
    optimizer = averaged()
    optimizer.lr_scale = {"*/b": 2.0}
    text = r"going on with lr_scale {'\*/b': 2.0}, it was {'dense_1/\*': 0.5}"
    with pytest.warns(mc.CheckpointWarning, match=text):
        train(2, tmp_path, optimizer=optimizer)
    optimizer = averaged()
    optimizer.lookahead, optimizer.lr_scale = mc.Lookahead(4), {"*/b": 2.0}
    with pytest.warns(mc.CheckpointWarning, match="going on with lookahead {'every': 4, 'decay':"):
        train(3, tmp_path, optimizer=optimizer)


def test_run_goes_on_with_others_frozen_and_says_so(tmp_path):
    train(1, tmp_path)
    model = network()
    model["conv2d_1"].trainable = False
    text = r"going on with conv2d_1/b, conv2d_1/w frozen, which wasn't so before"
    with pytest.warns(mc.CheckpointWarning, match=text):
        train(2, tmp_path, model=model)
    with pytest.warns(mc.CheckpointWarning, match="going on with nothing frozen"):
        train(3, tmp_path)
    other = mc.Sequential(mc.Normalize(), mc.Flatten(), mc.Dense(10)).build((8, 8, 3))
    with pytest.raises(mc.CheckpointError, match="another architecture"):
        train(4, tmp_path, model=other)


def test_run_without_slow_weights_is_not_taken_up_with_them(tmp_path):
    train(1, tmp_path, optimizer=mc.SGD(0.1))
    with pytest.raises(mc.CheckpointError, match="lacks the optimizer's slow"):
        train(2, tmp_path, optimizer=mc.SGD(0.1, lookahead=mc.Lookahead()))


def test_older_states_are_taken_up_without_a_warning(tmp_path):
    """They say nothing of lr_scale and lookahead."""
    from minicnn.checkpoint.state import options

    optimizer = mc.SGD(0.1)
    found = options(optimizer)
    assert found["lr_scale"] is found["lookahead"] is None
    json.dumps(options(averaged()))


@pytest.mark.parametrize(
    ("make", "error", "text"),
    [
        (lambda: mc.Lookahead(0), ValueError, "every 0: expected an integer >= 1"),
        (lambda: mc.Lookahead(5, 1.5), ValueError, "decay 1.5: expected a number from 0 to 1"),
        (lambda: mc.Lookahead(5, -0.1), ValueError, "decay -0.1"),
        (lambda: mc.Lookahead(5, None), ValueError, "decay None"),
        (lambda: mc.SGD(lookahead=5), TypeError, "lookahead 5: expected a Lookahead"),
    ],
)
def test_options_that_cannot_be_are_refused(make, error, text):
    with pytest.raises(error, match=text):
        make()


def test_decay_that_becomes_impossible_is_refused():
    params, optimizer = parameters(), mc.SGD(lookahead=mc.Lookahead(1, lambda step: 2.0))
    with pytest.raises(ValueError, match=r"decay 2.0: expected a number from 0 to 1"):
        optimizer.step(params)


def test_lookahead_may_begin_later():
    params, optimizer = parameters(), mc.Adam()
    optimizer.step(params)
    optimizer.lookahead = mc.Lookahead(2, 1.0)
    before = params.data.copy()
    gradients(params, 0)
    optimizer.step(params)
    np.testing.assert_array_equal(params.data, before)
    assert set(copy.deepcopy(optimizer).memory) == {"m", "v", "slow"}


def test_run_with_numpys_numbers_is_kept_and_taken_up_without_a_word(tmp_path, recwarn):
    def optimizer():
        ahead = mc.Lookahead(np.int64(2), np.float32(0.5))
        return mc.SGD(0.1, momentum=np.float32(0.5), lookahead=ahead)

    train(1, tmp_path, optimizer=optimizer())
    train(2, tmp_path, optimizer=optimizer())
    assert not recwarn.list
