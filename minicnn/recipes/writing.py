"""A recipe as the text of a TOML file, which `recipes.load` reads again."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from typing import Any

from .recipe import Recipe


def recipe_text(recipe: Recipe, before: str = "") -> str:
    """Return a recipe's file.  before: what is said about it before what it says itself."""
    lines = [f"about = {paragraph(before + recipe.about)}"]
    for name, found in recipe.tables.items():
        if isinstance(found, Mapping):
            lines += table_lines(name, found)
        elif isinstance(found, list | tuple):
            for item in found:
                lines += table_lines(name, item, "[[{}]]")
    return "\n".join(lines) + "\n"


def table_lines(name: str, found: Mapping[str, Any], head: str = "[{}]") -> Iterator[str]:
    """Yield the lines of a table, and of those inside after it."""
    yield ""
    yield head.format(name)
    inner = {key: value for key, value in found.items() if isinstance(value, Mapping)}
    for key, value in found.items():
        if key not in inner and value is not None:
            yield f"{key_text(key)} = {value_text(value)}"
    for key, value in inner.items():
        yield from table_lines(f"{name}.{key_text(key)}", value)


def key_text(key: str) -> str:
    """Return a key, in quotes if it needs them."""
    return key if re.fullmatch("[A-Za-z0-9_-]+", key) else value_text(key)


def value_text(value: Any) -> str:
    """Return a value as TOML has it."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, list | tuple):
        return f"[{', '.join(map(value_text, value))}]"
    if isinstance(value, str):  # TOML's strings are JSON's, but for one character
        return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007F")
    return repr(value)


def paragraph(text: str) -> str:
    """Return a text of several lines as TOML has it, readable where that is possible."""
    if re.search(r'\\|"""|[\x00-\x09\x0b-\x1f\x7f]', text) or text.endswith('"'):
        return value_text(text)
    return f'"""\n{text}\n"""'
