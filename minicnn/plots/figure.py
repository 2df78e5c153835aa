"""Figures: making an empty one, its colours, what is written in it, and its file."""

from __future__ import annotations

import io
import os
import unicodedata
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any

from ..files import naming, whole_file

BLUE, ORANGE, GREEN, RED, GREY = "#0072B2", "#B35900", "#00734F", "#B8360B", "#6B6B6B"
"""Okabe and Ito's colours, the light ones darker: all can be read on white as letters, too."""

RIGHT, WRONG = "\N{CHECK MARK}", "\N{BALLOT X}"

FORMATS = ("png", "svg", "pdf")
LONGEST = 24
"""Characters of a class's name that are written; for the rest, in the middle, there is "…"."""


def new_figure(width: float, height: float) -> Any:
    """Return an empty figure, its size in inches.

    Raises ImportError with the install line without matplotlib.
    """
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        raise ImportError("plots need matplotlib: pip install 'minicnn[plot]'") from error
    return Figure(figsize=(width, height), layout="constrained", facecolor="white")


def save(figure: Any, path: str | os.PathLike[str], dpi: int = 130) -> Path:
    """Write a figure to ``path``, a .png, .svg or .pdf file, and return the path.

    The file appears whole or not at all; folders are made.  Equal figures give equal bytes.
    """
    path = Path(path)
    kind = path.suffix.lower().lstrip(".")
    if kind not in FORMATS:
        raise ValueError(f"{path}: expected a name that ends in .{', .'.join(FORMATS)}")
    content = written(figure, kind, dpi)
    with whole_file(path) as part, naming(path):
        part.write_bytes(content)
    return path


def written(figure: Any, kind: str, dpi: int = 130, transparent: bool = False) -> bytes:
    """Return a figure as the bytes of a "png", "svg" or "pdf" file."""
    import matplotlib

    page = io.BytesIO()
    dates = {"svg": {"Date": None}, "pdf": {"CreationDate": None}}
    with matplotlib.rc_context({"svg.hashsalt": "minicnn"}):
        figure.savefig(
            page, format=kind, dpi=dpi, metadata=dates.get(kind), transparent=transparent
        )
    return page.getvalue()


def plain(axes: Any, grid: str = "both") -> Any:
    """Give axes the house's looks: a faint grid, no box; return them."""
    axes.set_axisbelow(True)
    if grid:
        axes.grid(axis=grid, color="#000000", alpha=0.13, linewidth=0.8)
    axes.spines[["top", "right"]].set_visible(False)
    axes.spines[["left", "bottom"]].set_color("#888888")
    axes.tick_params(color="#888888")
    return axes


def bare(axes: Any) -> Any:
    """Take ticks and box from axes that show a picture; return them."""
    axes.set_xticks([])
    axes.set_yticks([])
    axes.spines[:].set_visible(False)
    return axes


def label(text: str, longest: int = LONGEST) -> str:
    """Return a text as matplotlib writes it literally, in one line, shortened to ``longest``.

    A dollar sign begins no formula.  What can't be seen, line breaks too, becomes a space.
    """
    seen = "".join(c if unicodedata.category(c)[0] not in "CZ" else " " for c in str(text))
    seen = " ".join(seen.split())
    if len(seen) > longest:  # names may differ in their ends only
        half = longest // 2
        seen = seen[: longest - 1 - half].rstrip() + "…" + seen[-half:].lstrip()
    return seen.replace("$", r"\$")


def labels_of(classes: Sequence[str], longest: int = LONGEST) -> list[str]:
    """Return the names of classes as `label` writes them; "class 3" where the font can't."""
    known = characters()
    names = [label(name, longest) for name in classes]
    return [
        name if name and all(ord(c) in known for c in name) else f"class {i}"
        for i, name in enumerate(names)
    ]


@cache
def characters() -> frozenset[int]:
    """Return the characters that the font of figures has."""
    from matplotlib.font_manager import FontProperties, findfont, get_font

    return frozenset(get_font(findfont(FontProperties())).get_charmap())


def check_classes(what: str, classes: Sequence[str], count: int) -> None:
    """Raise ValueError unless there are ``count`` names of classes."""
    if len(classes) != count:
        raise ValueError(f"{what}: {len(classes)} names of classes, expected {count}")
