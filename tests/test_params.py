from __future__ import annotations

import numpy as np
import pytest

import minicnn as mc
from minicnn.backend import Device
from minicnn.params import ALIGNMENT, Declaration, Parameters

DECLARED = {
    "a/w": Declaration((3, 5), "he_normal"),
    "a/b": Declaration((5,), decay=False),
    "n/gamma": Declaration((7,), "ones", decay=False),
    "c/w": Declaration((2, 2, 3, 4), "glorot_uniform", penalty=mc.L2(0.1)),
    "c/b": Declaration((4,), "ones", decay=False),
}


def make(dtype="float32", seed=0):
    return Parameters(DECLARED, np.random.default_rng(seed), Device("cpu"), dtype)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_parameters_are_aligned_views_that_dont_overlap(dtype):
    params = make(dtype)
    assert list(params) == list(DECLARED) == list(params.grads)
    assert len(params) == 5
    used = np.zeros(params.data.shape, int)
    for name, view in params.items():
        assert view.shape == params.grads[name].shape == DECLARED[name].shape
        assert view.dtype == params.grads[name].dtype == dtype
        for flat, part in ((params.data, view), (params.grad, params.grads[name])):
            assert np.shares_memory(flat, part)
            start = part.ctypes.data - flat.ctypes.data
            assert start % ALIGNMENT == 0
        first = start // view.itemsize
        used[first : first + view.size] += 1
    assert used.max() == 1 and used.sum() == params.count == 15 + 5 + 7 + 48 + 4
    assert not params.data[used == 0].any() and not params.grad.any()


def test_parameters_start_as_declared():
    params = make()
    assert not params["a/b"].any() and (params["n/gamma"] == 1).all()
    rng = np.random.default_rng(0)  # drawn in the order of declaration
    from minicnn.initializers import glorot_uniform, he_normal

    np.testing.assert_array_equal(params["a/w"], he_normal(rng, (3, 5)).astype("float32"))
    expected = glorot_uniform(rng, (2, 2, 3, 4)).astype("float32")
    np.testing.assert_array_equal(params["c/w"], expected)


def test_decayed_is_just_what_decays():
    params = make()
    params.data[...] = 0
    params.data[params.decayed] = 1
    for name, view in params.items():
        assert (view == (1 if DECLARED[name].decay else 0)).all(), name


def test_parameters_are_a_mapping():
    params = make()
    assert dict(params)["a/w"] is params["a/w"]
    assert "a/w" in params and "zz" not in params
    assert "c/w: (2, 2, 3, 4) float32" in repr(params).splitlines()
    with pytest.raises(KeyError, match=r"no parameter 'w'; there are: a/w, a/b"):
        params["w"]
    with pytest.raises(TypeError):
        params["a/w"] = np.ones((3, 5))


def test_penalized():
    assert make().penalized == [("c/w", mc.Penalty(0.0, 0.1))]


def test_parameters_may_be_none():
    params = Parameters({}, np.random.default_rng(0), Device("cpu"), "float32")
    assert len(params) == params.count == params.data.size == 0
    mc.SGD(0.1, global_clipnorm=1.0, weight_decay=0.1).step(params)


def test_layers_declare_what_decays():
    model = mc.Sequential(mc.Conv2D(2, 3), mc.BatchNorm(), mc.Flatten(), mc.Dense(3)).build(
        (5, 5, 1)
    )
    decays = {name: d.decay for name, d in model.params.declarations.items()}
    assert [name for name, yes in decays.items() if yes] == ["conv2d_1/w", "dense_1/w"]


@pytest.mark.parametrize(("penalty", "l1", "l2"), [(mc.L1(0.5), 0.5, 0), (mc.L2(0.25), 0, 0.25)])
def test_penalties(penalty, l1, l2):
    assert penalty == mc.Penalty(l1, l2)
    with pytest.raises(ValueError, match=r"strength .*expected a number >= 0"):
        mc.Penalty(l1=-l1, l2=-l2)
