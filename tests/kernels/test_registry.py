"""Every body that is registered for NumPy arrays equals the readable one, its definition."""

from __future__ import annotations

import importlib
import pkgutil

import numpy as np
import pytest

import minicnn.functional
import minicnn.kernels.cpu
from minicnn import parallel
from minicnn.kernels.cpu import conv_algorithm

LIMITS = {"float32": 1e-6, "float64": 1e-10}


def registered():
    """The functions of the book that have a body for NumPy arrays, by name."""
    found = {}
    for info in pkgutil.iter_modules(minicnn.functional.__path__):
        module = importlib.import_module(f"minicnn.functional.{info.name}")
        for name, function in vars(module).items():
            own = getattr(function, "__module__", None) == module.__name__
            if own and np.ndarray in getattr(function, "registry", {}):
                found[name] = function
    return found


# A case is a function of (rng, dtype) that returns the arguments.


def vectors(count, size, *scalars):
    """Arguments of an update rule; the last of its memory isn't negative."""

    def arguments(rng, dtype):
        arrays = [rng.standard_normal(size).astype(dtype) for _ in range(count)]
        return [*arrays[:-1], abs(arrays[-1]), *scalars]

    return arguments


def rule(count, *scalars):
    return {f"{size} numbers": vectors(count, size, *scalars) for size in (1, 1000, 200_001)}


CONVOLUTIONS = {  # x, w, options
    "3x3": ((7, 9, 8, 16), (3, 3, 16, 20), {"padding": "same"}),
    "first": ((9, 13, 10, 3), (3, 3, 3, 8), {}),
    "pointwise": ((5, 6, 7, 8), (1, 1, 8, 4), {}),
    "strides": ((4, 11, 9, 4), (5, 3, 4, 6), {"stride": (2, 1), "padding": "same"}),
    "dilation": ((3, 12, 11, 5), (3, 2, 5, 3), {"dilation": (2, 3), "padding": 2}),
    "groups": ((3, 8, 7, 6), (3, 3, 2, 9), {"groups": 3, "padding": 1}),
}


def convolution(case, backward=False):
    x_shape, w_shape, options = CONVOLUTIONS[case]

    def arguments(rng, dtype):
        x, w, b = (
            rng.standard_normal(shape).astype(dtype) for shape in (x_shape, w_shape, w_shape[3:])
        )
        forward = [x, w, b, *(options.get(k, v) for k, v in DEFAULTS.items())]
        if not backward:
            return forward
        y, cache = registered()["conv2d_forward"].dispatch(object)(*forward)
        return [rng.standard_normal(y.shape).astype(dtype), cache]

    return arguments


DEFAULTS = {"stride": 1, "padding": "valid", "dilation": 1, "groups": 1}
CASES = {
    "conv2d_forward": {case: convolution(case) for case in CONVOLUTIONS},
    "conv2d_backward": {case: convolution(case, backward=True) for case in CONVOLUTIONS},
    "sgd_update": rule(2, 0.1),
    "momentum_update": rule(3, 0.1, 0.9) | {"nesterov": vectors(3, 5000, 0.1, 0.9, True)},
    "rmsprop_update": rule(3, 0.01, 0.9, 1e-8),
    "adam_update": rule(4, 3, 0.01, 0.9, 0.999, 1e-8),
    "average_update": rule(2, 0.99),
}


def test_every_registered_body_has_cases():
    missing, gone = set(registered()) - set(CASES), set(CASES) - set(registered())
    assert not missing, f"registered, but not compared with the book: give {missing} cases here"
    assert not gone, f"cases for what isn't registered: {gone}"
    for function in registered().values():
        assert function.dispatch(np.ndarray) is not function.dispatch(object)


def outcome(name, function, arguments):
    """Return all arrays that a function returns or changes; the cache is its own affair."""
    returned = function(*arguments)
    if name.endswith("_forward"):
        returned = returned[0]
    results = returned if isinstance(returned, tuple) else (returned,)
    changed = arguments if name.endswith("_update") else []
    return [array for array in (*results, *changed) if isinstance(array, np.ndarray)]


def double(value):
    """Turn all floats inside into float64."""
    if isinstance(value, tuple | list):
        return type(value)(map(double, value))
    is_float = isinstance(value, np.ndarray) and value.dtype.kind == "f"
    return value.astype("float64") if is_float else value


@pytest.mark.parametrize("threads", [1, 3])
@pytest.mark.parametrize("dtype", LIMITS)
@pytest.mark.parametrize(
    ("name", "case"), [(name, case) for name, cases in CASES.items() for case in cases]
)
def test_registered_body_equals_the_book(rng, name, case, dtype, threads):
    function, arguments = registered()[name], CASES[name][case](rng, dtype)
    expected = outcome(name, function.dispatch(object), double(arguments))
    with parallel.threads(threads), conv_algorithm("direct"):
        found = outcome(name, function.dispatch(np.ndarray), arguments)
    assert len(found) == len(expected) > 0
    for array, wanted in zip(found, expected, strict=True):
        assert (array.dtype, array.shape) == (dtype, wanted.shape)
        assert np.linalg.norm(array - wanted) <= LIMITS[dtype] * np.linalg.norm(wanted)
