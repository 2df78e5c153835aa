"""Activations on the GPU equal the book's."""

from __future__ import annotations

import numpy as np
import pytest

from minicnn.functional import activation as book
from minicnn.kernels.cuda import activation as gpu

NAMES = {  # what the backward wants beside dy, and further numbers
    "relu": ("y", ()),
    "leaky_relu": ("x", (0.2,)),
    "sigmoid": ("y", ()),
    "tanh": ("y", ()),
    "silu": ("x", ()),
    "gelu": ("x", ()),
    "softmax": ("y", ()),
}
SHAPES = [(1,), (7,), (5, 3), (2, 3, 5, 16), (4, 1), (3, 77), (17, 300)]

each_name = pytest.mark.parametrize("name", NAMES)


@each_name
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_activation_forward_and_backward(floor, rng, name, shape):
    wanted, numbers = NAMES[name]
    x, dy = floor.exact(rng, shape) * 2, floor.exact(rng, shape)
    y, cache = getattr(book, f"{name}_forward")(x, *numbers)
    on_x, on_dy, on_y, on_dx = floor.real(x), floor.real(dy), *(floor.s.new(shape) for _ in "ab")
    getattr(gpu, f"{name}_forward")(floor.s, on_x, on_y, *numbers)
    floor.check(on_y, y)
    getattr(gpu, f"{name}_backward")(
        floor.s, on_dy, on_x if wanted == "x" else on_y, on_dx, *numbers
    )
    floor.check(on_dx, getattr(book, f"{name}_backward")(dy, cache), size=2)


@each_name
def test_activation_in_place_and_at_any_address(floor, rng, name):
    _, numbers = NAMES[name]
    x = floor.exact(rng, (3, 40))
    shifted = floor.shifted(x)
    getattr(gpu, f"{name}_forward")(floor.s, shifted, shifted, *numbers)
    floor.check(shifted, getattr(book, f"{name}_forward")(x, *numbers)[0])


@pytest.mark.filterwarnings("ignore")
@each_name
def test_activation_of_what_is_not_finite(floor, name):
    x = np.array([[np.nan, 1.0], [np.inf, 1.0], [-np.inf, 1.0], [-np.inf, -np.inf]])
    _, numbers = NAMES[name]
    y = floor.s.new(x.shape)
    getattr(gpu, f"{name}_forward")(floor.s, floor.real(x), y, *numbers)
    expected = getattr(book, f"{name}_forward")(x, *numbers)[0]
    np.testing.assert_array_equal(np.isnan(floor.get(y)), np.isnan(expected))
    floor.check(y, expected)


def test_activation_keeps_small_results(floor32):
    x = np.array([-8.0, -20.0, -60.0, -87.0])
    for name in ("sigmoid", "silu", "gelu"):
        y = floor32.s.new(x.shape)
        getattr(gpu, f"{name}_forward")(floor32.s, floor32.real(x), y)
        expected = getattr(book, f"{name}_forward")(x)[0]
        if name == "gelu":  # 1 + erf cancels in the book, here nothing does
            expected = x * 0.5 * np.array([1.2441921148543573e-15, 5.507248237212467e-89, 0, 0])
        np.testing.assert_allclose(floor32.get(y), expected, rtol=1e-5, atol=1e-44)


def test_relu_backward_at_zero(floor):
    y, dy = floor.real(np.array([0.0, 1.0, 0.0])), floor.real(np.array([1.0, 2.0, np.inf]))
    dx = floor.s.new((3,))
    gpu.relu_backward(floor.s, dy, y, dx)
    np.testing.assert_array_equal(floor.get(dx), [0, 2, np.nan])  # as in the book: 0 * inf


def test_nothing_to_do(floor):
    empty = floor.s.new((0, 5))
    for name, (_, numbers) in NAMES.items():
        getattr(gpu, f"{name}_forward")(floor.s, empty, empty, *numbers)
