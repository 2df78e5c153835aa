"""Bodies for CuPy's arrays behind the functions of the book, put there once CuPy is imported."""

from __future__ import annotations

from collections.abc import Callable
from types import ModuleType
from typing import Any, TypeVar

from ... import backend

Body = TypeVar("Body", bound=Callable[..., Any])

bodies: list[tuple[Any, Callable[..., Any]]] = []
"""Functions of the book with their bodies for the GPU."""


def body(function: Any) -> Callable[[Body], Body]:
    """Say that what is decorated is the body of a function of the book for CuPy's arrays."""

    def note(own: Body) -> Body:
        bodies.append((function, own))
        return own

    return note


def register(cupy: ModuleType) -> None:
    """Put all bodies behind the book, for the arrays of this CuPy."""
    from . import all_bodies  # noqa: F401 - not before a GPU is asked for: it takes time

    for function, own in bodies:
        if cupy.ndarray not in function.registry:
            function.register(cupy.ndarray, own)


def registered(cupy: Any) -> bool:
    """Whether that was done for this CuPy."""
    return any(cupy.ndarray in function.registry for function, _ in bodies)


backend.after_cupy.append(register)
