"""Mistakes planted in the kernels' sources: the comparison with the book has to see them all."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest
from emulation import KernelError

from minicnn.kernels.cuda import module
from minicnn.kernels.cuda.conv import conv_backward_w, conv_backward_x, conv_forward

from .convolutions import Problem

CASE = (2, 9, 8, 24), (3, 2, 40), {"stride": (2, 1), "padding": ((1, 0), (1, 2))}
ODD = (2, 9, 8, 3), (3, 2, 10), {"stride": (2, 1), "padding": ((1, 0), (1, 2))}

# What is written, what is planted instead, and the precision.
FAULTS = {
    "rows and columns of A are swapped": (
        "load_matrices(left[i], a + (at ^ k) + 16 * i * Tile::K);\n            }",
        "load_matrices_transposed(left[i], a + (at ^ k) + 16 * i * Tile::K);\n            }",
        "bfloat16",
    ),
    "rows and columns of B are swapped": (
        "load_matrices_transposed(right, b",
        "load_matrices(right, b",
        "bfloat16",
    ),
    "quarters of A in the wrong order": (
        ": place<Tile::K>(row + inner + odd, high);\n        // Two",
        ": place<Tile::K>(row + inner + high, odd);\n        // Two",
        "bfloat16",
    ),
    "quarters of a turned A in the wrong order": (
        "place<Tile::M>(inner + high, row + odd)",
        "place<Tile::M>(inner + odd, row + high)",
        "float16",
    ),
    "results in the wrong lanes": ("lane() % 4 * 2 + e % 2", "lane() % 4 + e % 2", "float16"),
    "a lane of TF32's B that is another's": (
        "4 * e) + (k + 4 * e)",
        "4 * e) + (k + 4 - 4 * e)",
        "tf32",
    ),
    "no tail along K": (
        "bool within = k0 + row < all.depth()",
        "bool within = true",
        "odd",
    ),
    "no last step": ("+ Tile::K - 1) / Tile::K, memory", ") / Tile::K, memory", "float16"),
    "no tail of filters": (
        "o + e < O; e++) to[e] = from[e]",
        "e < VEC; e++) to[e] = from[e]",
        "odd",
    ),
    "no margin": (
        "static_cast<unsigned>(w + right) < static_cast<unsigned>(all.w.size)",
        "w + right < all.w.size",
        "float32",
    ),
    "a tap that isn't gone on from": ("if (++j == all.w.taps) j = 0, i++;", "++j;", "bfloat16"),
    "no waiting for copies": ("copy_wait<AHEAD - 1>();", "", "bfloat16"),
    "waiting for a group too few": ("copy_wait<AHEAD - 1>();", "copy_wait<AHEAD>();", "float32"),
    "no barrier": ("- 1>();\n            __syncthreads();", "- 1>();", "float32"),
    "a tile read as if it weren't swizzled": (
        "from = tile + place<Tile::N>(row, column)",
        "from = tile + row * Tile::N + column",
        "float32",
    ),
    "another phase": ("places, count, (phase + margin", "places, count, (margin", "float32"),
    "a phase with others' taps": ("all.h.filter + i", "i", "float32"),
    "parts that aren't added up": ("half >= COLUMNS", "half > COLUMNS", "float32"),
    "the neighbour's bias": (
        "b[n0 + column] : acc(0)",
        "b[n0 + (column ^ 1)] : acc(0)",
        "bfloat16",
    ),
}
BOUNDS = {"bfloat16": [2**-8, 2**-8, 2e-6], "float16": [2**-11, 2**-11, 2e-6]}
FILES = (
    "real.cuh",
    "mma.cuh",
    "tile.cuh",
    "tile_ways.cuh",
    "tile_windows.cuh",
    "conv_windows.cu",
    "conv_weights.cu",
)


def conv_sources():
    """Return the sources of convolutions alone."""
    folder = Path(module.__file__).parent
    return "\n".join((folder / name).read_text(encoding="utf-8") for name in FILES)


def sources():
    """Return them without the large tiles: compiling is what takes the time here."""
    larger = r'extern "C"[^{]*_(?:large|wide)\w*\([^{]*\{.*?\n\}\n'
    return re.sub(larger, "", conv_sources(), flags=re.DOTALL)


@pytest.fixture
def cupy(standin, monkeypatch):
    """The stand-in, with nothing compiled."""
    for kind in module.KINDS:
        module.parameters(kind)  # is kept, and should be that of the real sources
    monkeypatch.setattr(module, "compiled", {})
    monkeypatch.setattr(module, "functions", {})
    return standin


def worst(p):
    """Return how far y, dx and dw are from the book's, as parts of the largest value."""
    s, g = p.s, p.g
    x, w, dy = (p.put(a) for a in (p.x, p.w, p.dy))
    y, dx, dw = s.new(p.y.shape), s.new(p.x.shape), s.new(p.w.shape, s.acc_dtype)
    conv_forward(s, x, w, p.put_sum(p.b), y, g, algorithm="implicit")
    conv_backward_x(s, dy, w, dx, g, algorithm="implicit")
    conv_backward_w(s, x, dy, dw, g, algorithm="implicit")
    pairs = (y, p.y), (dx, p.dx), (dw, p.dw)
    errors = [np.abs(p.get(found) - wanted).max() / np.abs(wanted).max() for found, wanted in pairs]
    return np.nan_to_num(errors, nan=np.inf)


def found(cupy, monkeypatch, precision, source):
    """Return whether a comparison of float32's precision sees something wrong."""
    kind = {"tf32": "float32", "odd": "float32"}.get(precision, precision)
    monkeypatch.setenv("MINICNN_TF32", str(int(precision == "tf32")))
    monkeypatch.setattr("minicnn.kernels.cuda.conv_choose.STEPS", 1)
    monkeypatch.setattr(module, "source", lambda: source)
    case = ODD if precision == "odd" else CASE
    p = Problem(cupy, case, kind, "tf32" if precision == "tf32" else kind)
    try:
        return bool((worst(p) > BOUNDS.get(kind, 2e-6)).any())
    except KernelError:
        return True


@pytest.mark.parametrize("name", FAULTS)
def test_planted_fault_is_seen(cupy, monkeypatch, name):
    right, wrong, precision = FAULTS[name]
    source = sources()
    assert source.count(right) == 1, "the sources have changed: plant it elsewhere"
    assert found(cupy, monkeypatch, precision, source.replace(right, wrong))


@pytest.mark.parametrize("precision", sorted({precision for _, _, precision in FAULTS.values()}))
def test_without_a_fault_nothing_is_seen(cupy, monkeypatch, precision):
    assert not found(cupy, monkeypatch, precision, sources())
