from __future__ import annotations

import json

import numpy as np
import pytest

import minicnn as mc
from minicnn.layers import LAYERS, from_config

# Every option away from its default.
FULL = {
    "AveragePool2D": lambda: mc.AveragePool2D((3, 2), (2, 1), "same", name="pool"),
    "BatchNorm": lambda: mc.BatchNorm(0.8, 1e-3, center=False, scale=False, name="n"),
    "Concat": lambda: mc.Concat([mc.Conv2D(2, 1), [mc.Conv2D(3, 1), mc.ReLU()], None], name="c"),
    "Conv2D": lambda: mc.Conv2D(
        4, (3, 2), (2, 1), ((1, 0), (0, 2)), dilation_rate=(1, 2), groups=2, use_bias=False,
        kernel_initializer="he_normal", bias_initializer="ones",
        kernel_regularizer=mc.Penalty(0.25, 0.5), name="c",
    ),
    "Dense": lambda: mc.Dense(
        3, use_bias=False, kernel_initializer="orthogonal", bias_initializer="ones",
        kernel_regularizer=mc.L1(0.5), name="d",
    ),
    "Dropout": lambda: mc.Dropout(0.25, name="d"),
    "Flatten": lambda: mc.Flatten(name="f"),
    "GELU": lambda: mc.GELU(name="g"),
    "GlobalAveragePool2D": lambda: mc.GlobalAveragePool2D(name="g"),
    "LeakyReLU": lambda: mc.LeakyReLU(0.125, name="l"),
    "MaxPool2D": lambda: mc.MaxPool2D(3, (2, 1), (1, 0), name="m"),
    "Normalize": lambda: mc.Normalize((0.1, 0.2), (0.3, 0.4), 0.5, name="n"),
    "PadChannels": lambda: mc.PadChannels(5, name="p"),
    "ReLU": lambda: mc.ReLU(name="r"),
    "Residual": lambda: mc.Residual([mc.Conv2D(3, 1), mc.Tanh()], mc.Conv2D(3, 1), name="r"),
    "Scale": lambda: mc.Scale(0.125, name="s"),
    "Sequential": lambda: mc.Sequential(mc.ReLU(), mc.Sequential(mc.Tanh()), name="s"),
    "SiLU": lambda: mc.SiLU(name="s"),
    "Sigmoid": lambda: mc.Sigmoid(name="s"),
    "Softmax": lambda: mc.Softmax(name="s"),
    "Tanh": lambda: mc.Tanh(name="t"),
}  # fmt: skip


def test_every_layer_is_tried():
    assert set(FULL) == set(LAYERS)
    for name, make in FULL.items():
        assert type(make()).__name__ == name


@pytest.mark.parametrize("kind", FULL)
def test_config_survives_json(kind):
    layer = FULL[kind]()
    config = layer.config()
    text = json.dumps(config)
    twin = from_config(json.loads(text))
    assert type(twin) is type(layer) and twin.name == layer.name
    assert json.loads(json.dumps(twin.config())) == json.loads(text)
    if kind not in ("Residual", "Concat", "Sequential"):
        assert vars(twin) == vars(layer)
        assert repr(twin) == repr(layer)


@pytest.mark.parametrize("kind", FULL)
def test_config_survives_without_options(kind):
    required = {
        "Conv2D": (2, 3),
        "Dense": (2,),
        "Dropout": (0.5,),
        "PadChannels": (4,),
        "Scale": (2.0,),
        "Residual": (mc.ReLU(),),
        "Concat": ([mc.ReLU()],),
        "Sequential": (mc.ReLU(),),
    }
    layer = LAYERS[kind](*required.get(kind, ()))
    twin = from_config(json.loads(json.dumps(layer.config())))
    assert twin.config() == layer.config() and twin.name is None


@pytest.mark.parametrize("kind", set(FULL) - {"Sequential"})
def test_repr_is_the_call(kind):
    layer = FULL[kind]()
    names = {**vars(mc), "Penalty": mc.Penalty}
    twin = eval(repr(layer), names)
    assert json.dumps(twin.config()) == json.dumps(layer.config())


def test_repr_leaves_defaults_out():
    assert repr(mc.Conv2D(8, 3)) == "Conv2D(filters=8, kernel_size=3)"
    assert repr(mc.Conv2D(8, 3, padding="same")) == (
        "Conv2D(filters=8, kernel_size=3, padding='same')"
    )
    assert repr(mc.MaxPool2D()) == "MaxPool2D()"
    assert repr(mc.ReLU()) == "ReLU()"
    assert repr(mc.Sequential(mc.ReLU(), mc.Dense(2))) == "Sequential(ReLU(), Dense(units=2))"


def test_rebuilt_model_computes_the_same():
    def make():
        return mc.Sequential(
            mc.Normalize(0.5, 0.25),
            mc.Conv2D(4, (3, 2), padding=((1, 0), (0, 2)), kernel_initializer="he_uniform"),
            mc.MaxPool2D(2, 1, "same"),
            mc.Residual([mc.Conv2D(4, 3, padding="same"), mc.BatchNorm(0.5)], mc.Conv2D(4, 1)),
            mc.Concat([mc.ReLU(), [mc.Conv2D(2, 1), mc.LeakyReLU(0.2)]]),
            mc.Concat([None, mc.Conv2D(2, 1)]),
            mc.PadChannels(11),
            mc.Scale(0.5),
            mc.Dropout(0.5),
            mc.Flatten(),
            mc.Dense(3),
        )

    model, twin = make(), from_config(json.loads(json.dumps(make().config())))
    model.build((6, 5, 3), seed=2), twin.build((6, 5, 3), seed=2)
    assert list(model.params) == list(twin.params)
    x = np.random.default_rng(0).integers(0, 256, (2, 6, 5, 3)).astype("uint8")
    np.testing.assert_array_equal(model.forward(x, True), twin.forward(x, True))


@pytest.mark.parametrize(
    "config", [{"type": "os.system"}, {"layers": []}, {}, ["ReLU"], "ReLU", None]
)
def test_from_config_refuses_unknown_types(config):
    with pytest.raises(
        ValueError, match=r"unknown layer type .* expected one of AveragePool2D, Bat"
    ):
        from_config(config)


def test_from_config_refuses_unknown_and_missing_arguments():
    with pytest.raises(ValueError, match=r"layer Dense: .*unexpected.*'colour'"):
        from_config({"type": "Dense", "units": 2, "colour": 3})
    with pytest.raises(ValueError, match=r"layer Dense: .*missing.*'units'"):
        from_config({"type": "Dense"})


def test_from_config_takes_none_as_a_branch_only():
    relu = {"type": "ReLU"}
    assert from_config({"type": "Concat", "branches": [None, relu]}).parts[0] is None
    with pytest.raises(ValueError, match="unknown layer type None"):
        from_config({"type": "Sequential", "layers": [None, relu]})
    with pytest.raises(ValueError, match="None is x itself, beside others"):
        from_config({"type": "Concat", "branches": [None]})


def test_from_config_takes_own_layers():
    class Square(mc.Layer):
        pass

    with pytest.raises(ValueError, match="give own layers by name"):
        from_config(Square().config())
    assert type(from_config(Square(name="s").config(), own={"Square": Square})) is Square
