"""Outputs of BatchNorm and ReLU that aren't kept: made again where they are read, and the same."""

from __future__ import annotations

import numpy as np
import pytest

import minicnn as mc
from minicnn.kernels import geometry
from minicnn.kernels.cpu import im2col, winograd
from minicnn.plan import norm_parts
from minicnn.plan.again import Again
from minicnn.plan.plan import Plan
from minicnn.plan.slices import Slice

from .nets import batch, build, by_plan, compare, each_way, head, poison, upstream

PICTURE = (7, 9, 3)


def norm_relu(filters=4):
    return [mc.Conv2D(filters, 3, padding="same"), mc.BatchNorm(), mc.ReLU()]


READERS = {
    "3x3": lambda: [mc.Conv2D(5, 3, padding="same")],
    "3x3, then more": lambda: [mc.Conv2D(4, 3), mc.ReLU(), mc.MaxPool2D(2)],
    "strides": lambda: [mc.Conv2D(5, 3, 2, padding=1), mc.LeakyReLU()],
    "1x1": lambda: [mc.Conv2D(4, 1), mc.ReLU()],
    "groups": lambda: [mc.Conv2D(4, 3, groups=2)],
    "concat of one": lambda: [mc.Concat([[mc.Conv2D(3, 1)]])],
    "norm again": lambda: [*norm_relu(), *norm_relu(6), mc.MaxPool2D(2)],
}
OTHERS = {  # somebody needs all of y, or doesn't read it in chunks
    "pool": lambda: [mc.MaxPool2D(3, 2), mc.Conv2D(3, 1)],
    "residual": lambda: [mc.Residual([mc.Conv2D(4, 3, padding="same")]), mc.ReLU()],
    "projection": lambda: [mc.Residual([mc.Conv2D(3, 1)], mc.Conv2D(3, 1))],
    "concat": lambda: [mc.Concat([[mc.Tanh()], [mc.Conv2D(3, 1)]])],
    "dropout": lambda: [mc.Dropout(0.0), mc.Conv2D(3, 1)],
    "nothing": lambda: [],
}


@pytest.fixture
def small_chunks(monkeypatch, small_slices):
    """Cut a slice of a few pictures into chunks, other ones for each layer."""
    monkeypatch.setattr(norm_parts, "CHUNK_BYTES", 2 * 7 * 9 * 4 * 8)
    monkeypatch.setattr(im2col, "CHUNK_BYTES", 3 * 7 * 9 * 40 * 8)
    monkeypatch.setattr(winograd, "CHUNK_BYTES", 36 * 6 * 8 * 4)


@pytest.fixture
def taken(monkeypatch):
    """A list to which every array is appended that isn't kept."""
    found, take = [], Again.take

    def noting(self):
        found.append(self.stored)
        return take(self)

    monkeypatch.setattr(Again, "take", noting)
    return found


@pytest.mark.usefixtures("small_chunks")
@pytest.mark.parametrize("name", READERS)
@each_way
def test_chunks_made_again_give_the_same(name, way, taken):
    compare(lambda: head(*norm_relu(), *READERS[name]()), PICTURE, way)
    assert taken


@pytest.mark.usefixtures("small_chunks")
@pytest.mark.parametrize("name", OTHERS)
def test_output_that_others_need_is_kept(name, taken):
    compare(lambda: head(*norm_relu(), *OTHERS[name]()), PICTURE)
    assert not taken


@pytest.mark.usefixtures("small_chunks")
def test_chunks_are_written_before_they_are_read():
    model = build(head(*norm_relu(), *norm_relu(), mc.Conv2D(3, 3)), PICTURE, "float32")
    x, dy = batch(model, 13), upstream(model, 13)
    first = by_plan(model, x, dy)
    poison(model, x, training=True)
    again = by_plan(model, x, dy)
    assert all(np.array_equal(first[k], again[k]) for k in first if "running" not in k)


def test_each_layer_more_takes_one_array_more():
    """Not two: that of the convolution is kept, that of BatchNorm and ReLU isn't."""
    N, C = 16, 16
    sizes = []
    for layers in (4, 8):
        body = [layer for _ in range(layers) for layer in norm_relu(C)]
        model = mc.Sequential(*body, mc.GlobalAveragePool2D(), mc.Dense(3)).build((32, 32, 3))
        with mc.threads(1):
            sizes.append(Plan(model, N, np.dtype("float32"), training=True).nbytes)
    assert sizes[1] - sizes[0] < 4 * 1.25 * N * 32 * 32 * C * 4


def offer(s, y, calls=1):
    again = Again(s, y, lambda part, out: s(np.copyto, out, 1), len(s.calls) - calls)
    s.offer(again)
    return again


def test_offer_is_for_who_has_the_array_alone():
    s = Slice("float32")
    y = s.new((4, 2, 2, 1))
    s(np.copyto, y, 1)
    offer(s, s.hold(y))
    assert s.offered(y) is None and len(s.calls) == 1


def test_offer_is_for_who_comes_next():
    s = Slice("float32")
    y = s.new((4, 2, 2, 1))
    s(np.copyto, y, 1)
    offer(s, y)
    s(np.add, y, 1, y)
    assert s.offered(y) is None and len(s.calls) == 2
    assert s.offered(y) is None


def test_offer_taken_crosses_out_what_stores_the_array():
    s = Slice("float32")
    x = s.new((4, 2, 2, 1))
    s(np.copyto, x, 0)
    y = s.like(x)
    s.label = "forward b"
    s(np.copyto, y, 1)
    again = offer(s, y)
    assert s.offered(x) is None
    offer(s, y).free()
    s.offer(again)
    assert s.offered(y) is again and [call[1][0] is x for call in s.calls] == [True]
    assert not s.memory.alone(y)
    s.label = "backward c"
    parts = list(geometry.chunks(4, 1, 2))
    chunk = again[parts[0]]
    assert again[parts[0]] is chunk and len(s.calls) == 2 and s.memory.alone(chunk)
    assert again[parts[1]] is not chunk and len(s.calls) == 3
    assert s.labels == ["", "backward b", "backward b"] and s.label == "backward c"
    again.free()
    assert not s.memory.alone(chunk)
