"""The book's own body of a function, and the one that is registered for the array at hand."""

from __future__ import annotations

from types import ModuleType

import pytest


@pytest.fixture(params=["book", "registered"])
def body(request, monkeypatch):
    """Run a test twice: by what the book says, and by what is called where nobody chooses.

    For files about functions that have faster bodies: ``pytestmark = usefixtures("body")``.
    """
    if request.param == "book":
        for place in (request.module, *modules_in(request.module)):
            for name, function in list(vars(place).items()):
                if hasattr(function, "registry"):
                    monkeypatch.setattr(place, name, function.dispatch(object))
    return request.param


def modules_in(test_module: ModuleType) -> list[ModuleType]:
    """Return the parts of the book that a file of tests has imported as a whole."""
    found = [value for value in vars(test_module).values() if isinstance(value, ModuleType)]
    return [module for module in found if module.__name__.startswith("minicnn.functional.")]
