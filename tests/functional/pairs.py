"""What holds for every pair of functions, whatever it computes."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np

from minicnn.gradcheck import check_function

TOLERANCE = {"float64": {"rtol": 1e-12, "atol": 1e-13}, "float32": {"rtol": 1e-5, "atol": 2e-6}}


def cast(array: np.ndarray, dtype: str) -> np.ndarray:
    """Turn floats into ``dtype``; class ids and pixels stay what they are."""
    return array.astype(dtype) if array.dtype.kind == "f" else array.copy()


def strided(array: Any, xp: Any = np) -> Any:
    """Return an equal array whose elements lie apart and in another order in memory."""
    if array.ndim == 0:
        return array
    wide = xp.zeros(tuple(2 * n for n in reversed(array.shape)), dtype=array.dtype)
    view = wide[tuple(slice(1, None, 2) for _ in array.shape)].T
    view[...] = array
    return view


def several(grads: Any) -> tuple[Any, ...]:
    return grads if isinstance(grads, tuple) else (grads,)


def check_gradient(forward: Callable, backward: Callable, inputs: Sequence[np.ndarray]) -> None:
    """The gradients are those of the function, and nothing was left out of the comparison."""
    report = check_function(forward, backward, inputs).raise_on_failure()
    floats = [a for a in inputs if a.dtype.kind == "f"]
    assert [a.shape for a in report.arguments] == [a.shape for a in floats]
    assert all(a.kinks == 0 for a in report.arguments), str(report)


def check_pair(
    backend: Any,
    forward: Callable,
    backward: Callable,
    inputs: Sequence[np.ndarray],
    expected: np.ndarray | None = None,
    **tolerance: float,
) -> None:
    """Forward is right, and forward and backward keep dtype, library, shape and their inputs.

    inputs: float64 (or integer) NumPy arrays.  expected: y from an oracle.  Gradients are compared
    with the float64 ones, which `check_gradient` compares with differences.
    """
    y64, cache = forward(*[a.copy() for a in inputs])
    dy64 = np.asarray(np.random.default_rng(5).standard_normal(y64.shape))
    grads64 = several(backward(dy64.copy(), cache))
    expected = y64 if expected is None else expected
    for dtype in ("float64", "float32"):
        limits = TOLERANCE[dtype] | (tolerance if dtype == "float32" else {})
        for place in (lambda a, xp: a, strided):
            arrays = [place(backend.array(cast(a, dtype)), backend.xp) for a in inputs]
            kept = [a.copy() for a in arrays]
            y, cache = forward(*arrays)
            assert y.dtype == dtype
            assert y.shape == np.shape(expected)
            np.testing.assert_allclose(backend.numpy(y), expected, **limits)
            dy = place(backend.array(cast(dy64, dtype)), backend.xp)
            dy_kept = dy.copy()
            for grad, grad64, array in zip(
                several(backward(dy, cache)), grads64, arrays, strict=False
            ):
                if grad64 is None:
                    assert grad is None
                    continue
                assert grad.dtype == dtype
                assert grad.shape == array.shape
                scaled = limits | {"atol": limits["atol"] * max(1.0, float(abs(grad64).max()))}
                np.testing.assert_allclose(backend.numpy(grad), grad64, **scaled)
            for array, before in zip([*arrays, dy], [*kept, dy_kept], strict=True):
                assert bool((array == before).all()), "an input was modified"


def arrays_in(cache: Any) -> Iterator[Any]:
    """Yield the arrays of a cache, however deep."""
    if hasattr(cache, "dtype"):
        yield cache
    elif isinstance(cache, tuple | list):
        for item in cache:
            yield from arrays_in(item)


def assert_small_cache(
    forward: Callable, inputs: Sequence[np.ndarray], extra: int = 0, **options: Any
) -> None:
    """Nothing in the cache is larger than the inputs and the output, nor all of it together.

    extra: bytes that are allowed besides, for what can't be made from those again.
    """
    y, cache = forward(*inputs, **options)
    sizes = [a.nbytes for a in arrays_in(cache)]
    known = [y.nbytes, *(a.nbytes for a in inputs)]
    assert max(sizes, default=0) <= max(known)
    assert sum(sizes) <= sum(known) + extra
