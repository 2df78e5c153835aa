"""Forward and backward of the layers' functions, as CuPy's arrays run them: equal to the book's.

A pair's cache is its own affair, so both are run together.
"""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest

from minicnn.functional import activation, loss, norm, pool
from minicnn.kernels.cuda import all_bodies  # noqa: F401 - which makes them known
from minicnn.kernels.cuda.bodies import Kept
from minicnn.kernels.cuda.registry import bodies

LIMITS = {"float16": 4e-3, "float32": 2e-6, "float64": 1e-12}
PICTURES = (3, 7, 6, 5)


def floats(*shapes):
    return lambda rng: [rng.standard_normal(shape) for shape in shapes]


def pictures(rng):
    return [rng.standard_normal(PICTURES), *(rng.random(5) + 0.5 for _ in range(2))]


def pictures_in_bytes(rng):
    return [rng.integers(0, 256, PICTURES, dtype="uint8"), *pictures(rng)[1:]]


def logits_and_ids(rng):
    return [rng.standard_normal((9, 5)), rng.integers(0, 5, 9)]


def logits_and_shares(rng):
    return [rng.standard_normal((9, 5)), rng.dirichlet(np.ones(5), 9)]


def weighed(rng):
    return [*logits_and_ids(rng), 0.1, rng.random(5)]


def inference(rng):
    return [rng.standard_normal(PICTURES), *(rng.random(5) + 0.5 for _ in range(4))]


each, five = floats(PICTURES), (5,)
PAIRS = {  # the book's file and name: arguments from a generator, further ones
    (activation, "relu"): [(each, ())],
    (activation, "leaky_relu"): [(each, ()), (each, (0.1,))],
    (activation, "sigmoid"): [(each, ())],
    (activation, "tanh"): [(each, ())],
    (activation, "silu"): [(each, ())],
    (activation, "gelu"): [(each, ())],
    (activation, "softmax"): [(each, ()), (floats((11,)), ())],
    (pool, "maxpool2d"): [(each, (2,)), (each, ((3, 2), (1, 2), "same")), (each, (3, None, 1))],
    (pool, "averagepool2d"): [
        (each, (2,)),
        (each, ((3, 2), (1, 2), "same")),
        (each, (3, None, 1, True)),
    ],
    (pool, "globalaveragepool2d"): [(each, ())],
    (norm, "normalize"): [(pictures_in_bytes, (1 / 255,)), (pictures, (1.0,))],
    (norm, "batchnorm"): [(floats(PICTURES, five, five), ()), (floats((8, 5), five, five), (0.1,))],
    (norm, "batchnorm_inference"): [(inference, ()), (inference, (0.1,))],
    (loss, "softmax_cross_entropy"): [
        (logits_and_ids, ()),
        (logits_and_shares, (0.2,)),
        (weighed, ()),
    ],
    (loss, "mean_squared_error"): [(floats((9, 5), (9, 5)), ())],
    (loss, "penalty"): [(each, (0.1, 0.2)), (each, ())],
}
TESTED = {f"{name}_{way}" for _, name in PAIRS for way in ("forward", "backward")}

each_pair = pytest.mark.parametrize(
    ("file", "name", "case"),
    [(file, name, i) for (file, name), cases in PAIRS.items() for i in range(len(cases))],
    ids=lambda value: getattr(value, "__name__", str(value)).rpartition(".")[2],
)


def ends(file, name):
    return (getattr(file, f"{name}_{way}") for way in ("forward", "backward"))


def prepared(rng, file, name, case, dtype):
    """The arguments in this dtype."""
    arrays, more = PAIRS[file, name][case]
    arguments = arrays(rng)
    return [
        a.astype(dtype) if isinstance(a, np.ndarray) and a.dtype.kind == "f" else a
        for a in arguments
    ] + list(more)


def doubled(value):
    is_float = isinstance(value, np.ndarray) and value.dtype.kind == "f"
    return value.astype("float64") if is_float else value


def on_device(cupy, value):
    return cupy.asarray(value) if isinstance(value, np.ndarray) else value


def as_tuple(value):
    return value if isinstance(value, tuple) else (value,)


def test_all_bodies_are_tested():
    of_layers = {f.__name__ for f, _ in bodies if f.__module__ in {p.__name__ for p, _ in PAIRS}}
    assert of_layers == TESTED


@each_pair
@pytest.mark.parametrize("dtype", LIMITS)
def test_pair_equals_the_book(cupy, rng, file, name, case, dtype):
    forward, backward = ends(file, name)
    arguments = prepared(rng, file, name, case, dtype)
    y, cache = forward.dispatch(object)(*map(doubled, arguments))
    dy = rng.standard_normal(y.shape).astype(dtype)
    expected = as_tuple(backward.dispatch(object)(doubled(dy), cache))
    given = [on_device(cupy, a) for a in arguments]
    on_dy = on_device(cupy, dy)
    counts = getattr(cupy, "counts", SimpleNamespace(reset=lambda: None))
    counts.reset()
    on_y, kept = forward(*given)
    found = as_tuple(backward(on_dy, kept))
    if hasattr(cupy, "counts"):
        assert (counts.synchronizations, counts.transfers) == (0, 0)
    for array, wanted in zip((on_y, *found), (y, *expected), strict=True):
        assert isinstance(array, cupy.ndarray)
        assert (array.dtype, array.shape) == (dtype, wanted.shape)
        size = abs(wanted).max() + 1e-3
        np.testing.assert_allclose(array.get(), wanted, rtol=0, atol=LIMITS[dtype] * size)
    for array, before in zip(given, arguments, strict=True):
        if isinstance(before, np.ndarray):
            np.testing.assert_array_equal(array.get(), before)  # left alone


@each_pair
def test_pair_of_scattered_arrays(cupy, rng, file, name, case):
    """Views that aren't contiguous give the same."""
    forward, backward = ends(file, name)
    arguments = prepared(rng, file, name, case, "float32")
    expected, cache = forward(*(on_device(cupy, a) for a in arguments))
    dy = rng.standard_normal(expected.shape).astype("float32")
    gradients = as_tuple(backward(on_device(cupy, dy), cache))

    def scattered(value):
        if not isinstance(value, np.ndarray) or value.ndim == 0:
            return value
        return on_device(cupy, np.repeat(value, 2, axis=0))[::2]

    y, cache = forward(*map(scattered, arguments))
    found = as_tuple(backward(scattered(dy) if dy.ndim else on_device(cupy, dy), cache))
    for one, other in zip((y, *found), (expected, *gradients), strict=True):
        np.testing.assert_array_equal(one.get(), other.get())


@each_pair
def test_pair_whose_gradient_is_of_another_dtype(cupy, rng, file, name, case):
    """The book takes over in the middle of a pair, and finds its way."""
    forward, backward = ends(file, name)
    arguments = prepared(rng, file, name, case, "float32")
    y, cache = forward.dispatch(object)(*arguments)
    dy = rng.standard_normal(y.shape)
    expected = as_tuple(backward.dispatch(object)(dy, cache))
    _, kept = forward(*(on_device(cupy, a) for a in arguments))
    found = as_tuple(backward(on_device(cupy, dy), kept))
    for array, wanted in zip(found, expected, strict=True):
        assert (array.dtype, array.shape) == (wanted.dtype, wanted.shape)
        size = abs(wanted).max() + 1e-3
        np.testing.assert_allclose(array.get(), wanted, rtol=0, atol=4e-6 * size)


@each_pair
def test_pair_follows_the_cache_of_the_book(cupy, rng, file, name, case):
    forward, backward = ends(file, name)
    given = [on_device(cupy, a) for a in prepared(rng, file, name, case, "float32")]
    y, kept = forward(*given)
    _, cache = forward.dispatch(object)(*given)
    assert not isinstance(cache, Kept)
    dy = on_device(cupy, rng.standard_normal(y.shape).astype("float32"))
    for one, other in zip(as_tuple(backward(dy, cache)), as_tuple(backward(dy, kept)), strict=True):
        np.testing.assert_allclose(one.get(), other.get(), rtol=1e-4, atol=1e-5)


def test_integers_and_errors_are_the_books(cupy):
    numbers = cupy.asarray(np.arange(-4, 4).reshape(1, 2, 2, 2))
    y, cache = activation.relu_forward(numbers)
    assert y.dtype == numbers.dtype
    np.testing.assert_array_equal(y.get(), np.maximum(numbers.get(), 0))
    np.testing.assert_array_equal(activation.relu_backward(numbers, cache).get()[0, 0], 0)
    for refused in (activation.sigmoid_forward, activation.gelu_forward):
        with pytest.raises(TypeError, match="expected floats, got int64"):
            refused(numbers)
    x = cupy.asarray(np.ones((2, 3, 3, 1), "float32"))
    for function in (pool.maxpool2d_forward, pool.averagepool2d_forward):
        with pytest.raises(ValueError, match="doesn't fit into a picture"):
            function(x, 4)
        with pytest.raises(ValueError, match="hide a whole window"):
            function(x, 2, 2, 2)
        with pytest.raises(ValueError, match=r"expected x \(N, H, W, C\)"):
            function(x[0], 2)
    with pytest.raises(ValueError, match="at most 256"):
        pool.maxpool2d_forward(x, (17, 17))
    ones = cupy.asarray(np.ones(1, "float32"))
    with pytest.raises(ValueError, match="one value a channel"):
        norm.batchnorm_forward(x[:1, :1, :1], ones, ones)
    with pytest.raises(ValueError, match="labels are"):
        loss.softmax_cross_entropy_forward(x.reshape(6, 3), cupy.asarray(np.zeros(5, "int64")))
    with pytest.raises(ValueError, match="the target is"):
        loss.mean_squared_error_forward(x, ones)


def test_empty_arrays_are_the_books(cupy):
    x = cupy.asarray(np.zeros((0, 4, 4, 3), "float32"))
    assert activation.relu_forward(x)[0].shape == x.shape
    y, cache = pool.maxpool2d_forward(x, 2)
    assert pool.maxpool2d_backward(y, cache).shape == x.shape
