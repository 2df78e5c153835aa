"""What holds for all functions of the book: they come in pairs, and may be made faster."""

from __future__ import annotations

import importlib
import inspect
import pkgutil

import numpy as np
import pytest

import minicnn.functional as book

FUNCTIONS = {
    name: function
    for module in pkgutil.iter_modules(book.__path__)
    for name, function in vars(importlib.import_module(f"{book.__name__}.{module.name}")).items()
    if name.endswith(("_forward", "_backward", "_update"))
}


def test_the_book_is_complete():
    assert {"conv2d_forward", "maxpool2d_backward", "adam_update"} <= set(FUNCTIONS)
    assert len(FUNCTIONS) >= 44


@pytest.mark.parametrize("name", FUNCTIONS)
def test_function_has_a_registry_and_a_reference(name):
    function = FUNCTIONS[name]
    assert function.dispatch(object) is function.__wrapped__
    assert object in function.registry
    assert inspect.getdoc(function)


@pytest.mark.parametrize("name", [name for name in FUNCTIONS if name.endswith("_forward")])
def test_forward_has_its_backward_in_the_same_file(name):
    backward = FUNCTIONS[name.replace("_forward", "_backward")]
    assert backward.__module__ == FUNCTIONS[name].__module__
    first = next(iter(inspect.signature(backward).parameters))
    assert first in ("dy", "dloss")


@pytest.mark.parametrize("name", [n for n, f in FUNCTIONS.items() if np.ndarray in f.registry])
def test_function_with_another_body_is_tested_by_both(name):
    """The tests that were written for the book must still reach the book."""
    part = FUNCTIONS[name].__module__.rpartition(".")[2]
    tests = importlib.import_module(f"{__package__}.test_{part}")
    assert tests.pytestmark.args == ("body",)


def float32(*shape):
    return np.random.default_rng(0).random(shape, dtype="float32")


SCALARS = {  # every option that is a number, given as NumPy's float64, as a sweep would give it
    "leaky_relu": ([float32(3, 4) - 0.5], {"slope": 0.2}),
    "dropout": ([float32(3, 4)], {"rate": 0.5, "rng": np.random.default_rng(1)}),
    "batchnorm": ([float32(3, 4), float32(4), float32(4)], {"eps": 1e-3}),
    "batchnorm_inference": ([float32(3, 4), *float32(4, 4)], {"eps": 1e-3}),
    "normalize": ([float32(1, 2, 2, 3), float32(3), float32(3) + 1], {"scale": 1 / 255}),
    "softmax_cross_entropy": ([float32(3, 4), np.array([0, 1, 2])], {"label_smoothing": 0.1}),
    "penalty": ([float32(3, 4)], {"l1": 0.1, "l2": 0.2}),
}


@pytest.mark.parametrize("name", SCALARS)
def test_options_as_numpy_numbers_keep_float32(name):
    """A float64 scalar of NumPy turns float32 arrays into float64 ones; Python's number doesn't."""
    inputs, options = SCALARS[name]
    options = {k: np.float64(v) if isinstance(v, float) else v for k, v in options.items()}
    y, cache = FUNCTIONS[f"{name}_forward"](*inputs, **options)
    assert y.dtype == "float32"
    grads = FUNCTIONS[f"{name}_backward"](np.ones_like(y), cache)
    for grad in grads if isinstance(grads, tuple) else (grads,):
        assert grad.dtype == "float32"
