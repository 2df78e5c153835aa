"""JSON that anybody may have written: read with care, and shown in short."""

from __future__ import annotations

import json
from typing import Any

DEEPEST = 100  # lists and dictionaries inside each other


def read_dictionary(text: str) -> dict[str, Any]:
    """Return the dictionary that a text is; raise ValueError or TypeError if it isn't one of ours.

    A key that is there twice, or too many things inside each other, means no good.
    """
    value = json.loads(text, object_pairs_hook=unique)
    if not isinstance(value, dict):
        raise TypeError("it isn't a dictionary")
    if not text.isascii():
        raise ValueError("it has characters that ours never have")
    if too_deep(value):
        raise ValueError(f"more than {DEEPEST} lists inside each other")
    return value


def count_parts(text: str) -> int:
    """Count the commas and brackets of JSON: about as many objects come from it."""
    return sum(text.count(sign) for sign in ",[{")


def unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Return a dictionary read from JSON; raise ValueError if a key is in it twice."""
    known: dict[str, Any] = {}
    for key, value in pairs:
        if key in known:
            raise ValueError(f"it says {shorten(repr(key))} twice")
        known[key] = value
    return known


def too_deep(value: Any, limit: int = DEEPEST) -> bool:
    """Whether more than ``limit`` lists and dictionaries lie inside each other."""
    level = [value]
    for _ in range(limit):
        level = [
            inner
            for outer in level
            for inner in (outer.values() if isinstance(outer, dict) else outer)
            if isinstance(inner, dict | list)
        ]
        if not level:
            return False
    return True


def shorten(value: Any, length: int = 200) -> str:
    """Write a value, its middle left out if it is long."""
    text = str(value)
    half = length // 2
    return text if len(text) <= length else f"{text[:half]} ... {text[-half:]}"
