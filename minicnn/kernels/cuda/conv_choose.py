"""Which way a convolution is computed on the GPU, and in tiles of which size."""

from __future__ import annotations

from dataclasses import dataclass
from types import MappingProxyType

from ..geometry import Geometry

ALGORITHMS = ("auto", "implicit", "im2col")

FILTERS = MappingProxyType(
    {"float32": 128, "tf32": 256, "float16": 256, "bfloat16": 256, "float64": 128}
)
"""From how many filters on "auto" takes "im2col".  Not measured on a GPU yet.

Columns are written and read again; that takes about 56 / O of the product's own time in float32,
372 / O in TF32 and 363 / O in 16 bits (an H200's memory, 3x3, all at their peaks).  So with many
filters it hardly shows, and cuBLAS' products are faster than ours by about that much.
"""

BLOCKS = 2 * 132
"""How many blocks keep a large GPU busy (an H200 has 132 processors).

Not asked of the GPU: sums are cut into so many parts, and numbers shouldn't depend on the GPU.
"""

STEPS = 16
"""How many of its tile's steps a part of a sum takes at least."""


@dataclass(frozen=True)
class Tile:
    """The tile of a product that one block does: as in tile_ways.cuh."""

    name: str
    M: int
    N: int
    K: int
    threads: int


FLOATS = Tile("large", 128, 64, 16, 128), Tile("small", 64, 32, 16, 64)
HALVES = (
    *(Tile("wide", 128, 128, 32, 256), Tile("large", 128, 64, 32, 128)),
    *(Tile("small", 64, 32, 32, 64),),
)
TILES = MappingProxyType(
    {
        "float32": FLOATS,
        "float64": (Tile("large", 64, 64, 16, 128), Tile("small", 32, 32, 16, 64)),
        "float16": HALVES,
        "bfloat16": HALVES,
    }
)
"""Of each storage type, from the largest to the smallest."""


def choose(
    g: Geometry, kind: str, tf32: bool = False, algorithm: str = "auto", back: bool = False
) -> str:
    """Return "implicit", "im2col" or, where there are groups, "groups".

    kind: the storage type.  tf32: whether float32 is multiplied as TF32.  algorithm: "auto", or
    what is wanted.  back: for the gradient of the input.  Its columns are rounded before they are
    added up; in 16 bits that costs digits, and "auto" doesn't.
    """
    if algorithm not in ALGORITHMS:
        raise ValueError(f"algorithm {algorithm!r}: expected one of {', '.join(ALGORITHMS)}")
    if g.groups != 1:
        return "groups"
    if algorithm != "auto":
        return algorithm
    if is_product(g):
        return "im2col" if min(g.C, g.O) >= 64 else "implicit"
    if back and kind in ("float16", "bfloat16"):
        return "implicit"
    return "im2col" if FILTERS["tf32" if tf32 else kind] <= g.O else "implicit"


def is_product(g: Geometry) -> bool:
    """Whether the windows are the pixels themselves: a plain product, whatever it is called."""
    return g.plain and g.T == 1 and g.margins == ((0, 0), (0, 0))


def tile_for(kind: str, rows: int, columns: int, odd: bool, depth: int = 0) -> Tile:
    """Return the tile for a product of so many rows and columns.

    Large tiles read less from memory; small ones waste less at the edges, and there are more of
    them to share.  odd: channels that don't fill 16 bytes, for which there are small ones alone.
    depth: how long the sums are, if they may be `cut`.
    """
    *larger, small = TILES[kind]
    if odd:
        return small
    for tile in larger:
        blocks = -(-rows // tile.M) * -(-columns // tile.N) * max(1, depth // (STEPS * tile.K))
        if 2 * columns > tile.N and 2 * rows > tile.M and blocks >= BLOCKS:
            return tile
    return small


def cut(tile: Tile, rows: int, columns: int, depth: int) -> tuple[int, int]:
    """Cut the sums of a product into parts; return the length of one, and how many there are.

    So many that all blocks together keep a GPU busy, but none shorter than `STEPS`.
    """
    tiles = -(-rows // tile.M) * -(-columns // tile.N)
    parts = max(1, min(-(-BLOCKS // tiles), depth // (STEPS * tile.K)))
    share = -(-depth // (parts * tile.K)) * tile.K
    return share, -(-depth // share)
