"""Learning rates by parameter, and parameters that stay, on the CPU."""

from __future__ import annotations

import copy

import numpy as np
import pytest
from test_optim import DECAYS, RULES, gradients, parameters

import minicnn as mc
from minicnn.groups import Group, make_groups
from minicnn.params import ALIGNMENT

FROZEN = frozenset({"a/b"})
SCALES = {"n/*": 64.0, "*/gamma": 3.0, "a/w": 0.5}  # the first that fits holds: n/gamma's is 64


def factor(name):
    return {"n/gamma": 64.0, "a/w": 0.5}.get(name, 1.0)


@pytest.mark.parametrize("decay", DECAYS)
@pytest.mark.parametrize("name", RULES)
def test_each_parameter_is_as_if_alone_with_its_own_rate(name, decay):
    make, _ = RULES[name]
    params, optimizer = parameters(), make(**DECAYS[decay], lr_scale=SCALES)
    params.frozen = FROZEN
    alone = {key: parameters() for key in params}
    own = {key: make(**DECAYS[decay]) for key in params}
    for key, optimizer_of in own.items():
        optimizer_of.lr *= factor(key)
    start = params["a/b"].copy()
    for t in range(4):
        gradients(params, t)
        optimizer.step(params)
        for key, others in alone.items():
            gradients(others, t)
            own[key].step(others)
    for key in set(params) - FROZEN:
        np.testing.assert_array_equal(params[key], alone[key][key], err_msg=key)
        for kind, flat in optimizer.memory.items():
            theirs = alone[key].views(own[key].memory[kind])[key]
            np.testing.assert_array_equal(params.views(flat)[key], theirs, err_msg=f"{kind} {key}")
    np.testing.assert_array_equal(params["a/b"], start)
    for flat in optimizer.memory.values():
        assert not params.views(flat)["a/b"].any()


@pytest.mark.parametrize("name", RULES)
def test_without_factors_one_group_is_all(name):
    params, optimizer = parameters("float32"), RULES[name][0]()
    ones, others = parameters("float32"), RULES[name][0](lr_scale={"*": 1.0, "a/b": 2.0})
    assert [g.where for g in optimizer.groups(params)] == [slice(0, params.data.size)]
    for t in range(3):
        gradients(params, t), gradients(ones, t)
        optimizer.step(params), others.step(ones)
    np.testing.assert_array_equal(params.data, ones.data)


def test_groups_are_as_few_as_may_be():
    step = ALIGNMENT // 8
    params = parameters()  # in memory: a/w, then a/b and n/gamma, each on a place of its own
    groups = mc.SGD(0.1, lr_scale={"a/b": 2.0, "n/gamma": 2}).groups(params)
    assert groups == (Group(0, step, 1.0, step), Group(step, 3 * step, 2.0, 0))
    params.frozen = FROZEN
    groups = mc.SGD(0.1, decay_all=True).groups(params)
    assert groups == (Group(0, step, 1.0, step), Group(2 * step, 3 * step, 1.0, step))
    params.frozen = frozenset(params)
    assert mc.SGD(0.1).groups(params) == ()


def test_groups_cover_what_is_not_frozen_once():
    sizes = [3, 1, 200, 40, 5, 7]
    starts = np.cumsum([0, *sizes[:-1]]).tolist()
    pairs = zip(starts, sizes, strict=True)
    slots = {f"l{i}/w": (slice(a, a + n), (n,)) for i, (a, n) in enumerate(pairs)}
    found = make_groups(slots, 256, 244, frozenset({"l2/w"}), {"l[34]/w": 2, "l5/*": 1})
    assert found == (Group(0, 4, 1.0, 4), Group(204, 249, 2.0, 40), Group(249, 256, 1.0, 0))


def test_frozen_gradients_do_not_count_in_clipping():
    params = parameters()
    params.frozen = FROZEN
    gradients(params, 0)
    norm = np.sqrt(sum((params.grads[k] ** 2).sum() for k in set(params) - FROZEN))
    params.grads["a/b"][...] = 1e6
    before = params.data.copy()
    mc.SGD(1.0, global_clipnorm=norm / 2).step(params)
    step = before - params.data
    np.testing.assert_allclose(np.linalg.norm(step), norm / 2, rtol=1e-12)


def test_average_goes_on_for_all():
    params, optimizer = parameters(), mc.SGD(0.1, ema_decay=0.5)
    gradients(params, 0)
    optimizer.step(params)
    params.frozen, average = FROZEN, params.views(optimizer.memory["average"])["a/b"].copy()
    optimizer.step(params)
    wanted = 0.5 * average + 0.5 * params["a/b"]
    np.testing.assert_array_equal(params.views(optimizer.memory["average"])["a/b"], wanted)


def test_factors_and_frozen_may_change_between_steps():
    params, optimizer = parameters(), mc.SGD(0.1)
    gradients(params, 0)
    for scales, frozen in (({"*": 2}, FROZEN), (None, frozenset()), ({"*": 2}, frozenset())):
        before, optimizer.lr_scale, params.frozen = params.data.copy(), scales, frozen
        optimizer.step(params)
        wanted = before - params.grad * 0.1 * (2 if scales else 1)
        for name, w in params.items():
            expected = before if name in frozen else wanted
            np.testing.assert_array_equal(w, params.views(expected)[name], err_msg=name)
    optimizer.lr_scale["*"] = 0.0  # the same dictionary, changed
    before = params.data.copy()
    optimizer.step(params)
    np.testing.assert_array_equal(params.data, before)


def test_everything_frozen_is_a_step_that_changes_nothing():
    params = parameters()
    params.frozen = frozenset(params)
    gradients(params, 0)
    before, optimizer = params.data.copy(), mc.AdamW(0.1, global_clipnorm=1.0)
    optimizer.step(params)
    np.testing.assert_array_equal(params.data, before)
    assert optimizer.steps == 1


def test_frozen_goes_with_copies_of_parameters():
    params = parameters()
    params.frozen = FROZEN
    assert copy.deepcopy(params).frozen == FROZEN
    assert params.over(params.data.copy(), params.grad).frozen == FROZEN


def test_copy_of_an_optimizer_finds_its_own_groups():
    params, optimizer = parameters(), mc.SGD(0.1, lr_scale={"a/*": 2})
    gradients(params, 0)
    optimizer.step(params)
    other = mc.Sequential(mc.Dense(2, name="a")).build((3,), dtype="float64").params
    twin = copy.deepcopy(optimizer)
    twin.memory = {}
    before = other.data.copy()
    other.grad[...] = 1
    twin.step(other)
    np.testing.assert_array_equal(other.data, before - 0.2)


def test_pattern_for_nothing_is_an_error_at_the_first_step_that_names_the_parameters():
    params, optimizer = parameters(), mc.Adam(lr_scale={"a/*": 2, "b/*": 3})
    gradients(params, 0)
    before = params.data.copy()
    text = r"no parameter is called 'b/\*'; there are: a/b, a/w, n/gamma"
    with pytest.raises(ValueError, match=text):
        optimizer.step(params)
    assert optimizer.steps == 0
    np.testing.assert_array_equal(params.data, before)


@pytest.mark.parametrize(
    ("scales", "error", "text"),
    [
        ({"*": -1}, ValueError, r"lr_scale of '\*' -1: expected a number >= 0"),
        ({"*": float("nan")}, ValueError, r"lr_scale of '\*' nan"),
        ({"*": "2"}, ValueError, r"lr_scale of '\*' '2'"),
        ({3: 1.0}, TypeError, "expected patterns and factors, such as"),
        (2.0, TypeError, "lr_scale 2.0: expected patterns"),
    ],
)
def test_factors_that_cannot_be_are_refused(scales, error, text):
    with pytest.raises(error, match=text):
        mc.SGD(lr_scale=scales)
    optimizer, params = mc.SGD(), parameters()
    optimizer.lr_scale = scales
    with pytest.raises(error, match=text):
        optimizer.step(params)
