"""The module's functions: an allow-list of names that CuPy 14 has and minicnn uses."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from .array import counts, current_device, launch, made, ndarray, unwrap, wrap
from .memory import allocate
from .stream import do, refuse


def on_device(function: Callable[..., Any]) -> Callable[..., Any]:
    """Run NumPy's function of the same name on device arrays."""

    def call(*args: Any, **options: Any) -> Any:
        named = {key: unwrap(value) for key, value in options.items()}
        args, out = tuple(map(unwrap, args)), options.get("out")
        if out is None:
            return launch(function, *args, **named)
        do(lambda: function(*args, **named), out.memory)
        return out

    call.__name__ = function.__name__
    return call


def elementwise(function: Callable[..., Any]) -> Callable[..., Any]:
    """As `on_device`, but one argument at least must be a device array."""
    call = on_device(function)

    def checked(*args: Any, **options: Any) -> Any:
        if not any(isinstance(a, ndarray) for a in args):
            raise TypeError(f"{function.__name__}: expected a device array, got {args!r:.60}")
        return call(*args, **options)

    return checked


def asarray(a: Any, dtype: Any = None) -> ndarray:
    """Bring anything to the current device: the door for NumPy's arrays."""
    if not isinstance(a, ndarray):
        refuse("a copy to the GPU")
        counts.transfers += 1
        return wrap(np.array(a, dtype=dtype))
    if a.device_id != current_device[0]:
        return wrap(np.array(a._host, dtype=dtype))
    return a if dtype is None else a.astype(dtype, copy=False)


def array(a: Any, dtype: Any = None) -> ndarray:
    """Copy anything to the current device."""
    b = asarray(a, dtype)
    return b.copy() if b is a else b


def empty(shape: Any, dtype: Any = float) -> ndarray:
    """Return memory with rubbish in it: what isn't written shows."""
    return made(*allocate(unwrap(shape), dtype))


def joined(function: Callable[..., Any]) -> Callable[..., Any]:
    """Take a list or tuple of device arrays."""

    def call(arrays: Any, axis: int = 0) -> ndarray:
        if not all(isinstance(a, ndarray) for a in arrays):
            raise TypeError("Only cupy arrays can be concatenated")
        return launch(lambda *hosts: function(hosts, axis=axis), *map(unwrap, arrays))

    return call


MAKE = ("arange", "full", "ones", "zeros")
COMPUTE = (
    "abs", "absolute", "add", "argmax", "argsort", "broadcast_to", "clip", "cos", "deg2rad", "exp",
    "floor", "full_like", "isfinite", "isnan", "log", "matmul", "maximum", "minimum", "multiply",
    "ones_like", "rint", "sign", "sin", "sqrt", "subtract", "sum", "take", "tanh", "where",
    "zeros_like",
)  # fmt: skip

FUNCTIONS: dict[str, Callable[..., Any]] = {
    "array": array,
    "asarray": asarray,
    "concatenate": joined(np.concatenate),
    "empty": empty,
    "empty_like": lambda a: empty(a.shape, a.dtype),
    "stack": joined(np.stack),
    **{name: on_device(getattr(np, name)) for name in MAKE},
    **{name: elementwise(getattr(np, name)) for name in COMPUTE},
}
