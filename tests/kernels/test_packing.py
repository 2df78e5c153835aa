"""Packing: no two pieces overlap that live at once, and little is lost between them."""

from __future__ import annotations

import numpy as np
import pytest

from minicnn.kernels.memory import ALIGNMENT, Memory, packed
from minicnn.kernels.packing import Life, pack

KB = 1 << 10


def lives_of(seed, count=60):
    """Draw lives as networks have them: outputs that are kept until backward, and chunks."""
    rng = np.random.default_rng(seed)
    lives = []
    for born in range(count):
        kept = rng.random() < 0.3
        died = 2 * count - born if kept else born + int(rng.integers(1, 4))
        lives.append(Life(ALIGNMENT * int(rng.integers(1, 100)), born, died))
    lives.append(Life(ALIGNMENT, 3))  # for ever
    return lives


def most_at_once(lives):
    return max(sum(x.size for x in lives if x.born <= t < x.died) for t in range(200))


def check(lives, lent=None):
    """Return the layout after a look at every pair."""
    lent = lent or {}
    layout = pack(lives, lent)
    sizes = [*lent.values(), layout.size]
    assert [size for size, _, _ in layout.pieces] == [life.size for life in lives]
    for k, (size, block, at) in enumerate(layout.pieces):
        assert at >= 0 and at + size <= sizes[block] and at % ALIGNMENT == 0
        for other, (width, there, place) in zip(lives[:k], layout.pieces[:k], strict=True):
            at_once = other.born < lives[k].died and lives[k].born < other.died
            apart = there != block or place + width <= at or at + size <= place
            assert apart or not at_once
    return layout


@pytest.mark.parametrize("seed", range(8))
def test_pack_keeps_apart_what_lives_at_once(seed):
    lives = lives_of(seed)
    assert check(lives).size < 1.1 * most_at_once(lives)


@pytest.mark.parametrize("seed", range(8))
def test_pack_takes_the_blocks_that_are_there_first(seed):
    """In part, or in full, or none: no piece lies across the end of one."""
    lives = lives_of(seed)
    most = most_at_once(lives)
    for sizes in ([most // 3 // 64 * 64, most // 4 // 64 * 64], [2 * most], [64]):
        lent = {1000 * (k + 1): size for k, size in enumerate(sizes)}
        layout = check(lives, lent)
        assert layout.lent == tuple(lent)
        assert layout.size < max(0, 1.5 * most - sum(sizes)) + max(x.size for x in lives)
        assert layout.size == 0 or sizes[0] < 2 * most


def test_pack_nothing():
    assert pack([], {}).size == 0


def write(memory, sizes=(3, 5, 8)):
    """Take growing pieces, one after the other: each too large for the gap before it."""
    arrays = []
    for size in sizes:
        arrays.append(memory.new((size * KB,), "uint8"))
        memory.free(arrays[-1])
    return arrays


def test_memory_follows_its_layout_when_it_is_asked_for_the_same_again():
    draft = Memory()
    write(draft)
    assert draft.nbytes == 16 * KB and draft.wasted == 8 * KB
    memory = Memory()
    memory.follow(packed([draft])[0])
    arrays = write(memory)
    assert memory.nbytes == 8 * KB and memory.wasted == 0
    assert all(np.shares_memory(arrays[0], array) for array in arrays)


def test_memory_follows_its_layout_into_borrowed_blocks():
    lender = Memory()
    write(lender, [6])
    draft, memory = Memory(), Memory()
    draft.borrow(lender)
    write(draft)
    memory.borrow(lender)
    memory.follow(packed([draft])[0])
    arrays = write(memory)
    assert memory.nbytes == 14 * KB
    block = next(iter(lender.blocks.values()))
    assert [np.shares_memory(array, block) for array in arrays] == [True, True, False]
    memory.give_back()
    assert memory.nbytes == 14 * KB


@pytest.mark.parametrize("other", [(3, 6, 8), (3, 5, 8, 2), (4,)])
def test_memory_that_is_asked_for_something_else_gives_it(other):
    draft, memory = Memory(), Memory()
    write(draft)
    memory.follow(packed([draft])[0])
    assert [len(array) for array in write(memory, other)] == [size * KB for size in other]


def test_memory_never_lays_out_anything_over_what_is_held():
    """Though it was foreseen that it would be free."""
    draft, memory = Memory(), Memory()
    write(draft)
    memory.follow(packed([draft])[0])
    held = [memory.new((size * KB,), "uint8") for size in (3, 5, 8)]
    for k, array in enumerate(held):
        array[...] = k
    memory.free(held[0])
    held[0] = memory.new((KB,), "uint8")
    held[0][...] = 0
    assert [set(array.tolist()) for array in held] == [{0}, {1}, {2}]
