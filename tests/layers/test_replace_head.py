from __future__ import annotations

import numpy as np
import pytest

import minicnn as mc


def network(*end):
    return mc.Sequential(
        mc.Normalize(0.5, 0.25),
        mc.Conv2D(3, 3),
        mc.BatchNorm(),
        mc.ReLU(),
        mc.Dropout(0.3),
        mc.Flatten(),
        mc.Dense(6),
        mc.ReLU(),
        *(end or (mc.Dense(5, use_bias=False, kernel_regularizer=mc.L2(1e-3)),)),
    )


def data(classes, N=12):
    rng = np.random.default_rng(0)
    return rng.integers(0, 256, (N, 6, 5, 3)).astype("uint8"), rng.integers(0, classes, N)


def trained(*end, **options):
    model = network(*end).build((6, 5, 3), seed=3, **options)
    optimizer = mc.SGD(0.1)
    for _ in range(3):
        mc.train_step(model, optimizer, *data(5))
    return model, optimizer


def test_head_is_new_and_the_rest_stays():
    model, optimizer = trained()
    numbers = {k: a.copy() for k, a in {**model.params, **model.state}.items()}
    places = {name: stream.position for name, stream in model.streams.items()}
    model.classes = tuple("abcde")
    model["conv2d_1"].trainable = False
    assert model.replace_head(2, seed=7) is model
    assert model.output_shape == (2,)
    assert model.classes == ()
    assert model.params["dense_2/w"].shape == (6, 2)
    for name, array in {**model.params, **model.state}.items():
        if name != "dense_2/w":
            np.testing.assert_array_equal(array, numbers[name], err_msg=name)
    assert {name: stream.position for name, stream in model.streams.items()} == places
    assert repr(model["dense_2"]) == (
        "Dense(units=2, use_bias=False, kernel_regularizer=Penalty(l1=0.0, l2=0.001))"
    )
    assert model.params.frozen == {"conv2d_1/w", "conv2d_1/b"}
    with pytest.raises(ValueError, match="of this one before it was built anew"):
        mc.train_step(model, optimizer, *data(2))
    mc.train_step(model, mc.SGD(0.1), *data(2))
    np.testing.assert_array_equal(model["conv2d_1"].w, numbers["conv2d_1/w"])
    assert np.isfinite(mc.predict(model, data(2)[0])).all()


def test_seed_draws_the_head_as_build_does():
    heads = []
    for seed in (0, 0, 1):
        model, _ = trained()
        heads.append(model.replace_head(40, seed=seed).params["dense_2/w"].copy())
    np.testing.assert_array_equal(heads[0], heads[1])
    assert not np.array_equal(heads[0], heads[2])
    limit = np.sqrt(6 / (6 + 40))  # Glorot's
    assert 0.9 * limit < abs(heads[0]).max() <= limit


def test_head_may_be_frozen_before_and_is_trained_after():
    model, _ = trained()
    model.trainable = False
    model.replace_head(2)
    assert set(model.params) - model.params.frozen == {"dense_2/w"}


@pytest.mark.parametrize(
    "end",
    [
        (mc.Dense(5), mc.Softmax()),
        (mc.Sequential(mc.Dense(4), mc.Dense(5)), mc.Sequential(mc.Tanh()), mc.Dropout(0.1)),
        (mc.Dense(5, name="own"),),
    ],
)
def test_head_may_have_activations_behind_it_and_stand_inside(end, tmp_path):
    end = tuple(mc.layers.from_config(layer.config()) for layer in end)
    model = network(*end).build((6, 5, 3))
    inside = "dense_1/w"
    before = model.params[inside].copy()
    model.replace_head(3, names=["x", "y", "z"])
    assert model.output_shape == (3,)
    assert model.classes == ("x", "y", "z")
    np.testing.assert_array_equal(model.params[inside], before)
    twin = mc.load(mc.save(model, tmp_path / "model.safetensors"))
    assert twin.classes == ("x", "y", "z")
    np.testing.assert_array_equal(mc.predict(twin, data(3)[0]), mc.predict(model, data(3)[0]))


def test_plans_of_before_are_not_used():
    model, _ = trained()
    x = data(2)[0]
    mc.predict(model, x)
    model.replace_head(3)
    assert mc.predict(model, x).shape == (12, 3)
    powers = np.exp(model.infer(x))
    np.testing.assert_allclose(mc.predict(model, x), powers / powers.sum(1, keepdims=True), 1e-4)


def test_head_on_the_gpu_in_16_bits(standin):
    model, _ = trained(device="gpu", dtype="bfloat16")
    before = model.params["dense_1/w"].get()
    model.replace_head(2)
    assert (model.dtype, model.compute) == ("float32", "bfloat16")
    assert model.device.kind == "gpu"
    np.testing.assert_array_equal(model.params["dense_1/w"].get(), before)
    mc.train_step(model, mc.SGD(0.1), *data(2))
    assert mc.predict(model, data(2)[0]).shape == (12, 2)


@pytest.mark.parametrize(
    ("end", "text"),
    [
        ((mc.Dense(4), mc.BatchNorm()), r"there is batchnorm_2 \(BatchNorm\)"),
        ((mc.Residual(mc.Dense(6)),), r"there is residual_1 \(Residual\)"),
    ],
)
def test_head_that_is_no_dense_is_refused(end, text):
    model = network(*(mc.layers.from_config(layer.config()) for layer in end)).build((6, 5, 3))
    params = model.params
    with pytest.raises(ValueError, match=f"expected a Dense at the end, .*; {text}"):
        model.replace_head(2)
    assert model.params is params
    with pytest.raises(ValueError, match="there is none"):
        mc.Sequential(mc.ReLU()).build((3,)).replace_head(2)


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        ((1,), "classes 1: expected an integer >= 2"),
        ((2.0,), "classes 2.0"),
        ((2, 0, ["a"]), "1 names for 2 classes"),
        ((2, 0, "ab"), "names 'ab': expected texts"),
        ((2, 0, None), "names None: expected texts"),
        ((2, 0, np.array(["a", "b"])), "expected texts"),
    ],
)
def test_what_a_head_cannot_be_is_refused(arguments, text):
    with pytest.raises(ValueError, match=text):
        network().build((6, 5, 3)).replace_head(*arguments)
    with pytest.raises(RuntimeError, match="isn't built"):
        network().replace_head(2)


@pytest.mark.parametrize("seed", [-1, "0", None, 1.5])
def test_seed_that_is_none_changes_nothing(seed):
    model, optimizer = trained()
    params, before, config = model.params, model.params.data.copy(), model.config()
    with pytest.raises(ValueError, match=r"seed .*: expected an integer >= 0"):
        model.replace_head(2, seed=seed)
    assert model.params is params
    assert model.config() == config
    np.testing.assert_array_equal(params.data, before)
    mc.train_step(model, optimizer, *data(5))
