"""The sections of what is in the network: its layers, first filters and feature maps."""

from __future__ import annotations

import platform
import time
from typing import Any

import numpy as np

from .. import explain, plots
from ..evaluation.text import printable
from ..layers import Conv2D, Layer, Sequential
from .images import pixels, sheet
from .page import facts, paragraph, table, text
from .training import SETTINGS, Training

MAPPED = 3
"""Layers whose feature maps are shown."""


def summary(model: Sequential) -> str:
    """Return the section of the layers."""
    found = model.summary()
    rows = [
        (
            f'<span style="--depth:{row.depth}" class="layer">{text(row.name)}</span>',
            text(row.kind),
            " x ".join(str(size) for size in row.output_shape),
            f"{row.parameters:,}" if row.parameters else "",
            f"{row.multiply_adds:,}" if row.multiply_adds else "",
        )
        for row in found.rows
    ]
    rows.append(("total", "", "", f"{found.parameters:,}", f"{found.multiply_adds:,}"))
    heads = ("layer", "type", "output", "parameters", "multiply-adds")
    frozen = f"{found.frozen:,} of its parameters are frozen. " if found.frozen else ""
    shape = " x ".join(str(size) for size in model.input_shape)
    said = f"The network takes pictures of {shape}. {frozen}Multiply-adds are of one picture."
    return paragraph(said) + table("Layers, from the picture to the answer", heads, rows, words=3)


def convolutions(model: Sequential) -> list[Layer]:
    """Return the convolutions of a model, in order, whose output has more than one place."""
    return [
        layer
        for layer in model.walk()
        if isinstance(layer, Conv2D) and layer.output_shape[0] * layer.output_shape[1] > 1
    ]


def filters(model: Sequential) -> str:
    """Return the section of the first convolution's filters."""
    first = next((layer for layer in model.walk() if isinstance(layer, Conv2D)), None)
    if first is None:
        return paragraph("The network has no convolution, and so no filters to be seen.")
    KH, KW, C, O = first.w.shape
    if C not in (1, 3):
        said = (
            f"The filters of {text(first.path)} see {C} channels: they can't be shown as pictures."
        )
        return paragraph(said)
    alt = f"Filters of {printable(first.path)}, {KH} x {KW} pixels each"
    caption = (
        f"{O} filters of <code>{text(first.path)}</code>, {KH} x {KW} pixels, each on its own "
        "scale. Middle grey is 0; a filter answers most to what looks like it."
    )
    return sheet(plots.filters(first, count=64), alt, caption)


def feature_maps(model: Sequential, picture: np.ndarray, seen: np.ndarray) -> str:
    """Return the section of what some convolutions make of one picture, shown as ``seen``."""
    found = convolutions(model)
    if not found:
        return paragraph("The network has no convolution, and so no feature maps.")
    places = np.unique(np.linspace(0, len(found) - 1, MAPPED).round().astype(int))
    parts = [
        paragraph(
            "What the first, a middle and the last convolution answer to one picture: the channels "
            "that vary most over it, with their numbers, each on its own scale from dark to bright."
        ),
        f'<div class="single">{pixels(seen, "the picture")}</div>',
    ]
    for layer in (found[i] for i in places):
        maps = explain.feature_maps(model, picture[None], layer)[0].astype("float64")
        h, w, C = maps.shape
        shown = min(C, 24)
        alt = f"Feature maps of {printable(layer.path)}"
        caption = f"<code>{text(layer.path)}</code>: {shown} of {C} channels, {h} x {w}"
        parts.append(sheet(plots.feature_maps(maps, count=24), alt, caption))
    return "\n".join(parts)


def settings(training: Training) -> str:
    """Return the section of what the run was told and said of itself."""
    if not training.settings:
        return f'<p class="note">{text(training.note)}</p>'
    body = facts("What the run left beside the model", training.settings[:SETTINGS])
    left = len(training.settings) - SETTINGS
    return body + (paragraph(f"And {left:,} more.") if left > 0 else "")


def versions(model: Sequential, more: list[tuple[str, Any]]) -> str:
    """Return the section of what this report was made of and with."""
    from matplotlib import __version__ as matplotlib

    from .. import __version__

    here = [
        ("written", time.strftime("%Y-%m-%d %H:%M:%S %z")),
        ("minicnn", __version__),
        ("NumPy", np.__version__),
        ("matplotlib", matplotlib),
        ("Python", platform.python_version()),
        ("system", f"{platform.system()} {platform.release()} {platform.machine()}"),
        ("device", str(model.device)),
        ("numbers", model.dtype),
    ]
    return facts("How this report was made", [*more, *here])
