"""Columns on the GPU's floor against the book's, in all storage types, kernels on the CPU."""

from __future__ import annotations

import numpy as np
import pytest

from minicnn.functional import windows
from minicnn.kernels.cuda import im2col as kernels
from minicnn.kernels.cuda.module import KINDS

from .convolutions import CASES, Problem, assert_close, rounded


def book(p):
    """Return the picture's margins, and the arguments of the book's functions."""
    g = p.g
    return g.margins, ((g.KH, g.KW), (g.SH, g.SW), (g.DH, g.DW))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", CASES)
def test_columns_are_the_books(cupy, name, kind):
    p = Problem(cupy, CASES[name], kind)
    margins, arguments = book(p)
    wanted = windows.im2col(windows.pad(p.x, margins), *arguments)
    cols = p.s.new(wanted.shape)
    kernels.im2col(p.s, p.put(p.x), cols, p.g)
    np.testing.assert_array_equal(p.get(cols), wanted)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", CASES)
def test_pixels_add_up_their_windows(cupy, name, kind):
    p = Problem(cupy, CASES[name], kind)
    margins, arguments = book(p)
    padded = windows.pad(np.zeros_like(p.x), margins)
    shape = (*p.y.shape[:3], p.g.T, p.g.C)
    cols = rounded(np.random.default_rng(3).standard_normal(shape), kind)
    windows.col2im(cols, padded, *arguments)
    x = p.s.new(p.x.shape)
    kernels.col2im(p.s, p.put(cols), x, p.g)
    bound = {"float64": 1e-15, "float32": 1e-6, "float16": 2**-11, "bfloat16": 2**-8}[kind]
    assert_close(p.get(x), windows.crop(padded, margins), bound)


def test_more_pictures_than_a_grid_has(cupy, monkeypatch):
    monkeypatch.setattr(kernels, "MOST_PICTURES", 2)
    p = Problem(cupy, ((5, 4, 3, 8), (2, 2, 8), {}), "float32")
    _, arguments = book(p)
    wanted = windows.im2col(p.x, *arguments)
    cols, x = p.s.new(wanted.shape), p.s.new(p.x.shape)
    kernels.im2col(p.s, p.put(p.x), cols, p.g)
    np.testing.assert_array_equal(p.get(cols), wanted)
    kernels.col2im(p.s, cols, x, p.g)
    times = np.zeros_like(p.x)
    windows.col2im(np.ones_like(wanted), times, *arguments)
    assert_close(p.get(x), p.x * times, 1e-6)


@pytest.mark.parametrize("kind", KINDS)
def test_pictures_may_lie_anywhere(cupy, kind):
    p = Problem(cupy, CASES["same"], kind)
    margins, arguments = book(p)
    wanted = windows.im2col(windows.pad(p.x, margins), *arguments)
    flat, cols = p.s.new((p.x.size + 1,)), p.s.new(wanted.shape)
    x = flat[1:].reshape(*p.x.shape)
    x[...] = p.put(p.x)
    kernels.im2col(p.s, x, cols, p.g)
    np.testing.assert_array_equal(p.get(cols), wanted)
    kernels.col2im(p.s, cols, x, p.g)
    again = p.s.new(p.x.shape)
    kernels.col2im(p.s, cols, again, p.g)
    np.testing.assert_array_equal(x.get(), again.get())
