from __future__ import annotations

import numpy as np
import pytest

import minicnn as mc

# layer, input shape, output shape, parameters by name
LAYERS = [
    (mc.Conv2D(5, 3), (8, 6, 2), (6, 4, 5), {"w": (3, 3, 2, 5), "b": (5,)}),
    (
        mc.Conv2D(4, (3, 2), (2, 1), "same", use_bias=False),
        (7, 6, 3), (4, 6, 4), {"w": (3, 2, 3, 4)},
    ),
    (
        mc.Conv2D(6, 3, groups=2, dilation_rate=2),
        (9, 8, 4), (5, 4, 6), {"w": (3, 3, 2, 6), "b": (6,)},
    ),
    (mc.Conv2D(2, 3, padding=1), (5, 4, 1), (5, 4, 2), {"w": (3, 3, 1, 2), "b": (2,)}),
    (mc.Conv2D(2, 3, padding=(0, 2)), (5, 4, 1), (3, 6, 2), {"w": (3, 3, 1, 2), "b": (2,)}),
    (
        mc.Conv2D(2, 3, padding=((1, 0), (0, 2))),
        (5, 4, 1), (4, 4, 2), {"w": (3, 3, 1, 2), "b": (2,)},
    ),
    (mc.MaxPool2D(2), (7, 6, 3), (3, 3, 3), {}),
    (mc.MaxPool2D((3, 2), strides=(1, 2)), (7, 6, 3), (5, 3, 3), {}),
    (mc.MaxPool2D(3, 2, "same"), (7, 6, 3), (4, 3, 3), {}),
    (mc.AveragePool2D(2, 1), (7, 6, 3), (6, 5, 3), {}),
    (mc.GlobalAveragePool2D(), (7, 6, 3), (3,), {}),
    (mc.Flatten(), (4, 3, 2), (24,), {}),
    (mc.Dense(7), (5,), (7,), {"w": (5, 7), "b": (7,)}),
    (mc.Dense(7, use_bias=False), (5,), (7,), {"w": (5, 7)}),
    (mc.BatchNorm(), (4, 3, 2), (4, 3, 2), {"gamma": (2,), "beta": (2,)}),
    (mc.BatchNorm(center=False), (6,), (6,), {"gamma": (6,)}),
    (mc.BatchNorm(scale=False), (6,), (6,), {"beta": (6,)}),
    (mc.Dropout(0.5), (4, 3, 2), (4, 3, 2), {}),
    (mc.ReLU(), (4, 3, 2), (4, 3, 2), {}),
    (mc.LeakyReLU(), (4, 3, 2), (4, 3, 2), {}),
    (mc.GELU(), (4, 3, 2), (4, 3, 2), {}),
    (mc.SiLU(), (4, 3, 2), (4, 3, 2), {}),
    (mc.Tanh(), (4, 3, 2), (4, 3, 2), {}),
    (mc.Sigmoid(), (4, 3, 2), (4, 3, 2), {}),
    (mc.Softmax(), (6,), (6,), {}),
    (mc.Scale(2.0), (4, 3, 2), (4, 3, 2), {}),
    (mc.PadChannels(7), (4, 3, 2), (4, 3, 7), {}),
    (mc.PadChannels(5), (5,), (5,), {}),
    (mc.Normalize(), (4, 3, 2), (4, 3, 2), {}),
]  # fmt: skip


@pytest.mark.parametrize("case", LAYERS, ids=lambda case: repr(case[0]))
@pytest.mark.parametrize("N", [1, 3])
def test_layer_makes_the_shapes_it_promises(case, N):
    layer, shape, out, wanted = case
    model = mc.Sequential(layer).build(shape)
    prefix = f"{type(layer).__name__.lower()}_1/"
    assert {name: v.shape for name, v in model.params.items()} == {
        prefix + name: size for name, size in wanted.items()
    }
    assert {name: v.shape for name, v in model.grads.items()} == {
        prefix + name: size for name, size in wanted.items()
    }
    assert layer.output_shape == model.output_shape == out
    training = N > 1  # BatchNorm refuses one value a channel
    y = model.forward(np.ones((N, *shape), "float32"), training)
    assert y.shape == (N, *out) and y.dtype == np.float32
    dx = model.backward(np.ones_like(y))
    assert dx.shape == (N, *shape) and dx.dtype == np.float32


def test_every_layer_is_tried():
    tried = {type(case[0]).__name__ for case in LAYERS}
    assert tried | {"Sequential", "Residual", "Concat"} == set(mc.layers.LAYERS)


def test_parameters_are_counted():
    summary = mc.Sequential(mc.Conv2D(5, 3), mc.Flatten(), mc.Dense(4)).build((6, 5, 2)).summary()
    assert [row.parameters for row in summary.rows] == [3 * 3 * 2 * 5 + 5, 0, 60 * 4 + 4]
    assert [row.multiply_adds for row in summary.rows] == [4 * 3 * 90, 0, 240]
    assert summary.parameters == 95 + 244 and summary.multiply_adds == 1080 + 240


def test_summary_counts_grouped_and_nested_layers():
    body = [mc.Conv2D(4, 3, padding="same", groups=2), mc.BatchNorm()]
    model = mc.Sequential(mc.Residual(body), mc.GlobalAveragePool2D(), mc.Dense(3)).build((4, 4, 4))
    summary = model.summary()
    assert summary.parameters == model.params.count == (3 * 3 * 2 * 4 + 4) + 8 + (12 + 3)
    assert summary.multiply_adds == 16 * 72 + 12
    text = str(summary)
    assert "  body" in text and "    conv2d_1" in text and "(N, 4, 4, 4)" in text
    assert text.splitlines()[-1].split() == ["total", "99", "1,164"]


def test_names_count_by_type_and_go_down_the_path():
    model = mc.Sequential(
        mc.Conv2D(4, 1, name="stem"),
        mc.Residual([mc.Conv2D(4, 1), mc.ReLU(), mc.Conv2D(4, 1)], mc.Conv2D(4, 1)),
        mc.Concat([mc.Conv2D(2, 1), [mc.BatchNorm(name="norm"), mc.ReLU()]]),
        mc.Flatten(),
        mc.Dense(2),
        mc.Dense(3, use_bias=False),
    ).build((2, 2, 3))
    assert list(model.params) == [
        "stem/w",
        "stem/b",
        "residual_1/body/conv2d_1/w",
        "residual_1/body/conv2d_1/b",
        "residual_1/body/conv2d_2/w",
        "residual_1/body/conv2d_2/b",
        "residual_1/shortcut/w",
        "residual_1/shortcut/b",
        "concat_1/branch_1/w",
        "concat_1/branch_1/b",
        "concat_1/branch_2/norm/gamma",
        "concat_1/branch_2/norm/beta",
        "dense_1/w",
        "dense_1/b",
        "dense_2/w",
    ]
    assert list(model.state) == [
        "concat_1/branch_2/norm/running_mean",
        "concat_1/branch_2/norm/running_var",
    ]
    assert model["stem"] is model[0] and model["dense_2"] is model[-1]
    assert len(model) == 6 and list(model) == model.layers
    with pytest.raises(KeyError, match=r"no layer 'dense_9'; there are: stem, residual_1"):
        model["dense_9"]
    with pytest.raises(KeyError, match=r"no parameter 'w'; there are: stem/w"):
        model.params["w"]


def test_models_nest():
    inner = mc.Sequential(mc.Conv2D(2, 1), mc.ReLU(), name="stage")
    model = mc.Sequential(inner, mc.Flatten(), mc.Dense(2)).build((3, 3, 1))
    assert next(iter(model.params)) == "stage/conv2d_1/w"
    x = np.random.default_rng(0).standard_normal((2, 3, 3, 1)).astype("float32")
    y = np.maximum(x @ model.params["stage/conv2d_1/w"][0, 0], 0).reshape(2, 18)
    np.testing.assert_allclose(model.forward(x), y @ model.params["dense_1/w"], rtol=1e-5)


def test_list_and_arguments_make_the_same_model():
    layers = [mc.Flatten(), mc.Dense(2)]
    assert mc.Sequential(layers).layers == mc.Sequential(*layers).layers == layers
