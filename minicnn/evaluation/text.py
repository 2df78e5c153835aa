"""Columns of text on a terminal, whatever the letters."""

from __future__ import annotations

from unicodedata import category, east_asian_width


def printable(text: str) -> str:
    """Return a text without what would upset a terminal: a name from a file may be anything."""
    return "".join(c if c.isprintable() else repr(c)[1:-1] for c in text)


def width(text: str) -> int:
    """Return how many cells a text takes on a terminal: marks take none, wide letters two."""
    return sum(
        0 if category(c) in ("Mn", "Me") else 2 if east_asian_width(c) in "WF" else 1 for c in text
    )


def cut(text: str, cells: int) -> str:
    """Return a text that takes at most so many cells; ``..`` at its end says that it was longer."""
    if width(text) <= cells:
        return text
    while text and width(text) > cells - 2:
        text = text[:-1]
    return f"{text}.."


def left(text: str, cells: int) -> str:
    """Return a text of exactly so many cells, at their left."""
    text = cut(text, cells)
    return text + " " * (cells - width(text))


def right(text: str, cells: int) -> str:
    """Return a text of exactly so many cells, at their right."""
    text = cut(text, cells)
    return " " * (cells - width(text)) + text
