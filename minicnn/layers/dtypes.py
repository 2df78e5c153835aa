"""The number types that a model can be built in."""

from __future__ import annotations

from typing import Any

from ..backend import Device

FULL = ("float32", "float64")
SHORT = ("bfloat16", "float16")
"""Of 16 bits, for products and what is stored between layers; see `Sequential.build`."""


def resolve_dtype(dtype: Any, device: Device) -> tuple[str, str]:
    """Return the type of parameters and sums, and the type that products are computed in.

    dtype: a name, or NumPy's type.  Raises ValueError for others, and for 16 bits on a CPU.
    """
    name = dtype if isinstance(dtype, str) else getattr(dtype, "__name__", str(dtype))
    if name in FULL:
        return name, name
    if name not in SHORT:
        raise ValueError(
            f"dtype {dtype!r}: expected 'float32' or 'float64', or on a GPU 'bfloat16' or 'float16'"
        )
    if device.kind == "cpu":
        raise ValueError(
            f"dtype {name!r}: a CPU computes in float32 or float64 here; take device='gpu', or "
            f"leave dtype out ({device.note or device})"
        )
    return "float32", name
