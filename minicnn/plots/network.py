"""What is in a network: its first filters, what its layers see, and where it looked."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from ..backend import to_numpy
from .figure import bare, label, new_figure
from .pictures import fitted, show


def filters(layer: Any, count: int = 64, columns: int = 8) -> Any:
    """Draw the filters of a convolution that sees pictures, and return the figure.

    Each on its own scale: middle grey is 0, so that a filter's colours are what it looks for.

    layer: a built `Conv2D` whose filters see 1 or 3 channels; else ValueError.
    """
    tiles = filter_pictures(layer)
    O, some = len(tiles), tiles[: min(count, len(tiles))]
    columns = min(columns, len(some))
    rows = -(-len(some) // columns)
    figure = new_figure(max(2.4, 0.85 * columns), 0.85 * rows + 0.4)
    for i, tile in enumerate(some):
        axes = figure.add_subplot(rows, columns, i + 1)
        show(axes, tile)
        axes.spines[:].set(visible=True, color="#999999", linewidth=0.6)
    shown = f"{O}" if len(some) == O else f"first {len(some)} of {O}"
    figure.suptitle(f"{label(layer.path)}: {shown} filters", fontsize=11)
    return figure


def filter_pictures(layer: Any) -> np.ndarray:
    """Return a convolution's filters as pictures, (O, KH, KW, 1 or 3), from 0 to 1; 0.5 is 0."""
    w = getattr(layer, "w", None)
    if w is None or w.ndim != 4 or w.shape[2] not in (1, 3):
        got = "no such weights" if w is None else f"weights of {w.shape}"
        raise ValueError(
            f"filters: {layer!r} has {got}: expected a built Conv2D whose filters see 1 or 3 "
            "channels, as the first of a network does"
        )
    tiles = to_numpy(w).astype("float64").transpose(3, 0, 1, 2)  # (KH, KW, C, O) -> (O, KH, KW, C)
    largest = np.abs(tiles).max(axis=(1, 2, 3), keepdims=True)
    return 0.5 + 0.5 * tiles / np.where(largest > 0, largest, 1)


def feature_maps(
    maps: np.ndarray, picture: np.ndarray | None = None, count: int = 24, columns: int = 8
) -> Any:
    """Draw what channels of a layer answer to one picture, and return the figure.

    Of many channels those are drawn that vary most over the picture, in their order, with their
    numbers; each on its own scale, dark is low and bright is high.

    maps: (h, w, C), as one of `explain.feature_maps`.  picture: (H, W, 1 or 3), drawn first.
    """
    if maps.ndim != 3 or not maps.size:
        raise ValueError(f"feature_maps: shape {maps.shape}, expected (h, w, C)")
    chosen = liveliest(maps, count)
    tiles = len(chosen) + (picture is not None)
    columns = min(columns, tiles)
    rows = -(-tiles // columns)
    tall = min(3.0, max(0.4, maps.shape[0] / maps.shape[1]))
    figure = new_figure(1.15 * columns, (1.1 * tall + 0.28) * rows)
    cells = [figure.add_subplot(rows, columns, i + 1) for i in range(tiles)]
    if picture is not None:
        show(cells[0], picture)
        cells.pop(0).set_title("picture", fontsize=8, pad=3)
    for axes, channel in zip(cells, chosen, strict=True):
        bare(axes).imshow(maps[:, :, channel], cmap="viridis", interpolation="nearest")
        axes.set_title(str(channel), fontsize=8, pad=3)
    return figure


def liveliest(maps: np.ndarray, count: int) -> list[int]:
    """Return the ``count`` channels of (h, w, C) that vary most, in their order."""
    spread = maps.std(axis=(0, 1))
    return sorted(np.argsort(-spread, kind="stable")[:count].tolist())


def explanations(
    x: np.ndarray, answers: Mapping[str, np.ndarray], titles: Sequence[str] = ()
) -> Any:
    """Draw pictures, and below each what explains the network's answer; return the figure.

        explanations(x, {"Grad-CAM": overlays, "saliency": saliency(model, x)})

    x: (N, H, W, 1 or 3).  answers: by name, pictures (N, H, W, 3) uint8, or heat maps (N, H, W),
    bright where they are largest, each on its own scale from 0.  titles: N texts, written above.
    """
    if x.ndim != 4 or not len(x) or (titles and len(titles) != len(x)):
        raise ValueError(f"explanations: pictures {x.shape}, {len(titles)} titles")
    for name, found in answers.items():
        if found.shape[:3] != x.shape[:3]:
            raise ValueError(f"explanations: {name} is {found.shape}, the pictures {x.shape}")
    N, rows = len(x), 1 + len(answers)
    tall = min(3.0, max(0.4, x.shape[1] / x.shape[2]))
    figure = new_figure(1.5 * N + 0.4, 1.5 * tall * rows + 0.4)
    for row, (name, pictures) in enumerate({"picture": x, **answers}.items()):
        for i, picture in enumerate(pictures):
            axes = figure.add_subplot(rows, N, row * N + i + 1)
            if picture.ndim == 3:
                show(axes, picture)
            else:
                top = float(picture.max()) or 1
                bare(axes).imshow(
                    picture, cmap="viridis", vmin=0, vmax=top, interpolation="nearest"
                )
            if i == 0:
                axes.set_ylabel(label(name), fontsize=10)
            if row == 0 and titles:
                fitted(axes.set_title, label(titles[i], 40), pad=4)
    return figure
