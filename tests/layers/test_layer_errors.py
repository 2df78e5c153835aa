"""What is wrong is said where it happens: in the constructor, in build, at the input."""

from __future__ import annotations

import re

import numpy as np
import pytest

import minicnn as mc

# Constructors.


@pytest.mark.parametrize(
    ("make", "text"),
    [
        (lambda: mc.Conv2D(0, 3), "Conv2D: filters 0: expected an integer >= 1"),
        (lambda: mc.Conv2D(2.5, 3), "Conv2D: filters 2.5"),
        (lambda: mc.Conv2D(True, 3), "Conv2D: filters True"),
        (lambda: mc.Conv2D(4, 0), "Conv2D: kernel_size 0"),
        (lambda: mc.Conv2D(4, (3, 3, 3)), r"Conv2D: kernel_size \(3, 3, 3\)"),
        (lambda: mc.Conv2D(4, 3, strides=0), "strides 0"),
        (lambda: mc.Conv2D(4, 3, dilation_rate=(1, -1)), r"dilation_rate \(1, -1\)"),
        (lambda: mc.Conv2D(4, 3, padding="full"), "padding 'full': expected 'valid', 'same'"),
        (lambda: mc.Conv2D(4, 3, padding=-1), "padding -1"),
        (lambda: mc.Conv2D(4, 3, groups=0), "Conv2D: groups 0"),
        (lambda: mc.Conv2D(5, 3, groups=2), "Conv2D.*filters must be a multiple of groups"),
        (lambda: mc.Conv2D(4, 3, kernel_initializer="he"), "initializer 'he': expected one of"),
        (lambda: mc.Dense(-2), "Dense: units -2"),
        (lambda: mc.Dense(4, bias_initializer="nul"), "initializer 'nul'"),
        (lambda: mc.MaxPool2D(0), "MaxPool2D: pool_size 0"),
        (lambda: mc.AveragePool2D(2, strides=0), "strides 0"),
        (lambda: mc.MaxPool2D(17), "17x17 is 289 taps, at most 256"),
        (lambda: mc.MaxPool2D(2, padding=2), "hide a whole window of 2x2"),
        (lambda: mc.Dropout(1.0), r"Dropout: rate 1.0: expected a number >= 0 and < 1"),
        (lambda: mc.Dropout(-0.1), "Dropout: rate -0.1"),
        (lambda: mc.BatchNorm(momentum=1.0), "BatchNorm: momentum .* >= 0 and < 1"),
        (lambda: mc.BatchNorm(eps=0), "BatchNorm: eps 0: expected a number > 0"),
        (lambda: mc.Normalize(std=0.0), "Normalize: std 0.0"),
        (lambda: mc.Normalize(std=(1.0, -1.0)), "Normalize: std"),
        (lambda: mc.Scale("a"), "Scale: factor 'a': expected a number"),
        (lambda: mc.Scale(float("nan")), "Scale: factor nan"),
        (lambda: mc.PadChannels(0), "PadChannels: channels 0: expected an integer >= 1"),
        (lambda: mc.PadChannels(2.5), "PadChannels: channels 2.5"),
        (lambda: mc.Concat([]), "Concat: expected a list of branches"),
        (lambda: mc.Sequential(), "Sequential: expected at least one layer"),
        (lambda: mc.L2(-1), "strength .*expected a number >= 0"),
    ],
)
def test_constructor_refuses(make, text):
    with pytest.raises(ValueError, match=text):
        make()


def test_sequential_refuses_what_is_no_layer():
    with pytest.raises(TypeError, match=r"isn't a layer: expected objects such as ReLU\(\)"):
        mc.Sequential(mc.Conv2D(2, 3), mc.ReLU)


# build: the error names the layer, what it got and the likely cause.


@pytest.mark.parametrize(
    ("layers", "shape", "texts"),
    [
        (
            [mc.Conv2D(8, 3), mc.ReLU(), mc.Conv2D(8, 5)],
            (3, 32, 32),
            ["conv2d_2 (Conv2D)", "(1, 30, 8)", "channels first?"],
        ),
        ([mc.Conv2D(8, 5)], (3, 32, 32), ["conv2d_1 (Conv2D)", "(3, 32, 32)", "channels first?"]),
        (
            [mc.MaxPool2D(), mc.MaxPool2D(), mc.Conv2D(4, 3)],
            (8, 8, 1),
            ["conv2d_1 (Conv2D)", "(2, 2, 1)", "3x3", "fewer poolings"],
        ),
        (
            [mc.MaxPool2D(2), mc.AveragePool2D(2), mc.MaxPool2D(2)],
            (6, 6, 1),
            ["maxpool2d_2 (MaxPool2D)", "(1, 1, 1)", "2x2", "fewer poolings"],
        ),
        ([mc.Dense(4)], (8, 8, 3), ["dense_1 (Dense)", "(8, 8, 3)", "put Flatten"]),
        ([mc.Flatten(), mc.Conv2D(4, 3)], (8, 8, 3), ["conv2d_1", "(192,)", "before Flatten"]),
        ([mc.Flatten(), mc.MaxPool2D()], (8, 8, 3), ["maxpool2d_1", "before Flatten"]),
        ([mc.Flatten(), mc.GlobalAveragePool2D()], (8, 8, 3), ["globalaveragepool2d_1", "before"]),
        ([mc.Conv2D(4, 1, groups=2)], (8, 8, 3), ["conv2d_1", "channels in 2 equal groups"]),
        (
            [mc.Normalize((0.1, 0.2, 0.3))],
            (3, 8, 8),
            ["normalize_1 (Normalize)", "3 channels, as in mean", "channels first?"],
        ),
        (
            [mc.ReLU(), mc.Residual([mc.Conv2D(8, 3)])],
            (6, 6, 4),
            ["residual_1 (Residual)", "(4, 4, 8) and (6, 6, 4)", "Conv2D(filters, 1, strides)"],
        ),
        (
            [mc.Residual(mc.Conv2D(8, 1, 2), mc.Conv2D(8, 1))],
            (6, 6, 4),
            ["residual_1", "(3, 3, 8) and (6, 6, 8)"],
        ),
        (
            [mc.Concat([mc.Conv2D(2, 3), mc.Conv2D(2, 1)])],
            (6, 6, 4),
            ["concat_1 (Concat)", "[(4, 4, 2), (6, 6, 2)]", "pad them"],
        ),
        (
            [mc.Concat([None, mc.Conv2D(2, 3)])],
            (6, 6, 4),
            ["concat_1 (Concat)", "[(6, 6, 4), (4, 4, 2)]", "pad them"],
        ),
        (
            [mc.PadChannels(3)],
            (6, 6, 4),
            ["padchannels_1 (PadChannels)", "(6, 6, 4)", "at most 3 channels", "nothing is cut"],
        ),
        (
            [mc.Residual([mc.Dense(3)])],
            (6, 6, 4),
            ["residual_1/body/dense_1 (Dense)", "put Flatten"],
        ),
    ],
)  # fmt: skip
def test_build_names_the_layer_and_the_cause(layers, shape, texts):
    with pytest.raises(mc.ShapeError) as caught:
        mc.Sequential(*layers).build(shape)
    for text in texts:
        assert text in str(caught.value)


@pytest.mark.parametrize("shape", [(), (0, 32, 3), (32, -1, 3)])
def test_build_refuses_input_shapes(shape):
    with pytest.raises(mc.ShapeError, match=r"expected that of one picture, \(H, W, C\)"):
        mc.Sequential(mc.ReLU()).build(shape)


@pytest.mark.parametrize("dtype", ["float8", "int32", np.uint8, None])
def test_build_refuses_dtypes(dtype):
    with pytest.raises(ValueError, match="expected 'float32' or 'float64'"):
        mc.Sequential(mc.ReLU()).build((2, 2, 1), dtype=dtype)


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", np.float16])
def test_build_refuses_16_bits_on_a_cpu(dtype):
    with pytest.raises(ValueError, match=r"a CPU computes in float32 or float64.*cpu, as asked"):
        mc.Sequential(mc.ReLU()).build((2, 2, 1), dtype=dtype)


@pytest.mark.parametrize("dtype", ["float64", np.float64, np.dtype("float64")])
def test_build_takes_dtypes_by_name_and_as_numpy_has_them(dtype):
    model = mc.Sequential(mc.ReLU()).build((2, 2, 1), dtype=dtype)
    assert model.dtype == model.compute == "float64"


def test_build_refuses_seeds():
    with pytest.raises(ValueError, match="seed -1: expected an integer >= 0"):
        mc.Sequential(mc.ReLU()).build((2, 2, 1), seed=-1)


@pytest.mark.parametrize(
    "place",
    [
        lambda a: [a, a],
        lambda a: [a, mc.Sequential(mc.ReLU(), a)],
        lambda a: [mc.Residual([mc.Tanh(), a]), mc.Residual(mc.Sequential(a))],
        lambda a: [mc.Concat([a, a])],
        lambda a: [mc.Residual(a, a)],
    ],
)
def test_build_refuses_one_layer_in_two_places(place):
    layer = mc.LeakyReLU(0.5)
    with pytest.raises(
        ValueError, match=r"LeakyReLU\(negative_slope=0.5\) stands .* twice.*second"
    ):
        mc.Sequential(*place(layer)).build((4, 4, 2))


def test_build_refuses_a_layer_that_holds_itself_in_a_model_twice():
    stage = mc.Sequential(mc.Conv2D(2, 1), mc.ReLU())
    with pytest.raises(ValueError, match="twice"):
        mc.Sequential(stage, mc.Tanh(), stage).build((4, 4, 2))


@pytest.mark.parametrize("names", [("a", "a"), ("a/b", None), ("relu_2", None)])
def test_build_refuses_names(names):
    first, second = names
    layers = [mc.ReLU(name=first), mc.ReLU(name=second)]
    with pytest.raises(ValueError, match="layer names must differ and hold no '/'"):
        mc.Sequential(*layers).build((2, 2, 1))


@pytest.mark.parametrize(
    "use",
    [
        lambda m, x: m.forward(x),
        lambda m, x: m.infer(x),
        lambda m, x: m.summary(),
        lambda m, x: mc.predict(m, x),
        lambda m, x: mc.evaluate(m, x, np.zeros(1, int)),
        lambda m, x: mc.fit(m, x, np.zeros(1, int), optimizer=mc.SGD()),
        lambda m, x: mc.train_step(m, mc.SGD(), x, np.zeros(1, int)),
        lambda m, x: mc.save(m, "never.safetensors"),
        lambda m, x: mc.gradcheck.check_model(m),
    ],
)
def test_model_must_be_built(use, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    model = mc.Sequential(mc.Flatten(), mc.Dense(2))
    with pytest.raises(RuntimeError, match=r"isn't built: call model.build\(input_shape\) first"):
        use(model, np.zeros((1, 2, 2, 1), "float32"))
    assert not list(tmp_path.iterdir())


# Inputs.


def small():
    return mc.Sequential(mc.Conv2D(2, 3), mc.Flatten(), mc.Dense(2)).build((6, 5, 3))


@pytest.mark.parametrize("method", ["forward", "infer"])
@pytest.mark.parametrize(
    ("shape", "cause"),
    [
        ((6, 5, 3), "a single picture? Give a batch of one, x[None]"),
        ((4, 3, 6, 5), "channels first? Turn it with x.transpose(0, 2, 3, 1)"),
        ((0, 6, 5, 3), "an empty batch"),
        ((4, 5, 6, 3), "the right number of values in the wrong shape; x.reshape(-1, *(6, 5, 3))"),
        ((4, 90), "the right number of values in the wrong shape"),
        ((4, 8, 8, 3), "the model was built for another picture size"),
        ((), "the model was built for another picture size"),
    ],
)
def test_input_of_a_wrong_shape_is_explained(method, shape, cause):
    text = f"expected pictures of shape (N, 6, 5, 3), got {shape}: {cause}"
    with pytest.raises(mc.ShapeError, match=re.escape(text)):
        getattr(small(), method)(np.zeros(shape, "float32"))


@pytest.mark.parametrize("dtype", ["uint8", "int64", "bool"])
def test_input_of_a_wrong_dtype_is_refused(dtype):
    with pytest.raises(TypeError, match=rf"dtype {dtype}.*begin the model with Normalize\(\)"):
        small().forward(np.zeros((1, 6, 5, 3), dtype))


def test_input_that_is_no_array_is_refused():
    with pytest.raises(TypeError, match=r"expected an array, got list: use numpy.asarray"):
        small().forward([[1.0]])


def test_input_takes_the_dtype_of_the_model():
    model, x = small(), np.random.default_rng(0).standard_normal((2, 6, 5, 3))
    y = model.forward(x)
    assert y.dtype == np.float32 and model.backward(np.ones_like(y)).dtype == np.float32
    np.testing.assert_array_equal(y, model.forward(x.astype("float32")))


def test_model_of_other_pictures_than_hwc_works():
    model = mc.Sequential(mc.Dense(3), mc.ReLU(), mc.Dense(2)).build((4,))
    assert model.forward(np.ones((5, 4))).shape == (5, 2)
    with pytest.raises(mc.ShapeError, match="a single picture"):
        model.forward(np.ones(4))
