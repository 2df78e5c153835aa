"""A user's own layer needs no more than layers/base.py says."""

from __future__ import annotations

import numpy as np
import pytest

import minicnn as mc
from minicnn.layers import from_config


class Square(mc.Layer):
    """As in the docstring of layers/base.py."""

    def forward(self, x, training=False):
        self.cache = x
        return x * x

    def backward(self, dy):
        return 2 * self.take_cache() * dy


class Scale(mc.Layer):
    """A layer with a parameter and a state."""

    def resolve(self, input_shape):
        self.declare("w", input_shape[-1:], "ones", penalty=mc.L2(0.5))
        self.keep("seen", np.zeros(1))
        return input_shape

    def forward(self, x, training=False):
        self.cache = x
        self.buffers["seen"] += len(x)
        return x * self.w

    def backward(self, dy):
        x = self.take_cache()
        self.dw[...] = (x * dy).reshape(-1, x.shape[-1]).sum(axis=0)
        return dy * self.w


def test_docstring_shows_this_layer():
    import inspect

    shown = "".join((mc.layers.base.__doc__ or "").split())
    source = inspect.getsource(Square).split('"""')[2]
    assert "".join(source.split()) in shown


@pytest.mark.parametrize("layer", [Square(), Scale(), mc.Residual([Square(), Scale()])])
def test_own_layer_gradient(layer):
    mc.gradcheck.check_layer(layer, (3, 2, 4)).raise_on_failure()


def test_own_layer_trains():
    model = mc.Sequential(mc.Flatten(), mc.Dense(8), Square(), Scale(), mc.Dense(2)).build(
        (2, 2, 1)
    )
    rng = np.random.default_rng(0)
    x = rng.standard_normal((200, 2, 2, 1)).astype("float32")
    labels = (np.square(x).sum(axis=(1, 2, 3)) > 3.3).astype(int)  # no line divides these
    *_, last = mc.fit(model, x, labels, optimizer=mc.Adam(0.02), epochs=30, batch_size=50)
    assert last.accuracy > 0.9
    assert (model.params["scale_1/w"] != 1).any()
    assert model.state["scale_1/seen"][0] == 200 * 30
    assert model["square_1"].cache is None


def test_own_layer_has_a_config_and_a_repr():
    layer = Square(name="sq")
    assert repr(layer) == "Square(name='sq')"
    assert layer.config() == {"type": "Square", "name": "sq"}
    assert type(from_config(layer.config(), own={"Square": Square})) is Square


def test_layer_without_forward_says_so():
    with pytest.raises(NotImplementedError):
        mc.Sequential(mc.Layer()).build((2,)).forward(np.ones((1, 2)))
