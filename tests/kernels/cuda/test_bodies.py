"""Every body that is registered for CuPy's arrays equals the readable one, its definition."""

from __future__ import annotations

import numpy as np
import pytest

from kernels.test_registry import CASES as CPU_CASES
from kernels.test_registry import double, outcome
from minicnn.kernels.cuda import all_bodies  # noqa: F401 - which makes them known
from minicnn.kernels.cuda.registry import bodies

from .test_pairs import TESTED


def dense(N, I, O, backward=False):
    """Arguments of the dense layer, or of its gradient."""

    def arguments(rng, dtype):
        x, w, b, dy = (
            rng.standard_normal(shape).astype(dtype) for shape in ((N, I), (I, O), (O,), (N, O))
        )
        return [dy, (x, w, True)] if backward else [x, w, b]

    return arguments


SIZES = {"classes": (7, 33, 10), "one": (1, 1, 1), "wide": (33, 64, 72)}
CASES = CPU_CASES | {
    "dense_forward": {case: dense(*sizes) for case, sizes in SIZES.items()},
    "dense_backward": {case: dense(*sizes, backward=True) for case, sizes in SIZES.items()},
}

LIMITS = {"float32": 1e-6, "float64": 1e-12}
DRAWING = {"dropout_forward", "dropout_backward", "gather"}
"""They draw other numbers than the book: `test_bodies_that_draw`."""
BODIES = {f.__name__: f for f, _ in bodies if f.__name__ not in {*TESTED, *DRAWING}}


def on_device(cupy, value):
    """Put all arrays inside on the device."""
    if isinstance(value, tuple | list):
        return type(value)(on_device(cupy, part) for part in value)
    return cupy.asarray(value) if isinstance(value, np.ndarray) else value


def on_host(cupy, value):
    """Get all arrays inside."""
    if isinstance(value, tuple | list):
        return type(value)(on_host(cupy, part) for part in value)
    return value.get() if isinstance(value, cupy.ndarray) else value


def test_every_body_has_cases():
    assert set(BODIES) - set(CASES) == set()
    assert len(BODIES) + len(TESTED) + len(DRAWING) == len(bodies)


def test_bodies_are_registered_once(cupy):
    for function, own in bodies:
        assert function.dispatch(cupy.ndarray) is own
        assert function.dispatch(object) is not own is not function.dispatch(np.ndarray)


@pytest.mark.parametrize("dtype", LIMITS)
@pytest.mark.parametrize(
    ("name", "case"), [(name, case) for name in BODIES for case in CASES[name]]
)
def test_body_equals_the_book(cupy, rng, name, case, dtype):
    function, arguments = BODIES[name], CASES[name][case](rng, dtype)
    expected = outcome(name, function.dispatch(object), double(arguments))
    given = on_device(cupy, arguments)
    returned = function(*given)
    found = outcome(name, lambda *_: on_host(cupy, returned), on_host(cupy, given))
    assert len(found) == len(expected) > 0
    for array, wanted in zip(found, expected, strict=True):
        assert (array.dtype, array.shape) == (dtype, wanted.shape)
        assert np.linalg.norm(array - wanted) <= LIMITS[dtype] * np.linalg.norm(wanted)


@pytest.mark.parametrize("name", BODIES)
def test_body_never_waits_for_the_gpu(standin, rng, name):
    for case in CASES[name].values():
        given = on_device(standin, case(rng, "float32"))
        standin.counts.reset()
        BODIES[name](*given)
        assert (standin.counts.synchronizations, standin.counts.transfers) == (0, 0)
