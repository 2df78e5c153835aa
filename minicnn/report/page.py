"""The building blocks of a page: texts that can't become anything else, tables, sections."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from html import escape
from math import isfinite
from typing import Any

from ..checkpoint.json_text import shorten
from ..evaluation.text import printable

LONGEST = 60
"""Characters of a name that are written."""


@dataclass(frozen=True)
class Section:
    """A part of the page: its place in links, its heading, its HTML."""

    anchor: str
    title: str
    body: str


def text(value: Any) -> str:
    """Return a text, from wherever, as HTML in which it is nothing but a text, in one line."""
    return escape(printable(" ".join(str(value).split())))


def name(value: Any) -> str:
    """Return the name of a class: its direction of writing stays its own."""
    return f"<bdi>{text(shorten(value, LONGEST)) or '(no name)'}</bdi>"


def beside(*parts: str) -> str:
    """Return parts side by side where there is room, else one below the other."""
    return f'<div class="beside">{"".join(parts)}</div>'


def paragraph(*sentences: str) -> str:
    """Return a paragraph of HTML."""
    return f"<p>{' '.join(sentences)}</p>"


def percent(share: float, digits: int = 2) -> str:
    """Write a share of 1: "81.07 %"."""
    return f"{100 * share:.{digits}f} %" if isfinite(share) else "none"


def table(
    caption: str,
    heads: Sequence[str],
    rows: Iterable[Sequence[str]],
    words: int = 1,
    kind: str = "",
) -> str:
    """Return a table: the first ``words`` columns are no numbers, and the first heads its row.

    It scrolls by itself where a screen is too narrow.  caption: a plain text.  heads, rows: HTML.
    """

    def cell(tag: str, i: int, content: str) -> str:
        aligned = "" if i < words else ' class="number"'
        return f"<{tag}{aligned}>{content}</{tag.split()[0]}>"

    head = "".join(cell('th scope="col"', i, content) for i, content in enumerate(heads))
    body = []
    for first, *others in rows:
        cells = "".join(cell("td", i, content) for i, content in enumerate(others, start=1))
        body.append(f'<tr><th scope="row">{first}</th>{cells}</tr>')
    lines = "\n".join(body)
    return scrolling(
        caption,
        f'<table class="{kind}"><caption>{text(caption)}</caption>\n'
        f"<thead><tr>{head}</tr></thead>\n<tbody>\n{lines}\n</tbody></table>",
    )


def scrolling(label: str, body: str) -> str:
    """Return HTML in a box that scrolls sideways, also by the keyboard.  label: a plain text."""
    said = text(label)
    return f'<div class="scroll" role="region" tabindex="0" aria-label="{said}">{body}</div>'


def facts(caption: str, pairs: Iterable[tuple[str, Any]]) -> str:
    """Return a table of names and values, which are texts; names may break at their dots."""
    rows = [
        (text(key).replace(".", ".<wbr>").replace("_", "_<wbr>"), text(value))
        for key, value in pairs
    ]
    return table(caption, ("what", "value"), rows, words=2, kind="facts")


def section(part: Section) -> str:
    """Return a section's HTML."""
    heading = f'<h2 id="{part.anchor}-title">{part.title}</h2>'
    return (
        f'<section id="{part.anchor}" aria-labelledby="{part.anchor}-title">{heading}\n'
        f"{part.body}\n</section>"
    )
