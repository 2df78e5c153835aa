"""Activations and poolings in plans: odd windows, odd slopes, and numbers at the ends."""

from __future__ import annotations

import numpy as np
import pytest

import minicnn as mc
from minicnn import plan
from minicnn.plan import activation, convolution_parts, pooling

from .nets import (
    N,
    batch,
    build,
    by_layers,
    by_plan,
    check,
    compare,
    each_way,
    head,
    like,
    upstream,
)

pytestmark = pytest.mark.usefixtures("small_slices")

WINDOWS = {
    "3 by 2": {"pool_size": 3, "strides": 2},
    "3 by 1, same": {"pool_size": 3, "strides": 1, "padding": "same"},
    "2 by 1": {"pool_size": 2, "strides": 1},
    "2 by 3: pixels that nobody sees": {"pool_size": 2, "strides": 3},
    "3 by 2, same": {"pool_size": 3, "strides": 2, "padding": "same"},
    "rectangles": {"pool_size": (1, 3), "strides": (2, 1)},
    "margins on one side": {"pool_size": (3, 2), "strides": 2, "padding": ((2, 0), (0, 1))},
    "one column": {"pool_size": (2, 1), "strides": 2},
    "2, same": {"pool_size": 2, "padding": "same"},
}


@pytest.mark.parametrize("kind", [mc.MaxPool2D, mc.AveragePool2D])
@pytest.mark.parametrize("name", WINDOWS)
@each_way
def test_pooling_of_any_window(name, kind, way, monkeypatch):
    monkeypatch.setattr(pooling, "CHUNK_BYTES", 3000)  # several chunks for each slice
    options = WINDOWS[name]
    compare(lambda: head(mc.Conv2D(5, 2), mc.Tanh(), kind(**options)), (8, 10, 3), way)


@pytest.mark.parametrize("name", WINDOWS)
def test_maxpool2d_of_equal_pixels_takes_the_first(name):
    """Whole numbers from 0 to 2: ties in nearly every window, settled as in the book."""
    make = lambda: head(mc.MaxPool2D(**WINDOWS[name]))  # noqa: E731
    layers = lambda: [mc.Conv2D(3, 1, use_bias=False), *make()]  # noqa: E731
    model = build(layers(), (8, 10, 3), "float64")
    model.params["conv2d_1/w"][...] = np.eye(3)
    truth = like(model, layers(), "float64")
    x = np.random.default_rng(0).integers(0, 3, (N, 8, 10, 3)).astype("float64")
    dy = upstream(model, N)
    with mc.threads(2), mc.conv_algorithm("direct"):
        found, wanted = by_plan(model, x, dy), by_layers(truth, x, dy)
    check(found, wanted, 1e-10)


ACTIVATIONS = {
    "relu": mc.ReLU,
    "leaky": lambda: mc.LeakyReLU(0.1),
    "leaky, steep": lambda: mc.LeakyReLU(2.0),
    "leaky, falling": lambda: mc.LeakyReLU(-0.5),
    "leaky, flat": lambda: mc.LeakyReLU(0.0),
    "sigmoid": mc.Sigmoid,
    "tanh": mc.Tanh,
    "silu": mc.SiLU,
    "gelu": mc.GELU,
}


@pytest.mark.parametrize("name", ACTIVATIONS)
@each_way
def test_activation_in_pieces(name, way, monkeypatch):
    """Behind a pooling, and where x is needed elsewhere, too: in pieces that don't divide it."""
    monkeypatch.setattr(activation, "PIECE_BYTES", 1000)
    make = ACTIVATIONS[name]
    compare(lambda: head(mc.Conv2D(5, 3), mc.AveragePool2D(2), make()), (9, 9, 2), way)
    compare(lambda: head(mc.Conv2D(3, 1), mc.Residual([make(), mc.Tanh()])), (5, 5, 2), way)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("name", ACTIVATIONS)
def test_activation_at_the_ends(name, dtype):
    """Very large and very small numbers, zeros of both signs: as in the book, without a warning."""
    large = 1e30 if dtype == "float32" else 1e300
    ends = [-large, -1e4, -100, -20, -1e-30, -0.0, 0.0, 1e-30, 20, 100, 1e4, large]
    make = lambda: [ACTIVATIONS[name]()]  # noqa: E731
    model, truth = (mc.Sequential(*make()).build((len(ends),), dtype=dtype) for _ in range(2))
    x, dy = np.array([ends], dtype), np.ones((1, len(ends)), dtype)
    if name == "gelu":
        x[abs(x) > 1e4] = 1e4  # its backward squares them, in the book, too
    y, wanted = plan.infer(model, x), truth.infer(x)
    np.testing.assert_allclose(y, wanted, rtol=1e-6, atol=1e-36)
    assert by_plan(model, x, dy)["y"].tobytes() == y.tobytes()


def test_gelu_in_float32_has_its_digits():
    """Everywhere, and the slope too, beside the book's in float64."""
    x = np.linspace(-12, 12, 100_001)[None]
    model = mc.Sequential(mc.Dense(x.size, use_bias=False), mc.GELU()).build((1,))
    truth = mc.Sequential(mc.GELU()).build((x.size,), dtype="float64")
    model.params["dense_1/w"][...] = x
    one, dy = np.ones((1, 1), "float32"), np.ones_like(x)
    y = by_plan(model, one, dy.astype("float32"))["y"]
    exact = truth.forward(model.params["dense_1/w"].astype("float64"), training=True)
    assert abs(y - exact).max() < 2e-6  # the largest are 12
    assert abs(y - exact)[abs(x) < 1].max() < 2e-7
    assert abs(model.grads["dense_1/w"] - truth.backward(dy)).max() < 1e-6


@pytest.mark.parametrize("slope", [0.1, 1.0, 1.5, 0.0])
@pytest.mark.parametrize("order", ["conv-leaky", "conv-leaky-pool", "conv-pool-leaky"])
@each_way
def test_leaky_relu_behind_a_convolution(order, slope, way):
    """In each way to convolve, the first of a network and a later one."""
    kinds = {"leaky": lambda: mc.LeakyReLU(slope), "pool": lambda: mc.MaxPool2D(2)}
    for first in (True, False):
        for size in (1, 3):
            after = [kinds[name] for name in order.split("-")[1:]]
            before = [] if first else [mc.Conv2D(4, 1), mc.Tanh()]
            layers = lambda b=before, a=after, k=size: head(  # noqa: E731
                *(type(layer)(*((4, 1) if isinstance(layer, mc.Conv2D) else ())) for layer in b),
                mc.Conv2D(6, k),
                *(make() for make in a),
            )
            compare(layers, (8, 9, 3), way)


GROUPS = {
    "first": lambda: [mc.Conv2D(6, 3, groups=3), mc.ReLU()],
    "depthwise": lambda: [mc.Conv2D(6, 1), mc.Conv2D(6, 3, padding="same", groups=6), mc.Tanh()],
    "two, pooled": lambda: [mc.Conv2D(6, 1), mc.Conv2D(8, 3, groups=2), mc.MaxPool2D(2), mc.ReLU()],
    "strided": lambda: [mc.Conv2D(6, 1), mc.Conv2D(12, 3, 2, 1, groups=3), mc.BatchNorm()],
    "pixels": lambda: [mc.Conv2D(6, 2), mc.Conv2D(4, 1, groups=2, use_bias=False)],
}


@pytest.mark.parametrize("limit", [0, convolution_parts.DENSE], ids=["by the book", "dense"])
@pytest.mark.parametrize("name", GROUPS)
@each_way
def test_convolution_in_groups(name, way, limit, monkeypatch):
    monkeypatch.setattr(convolution_parts, "DENSE", limit)
    compare(lambda: head(*GROUPS[name]()), (8, 9, 3), way)


@pytest.mark.parametrize("dtype", ["uint8", "float32"])
def test_normalize_alone(dtype):
    make = lambda: head(mc.Normalize((0.2, 0.5, 0.3), (0.3, 0.25, 0.2)), mc.Tanh())  # noqa: E731
    model = build(make(), (5, 7, 3), "float32")
    truth = like(model, make(), "float64")
    x, dy = batch(model, N).astype(dtype), upstream(model, N)
    with mc.threads(2):
        check(by_plan(model, x, dy), by_layers(truth, x, dy.astype("float64")), 2e-6)
    rows = mc.Sequential(mc.Normalize(0.5, 2.0, 1.0), mc.Dense(3)).build((4,))
    check({"y": plan.infer(rows, x[:, 0, 0, :1] + np.ones((N, 4), "float32"))},
          {"y": rows.infer(x[:, 0, 0, :1] + np.ones((N, 4), "float32"))}, 1e-6)  # fmt: skip
