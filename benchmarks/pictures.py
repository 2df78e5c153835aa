"""Draw docs/pictures/: what was measured, one of its reasons, and how a batch is worked on.

    python benchmarks/pictures.py

speed.png is made from benchmarks/results/; the others are schematics.  Needs matplotlib.
"""

from __future__ import annotations

import sys
from functools import partialmethod
from pathlib import Path
from typing import Any

from matplotlib.colors import to_hex, to_rgb
from matplotlib.figure import Figure
from matplotlib.patches import Polygon, Rectangle

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # the minicnn beside this file

from benchmarks import report
from benchmarks.results import RESULTS, read
from minicnn.kernels.cpu.winograd import Winograd
from minicnn.kernels.geometry import Geometry

PICTURES = Path(__file__).resolve().parents[1] / "docs" / "pictures"
# Okabe and Ito's colours, which the colour-blind tell apart
BLUE, ORANGE, GREEN, RED = "#0072B2", "#E69F00", "#009E73", "#D55E00"
SKY, YELLOW, PURPLE, GREY = "#56B4E9", "#F0E442", "#CC79A7", "#5F5F5F"
PEERS = {"torch": ("PyTorch", ORANGE), "keras": ("Keras", SKY)}
BATCH, THREADS, DPI = 128, 2, 140  # of the plan that is drawn; dots, on sheets 8 inches wide


class Sheet:
    """A white sheet, 80 wide, on which y goes down; a unit is a tenth of an inch."""

    def __init__(self, height: float) -> None:
        self.figure = Figure(figsize=(8, height / 10), facecolor="white")
        self.axes = self.figure.add_axes((0, 0, 1, 1), xlim=(0, 80), ylim=(height, 0))
        self.axes.axis("off")

    def box(self, x: float, y: float, w: float, h: float, text: str, color: str) -> None:
        """Draw a rectangle with text in it."""
        self.axes.add_patch(Rectangle((x, y), w, h, facecolor=color, edgecolor="black", lw=0.8))
        self.text(x + w / 2, y + h / 2, text, 8)

    def text(self, x: float, y: float, text: str, size: float = 9, **more: Any) -> None:
        """Write text, centred if nothing else is said."""
        more = {"ha": "center", "va": "center", "linespacing": 1.25} | more
        self.axes.text(x, y, text, size=size, **more)

    left = partialmethod(text, ha="left")

    def arrow(self, start: tuple[float, float], end: tuple[float, float]) -> None:
        """Draw an arrow."""
        style = {"arrowstyle": "-|>", "lw": 1.4, "color": "black", "shrinkA": 0, "shrinkB": 0}
        self.axes.annotate("", end, start, arrowprops=style)

    def grid(self, x: float, y: float, rows: int, columns: int, cell: float) -> None:
        """Draw a grid's lines."""
        xs, ys = ([v + cell * k for k in range(n + 1)] for v, n in ((x, columns), (y, rows)))
        self.axes.hlines(ys, x, xs[-1], color="black", lw=0.5)
        self.axes.vlines(xs, y, ys[-1], color="black", lw=0.5)

    def fill(self, x: float, y: float, w: float, h: float, color: str) -> None:
        """Colour an area so that what lies below shines through; a frame around it."""
        self.axes.add_patch(Rectangle((x, y), w, h, facecolor=color, alpha=0.42, lw=0))
        self.axes.add_patch(Rectangle((x, y), w, h, fill=False, edgecolor=color, lw=2.2, zorder=3))

    def stack(self, x: float, y: float, w: float, h: float, text: str, color: str) -> None:
        """Draw the 36 matrices of which the first is seen."""
        for k in (4, 3, 2, 1, 0):
            self.box(x + 0.6 * k, y - 0.6 * k, w, h, "" if k else text, tone(color))

    def zoom(self, x: float, w: float, y: float, below: float) -> None:
        """Draw light from x to x + w at y down to the whole width."""
        corners = [(x, y), (x + w, y), (78.5, below), (1.5, below)]
        self.axes.add_patch(Polygon(corners, facecolor=tone(SKY, 0.2), lw=0, zorder=0))


def tone(color: str, share: float = 0.45) -> str:
    """Return a colour mixed with white."""
    return to_hex([1 - share * (1 - value) for value in to_rgb(color)])


def speed(records: list[dict[str, Any]]) -> Figure:
    """Draw how many times as fast minicnn is as each peer's best setting; drawn networks last."""
    found = [(r, c) for r in records if r["kind"] == "compare" for c in r["comparisons"]]
    found = [(r, c) for r, c in found if c["mode"] == "train" and report.best(c)]
    found.sort(key=lambda p: (p[1]["net"][:6] == "random", p[1]["multiply_adds"], -p[1]["batch"]))
    threads = {c["threads"]: None for _, c in found}
    ticks, bars, bottom = {}, [], 0.0
    for _, c in found:
        more = f", {c['threads']} threads" if len(threads) > 1 else ""
        peers = [peer for peer in PEERS if any(s["peer"] == peer for s in report.rivals(c))]
        for k, peer in enumerate(peers):
            top = report.best({"contenders": [s for s in report.rivals(c) if s["peer"] == peer]})
            bars.append((peer, bottom + k, report.ratio(c, top)))
        ticks[bottom + len(peers) / 2 - 0.5] = f"{c['net']}, batch {c['batch']}{more}"
        bottom += len(peers) + 0.7
    figure = Figure(figsize=(8, 1.4 + 0.19 * bottom), facecolor="white", layout="constrained")
    axes = figure.add_subplot()
    axes.axvline(1, color="black", lw=1.2, ls="--", zorder=3)
    for peer, y, f in bars:
        axes.barh(y, f.middle, 0.94, color=PEERS[peer][1], label=f"against {PEERS[peer][0]}")
        axes.errorbar(f.middle, y, xerr=[[f.middle - f.low], [f.high - f.middle]],
                      color="black", lw=1, capsize=2.5, zorder=4)  # fmt: skip
        axes.annotate(f"{f.middle:.2f}", (f.high, y), (5, 0), textcoords="offset points", size=8.5,
                      va="center", bbox={"fc": "white", "lw": 0, "pad": 0.6}, zorder=5)  # fmt: skip
    axes.set_yticks(list(ticks), list(ticks.values()))
    axes.set(xlim=(0, max(f.high for *_, f in bars) * 1.09), ylim=(bottom - 0.9, -0.8))
    axes.set_xlabel("images/s of minicnn / images/s of the peer's fastest setting, in training")
    places = [*{r["machine"]["cpu"]: None for r, _ in found}, *(f"{n} threads" for n in threads)]
    about = "Ratio of medians; thin lines: lowest and highest round. " + ", ".join(places)
    axes.set_title(about, size=9, loc="left", color=GREY, pad=26)
    handles = {label: bar for bar, label in zip(*axes.get_legend_handles_labels(), strict=True)}
    axes.legend(handles.values(), handles, loc="lower left", ncols=2, frameon=False,
                bbox_to_anchor=(0, 1), borderaxespad=0.2)  # fmt: skip
    axes.spines[["top", "right"]].set_visible(False)
    return figure


def winograd() -> Figure:
    """Draw F(4x4, 3x3)."""
    s = Sheet(45)
    s.left(1.5, 2.2, "A 3x3 convolution in tiles of 4x4 outputs: F(4x4, 3x3)", 12, weight="bold")
    cell, top = 1.35, 10.0
    s.text(8.3, 7.4, "input x, in tiles\nof 6x6 that overlap")
    s.fill(1.5, top, 6 * cell, 6 * cell, BLUE)
    s.fill(1.5 + 4 * cell, top, 6 * cell, 6 * cell, ORANGE)
    s.grid(1.5, top, 10, 10, cell)
    middle = top + 5 * cell
    s.arrow((16, middle), (24, middle))
    s.text(20, middle - 1.6, "$V = B^T d\\,B$", 10)
    s.text(20, middle + 2.1, "6x6 to 6x6,\neach tile and\nchannel", 8, va="top")
    s.stack(25, 12.5, 7.5, 10, "tiles\nx C", GREEN)
    s.text(36.4, middle, "@", 14)
    s.stack(38.3, 13.8, 5.5, 7.5, "C x O", PURPLE)
    s.text(47.9, middle, "=", 14)
    s.stack(49.6, 12.5, 5.5, 10, "tiles\nx O", YELLOW)
    s.text(41.8, 7.4, "36 matrix products, one for\neach place within the 6x6")
    s.arrow((58.5, middle), (66.5, middle))
    s.text(62.5, middle - 1.6, "$Y = A^T P\\,A$", 10)
    s.text(62.5, middle + 2.1, "6x6 to 4x4,\neach tile and\nfilter", 8, va="top")
    low = middle - 4 * cell
    s.text(73, low - 2.6, "output y, in tiles\nof 4x4")
    s.fill(67.6, low, 4 * cell, 4 * cell, BLUE)
    s.fill(67.6 + 4 * cell, low, 4 * cell, 4 * cell, ORANGE)
    s.grid(67.6, low, 8, 8, cell)
    s.arrow((41, 28.2), (41, 21.9))
    s.left(42.2, 25.3, "$U = G\\,w\\,G^T$\n3x3 to 6x6, once a step", 8.5)
    s.fill(39, 28.6, 3 * cell, 3 * cell, PURPLE)
    s.grid(39, 28.6, 3, 3, cell)
    s.left(44, 30.6, "filters w, 3x3")
    direct, tiled = "direct: 16 outputs x 9 weights = 144", "in tiles: 6 x 6 = 36"
    for y, rows, color, text in ((35.5, 4, GREY, direct), (41.5, 1, GREEN, tiled)):
        s.fill(1.5, y, 33.12, 0.92 * rows, color)
        s.grid(1.5, y, rows, 36, 0.92)
        s.left(36.5, y + 0.46 * rows, text, 10, weight="bold")
    s.left(1.5, 33.6, "Products for one output tile, one channel, one filter:", 9.5)
    s.left(51.8, 42, "and the transforms: 3.1 times fewer, not 4,\nwith 64 channels in and out", 8)
    return s.figure


PREPARE, FORWARD, BACKWARD, MEET = tone(YELLOW), tone(SKY), tone(ORANGE), RED


def lanes(s: Sheet, y: float, stages: list[tuple[str, str]]) -> tuple[float, float]:
    """Draw the slices of a batch from left to right; return where conv2 begins, and its width.

    stages: the meeting that ends each, and its boxes, "<" before what is backward, "*" for jobs
    that are shared out.
    """
    s.box(1.5, y, 6.2, 12.2, f"batch of\n{BATCH}", "white")
    boxes = " ".join(texts for _, texts in stages)
    narrow, bar, gap, shared = 1.6, 1.5, 0.5, boxes.count("*")
    wide = (62.5 - len(stages) * (bar + 2 * gap) - narrow * shared) / (len(boxes.split()) - shared)
    lows = [y + 6.4 * lane for lane in range(THREADS)]
    for lane, low in enumerate(lows, 1):
        s.arrow((7.9, low + 2.9), (9.1, low + 2.9))
        s.box(9.3, low, 6.4, 5.8, f"slice {lane}:\n{BATCH // THREADS}", "white")
    x, conv2 = 16.5, 0.0
    for number, (meeting, texts) in enumerate(stages, 1):
        start = x
        for text in texts.split():
            width = narrow if text == "*" else wide
            color = {"*": PREPARE, "<": BACKWARD}.get(text[0], FORWARD)
            conv2 = x if text == "conv:2" else conv2
            for low in lows:
                s.box(x, low, width, 5.8, text.strip("*<").replace(":", "\n"), color)
            x += width
        s.text((start + x) / 2, y - 1.2, f"stage {number}", 8, color=GREY)
        s.box(x + gap, y - 0.4, bar, 13, "", MEET)
        s.text(x + gap + bar / 2, y + 13, meeting, 8, va="top")
        x += bar + 2 * gap
    return conv2, wide


def plan() -> Figure:
    """Draw slices, stages, meetings and chunks."""
    s = Sheet(68)
    s.left(1.5, 2.2, "tutorial_cnn: slices meet for loss and sum of gradients", 11, weight="bold")
    forward = "* conv:1 conv:2 conv:3 dense:1 dense:2"
    at = lanes(s, 6.2, [("loss", forward), ("sum", "* <dense:2 <dense:1 <conv:3 <conv:2 <conv:1")])
    s.zoom(*at, 18.4, 24.5)
    chunks(s, 25.5)
    s.left(1.5, 43, "with BatchNorm: at each one, too, forward and backward", 11, weight="bold")
    forwards = [("mean, var 1", "* conv:1"), ("mean, var 2", "* scale:1 conv:2")]
    middle = [("loss", "scale:2 dense"), ("sums 2", "<dense <ReLU:2")]
    lanes(s, 47, [*forwards, *middle, ("sums 1", "* <conv:2 <ReLU:1"), ("sum", "<conv:1")])
    legend = {2: (PREPARE, "shared out first: transformed weights"), 32: (FORWARD, "forward"),
              43: (BACKWARD, "backward"), 55: (MEET, "meeting: each waits for all")}  # fmt: skip
    for x, (color, text) in legend.items():
        s.box(x, 64.4, 1.6, 1.6, "", color)
        s.left(x + 2.2, 65.2, text, 8)
    return s.figure


def chunks(s: Sheet, y: float) -> None:
    """Draw the second convolution of a slice: its chunks, and the calls of one."""
    g = Geometry.of((15, 15, 32), (3, 3, 32, 64))  # 13 x 13 outputs, of which 12 x 12 are pooled
    parts = list(Winograd(g, 12, 12).parts(BATCH // THREADS))
    s.left(1.5, y + 0.6, f"conv 2 + ReLU + pooling of one slice: {len(parts)} chunks of "
           f"{parts[0].stop} pictures, each small enough for the core's cache")  # fmt: skip
    width = 77 / len(parts)
    for k in range(len(parts)):
        s.box(1.5 + k * width, y + 2, width, 3, f"chunk {k + 1}", FORWARD)
    s.zoom(1.5, width, y + 5, y + 8.4)
    calls = "copyto matmul matmul matmul add matmul matmul maxima maximum"
    whats = "gather\ntiles|$B^T$,\nrows|$B^T$,\ncolumns|the 36\nproducts|bias|$A^T$,\nrows|"
    whats += "$A^T$,\ncolumns|pool in\nthe tiles|ReLU,\nstored"
    width = 77 / 9
    for k, (call, what) in enumerate(zip(calls.split(), whats.split("|"), strict=True)):
        s.box(1.5 + k * width, y + 8.4, width, 3, call, FORWARD)
        s.text(1.5 + (k + 0.5) * width, y + 11.9, what, 8, va="top")


def main() -> None:
    """Draw all pictures."""
    PICTURES.mkdir(parents=True, exist_ok=True)
    drawn = {"speed": speed(read(RESULTS)), "winograd": winograd(), "plan": plan()}
    for name, figure in drawn.items():
        path = PICTURES / f"{name}.png"
        figure.savefig(path, dpi=DPI, metadata={"Software": None}, pil_kwargs={"optimize": True})
        print(f"written: {path}")


if __name__ == "__main__":
    main()
