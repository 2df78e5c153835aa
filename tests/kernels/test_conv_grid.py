"""The convolution's fast bodies against the book's, on a grid of geometries."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

import minicnn as mc
from minicnn.functional.conv import conv2d_backward, conv2d_forward
from minicnn.kernels.cpu import bodies, choose
from minicnn.kernels.cpu import team as team_module
from minicnn.kernels.geometry import Geometry, chunks

DIRECT, WINOGRAD, DOUBLE = 1e-6, 5e-6, 1e-10  # relative errors
SUMS = 2e-6  # of dw and db, which BLAS adds up over thousands of pixels; the book's are no better
LIMITS = {"direct": DIRECT, "winograd": WINOGRAD}
NAMES = ("y", "dx", "dw", "db")

KERNELS = [(1, 1), (3, 3), (2, 3), (5, 5)]
STRIDES = [1, 2, (2, 1)]
DILATIONS = [1, 2, (1, 3)]
PADDINGS = ["valid", "same", 1, ((0, 2), (3, 1)), (4, 0)]
SIZES = [(9, 7), (5, 12), (4, 4), (6, 3), (13, 10)]
TINY = [(1, 1), (2, 1), (1, 3), (3, 3), (2, 5)]
TILED = [*TINY, (4, 4), (6, 6), (7, 9), (10, 5), (13, 6), (8, 11), (18, 3)]  # of 4x4, or not
CHANNELS = [1, 3, 4, 5, 16, 33]
BATCHES = [1, 2, 7, 33]


class Case:
    """Arguments of a convolution, read-only, and what the book makes of them in float64."""

    def __init__(self, rng, x_shape, w_shape, dtype="float32", bias=True, **options):
        self.options = options

        def draw(shape):
            return read_only(rng.standard_normal(shape).astype(dtype))

        self.x, self.w = draw(x_shape), draw(w_shape)
        self.b = draw(w_shape[3:]) if bias else None
        exact = [a if a is None else a.astype("float64") for a in (self.x, self.w, self.b)]
        y, cache = conv2d_forward.dispatch(object)(*exact, **options)
        self.dy = draw(y.shape)
        self.expected = y, *conv2d_backward.dispatch(object)(self.dy.astype("float64"), cache)
        # A sum may be small by chance; its error is by the size of what it is made of.
        pixels, taps = y.size / y.shape[-1], self.w.size / self.w.shape[-1]
        self.sizes = {
            "y": 0.3 * np.sqrt(taps * y.size),
            "dx": 0.3 * np.sqrt(taps / self.x.shape[-1] * self.w.shape[-1] * self.x.size),
            "dw": np.sqrt(pixels * self.w.size),
            "db": np.sqrt(y.size),
        }

    def compute(self):
        """Return y, dx, dw and db by what is registered."""
        y, cache = conv2d_forward(self.x, self.w, self.b, **self.options)
        return y, *conv2d_backward(self.dy, cache)

    def check(self, limit, found=None):
        for name, array, wanted in zip(NAMES, found or self.compute(), self.expected, strict=True):
            if wanted is None:
                assert array is None
                continue
            assert (array.dtype, array.shape) == (self.x.dtype, wanted.shape), (name, self)
            error = relative(array, wanted, self.sizes[name])
            bound = max(limit, SUMS) if name in ("dw", "db") and limit > DOUBLE else limit
            assert error <= bound, (name, error, self)

    def __repr__(self):
        return f"x {self.x.shape} w {self.w.shape} {self.options}"


def read_only(array):
    """Make an array that refuses to be modified."""
    array.flags.writeable = False
    return array


def relative(array, wanted, least=0.0):
    """The error by its size, relative to that of what was wanted."""
    error, size = np.linalg.norm(array - wanted), max(np.linalg.norm(wanted), least)
    return 0.0 if error == size == 0 else float(error / size) if size else np.inf


def fits(size, kernel, dilation, padding, stride):
    try:
        g = Geometry.of((*size, 1), (*kernel, 1, 1), stride, padding, dilation)
    except ValueError:
        return False
    return min(g.OH, g.OW) >= 1


@pytest.fixture
def no_book(monkeypatch):
    """Fail where the fast bodies hand over to the book's."""

    def refuse(*_):
        raise AssertionError("the book's body was called")

    monkeypatch.setattr(bodies, "the_book", (refuse, refuse))


@pytest.fixture
def taken(monkeypatch):
    """The ways that were taken since it was last cleared."""
    ways = []
    for name in ("Winograd", "Im2col"):
        real = getattr(bodies, name)
        monkeypatch.setattr(bodies, name, lambda g, n=name, real=real: ways.append(n) or real(g))
    return ways


@pytest.fixture
def small_slices(monkeypatch):
    """Cut small batches, too: no slice is too small for a thread."""
    monkeypatch.setattr(team_module, "LEAST", 1)
    if not mc.parallel.blas_can_be_limited():
        pytest.skip("this BLAS keeps its threads: one slice")


# The grid.  Geometries are all combined; channels and batches are drawn.


@pytest.mark.parametrize("stride", STRIDES, ids=str)
@pytest.mark.parametrize("kernel", KERNELS, ids=str)
def test_conv2d_direct_on_the_grid(rng, no_book, kernel, stride):
    cases, seen = 0, set()
    for dilation, padding, size in itertools.product(DILATIONS, PADDINGS, [*SIZES, *TINY[:3]]):
        if not fits(size, kernel, dilation, padding, stride):
            continue
        options = {"stride": stride, "padding": padding, "dilation": dilation}
        for _ in range(2):
            C, O, N = (int(rng.choice(choice)) for choice in (CHANNELS, CHANNELS, BATCHES))
            case = Case(rng, (N, *size, C), (*kernel, C, O), bias=bool(rng.integers(4)), **options)
            with mc.conv_algorithm("direct"):
                case.check(DIRECT)
            seen |= {("C", C), ("O", O), ("N", N)}
        cases += 1
    assert cases > 30 and len(seen) == len(CHANNELS) * 2 + len(BATCHES)


@pytest.mark.parametrize("O", CHANNELS)
@pytest.mark.parametrize("C", CHANNELS)
def test_conv2d_winograd_on_the_grid(rng, no_book, taken, C, O):
    for padding in ("valid", "same", 1, 2, ((0, 2), (2, 1)), ((2, 0), (0, 1))):
        size = TILED[rng.integers(len(TILED))]
        if not fits(size, (3, 3), 1, padding, 1):
            size = (7, 9)
        N = int(rng.choice(BATCHES))
        case = Case(rng, (N, *size, C), (3, 3, C, O), padding=padding, bias=padding != 2)
        for algorithm, limit in LIMITS.items():
            taken.clear()
            with mc.conv_algorithm(algorithm):
                case.check(limit)
            assert set(taken) == {{"direct": "Im2col", "winograd": "Winograd"}[algorithm]}
        taken.clear()
        with mc.conv_algorithm("auto"):
            found = case.compute()
        case.check(WINOGRAD if "Winograd" in taken else DIRECT, found)


@pytest.mark.parametrize("size", [*TILED, *((h, w) for h in (5, 6, 7, 8) for w in (5, 8))], ids=str)
def test_conv2d_winograd_on_every_remainder_of_tiles(rng, no_book, taken, size):
    for padding in ("valid", "same", ((1, 2), (0, 1))):
        if fits(size, (3, 3), 1, padding, 1):
            with mc.conv_algorithm("winograd"):
                Case(rng, (3, *size, 5), (3, 3, 5, 4), padding=padding).check(WINOGRAD)
    assert set(taken) == {"Winograd"}


@pytest.mark.parametrize("algorithm", choose.ALGORITHMS)
@pytest.mark.parametrize("channels", [(64, 64), (256, 32), (3, 128)], ids=str)
def test_conv2d_in_many_chunks(rng, no_book, algorithm, channels):
    """Many pictures, many channels: several chunks in a slice, and their sums."""
    case = Case(rng, (34, 14, 13, channels[0]), (3, 3, *channels), padding="same")
    with mc.conv_algorithm(algorithm), mc.threads(1):
        case.check(DIRECT if algorithm == "direct" else WINOGRAD)


def test_winograd_is_wished_for_but_left_where_it_is_impossible(rng, no_book, taken):
    for kernel, options in (
        ((5, 5), {}),
        ((2, 3), {}),
        ((3, 3), {"stride": (1, 2)}),
        ((3, 3), {"dilation": 2}),
        ((3, 3), {"padding": 3}),
        ((3, 3), {"padding": ((3, 0), (0, 0))}),
        ((3, 3), {"padding": ((0, 0), (0, 3))}),
    ):
        with mc.conv_algorithm("winograd"):
            Case(rng, (2, 9, 9, 16), (*kernel, 16, 16), **options).check(DIRECT)
    assert set(taken) == {"Im2col"}


def test_winograd_loses_digits_and_direct_does_not(rng, no_book):
    """Otherwise one of them isn't what it is called."""
    case = Case(rng, (8, 16, 16, 64), (3, 3, 64, 64), padding="same")
    errors = {}
    for algorithm in ("direct", "winograd"):
        with mc.conv_algorithm(algorithm):
            errors[algorithm] = relative(case.compute()[0], case.expected[0])
    assert 2 * errors["direct"] < errors["winograd"] < WINOGRAD


# float64, groups, and what else is left to the book.


@pytest.mark.parametrize("algorithm", choose.ALGORITHMS)
@pytest.mark.parametrize("kernel", KERNELS, ids=str)
def test_conv2d_float64_keeps_its_digits(rng, algorithm, kernel):
    for padding, stride, dilation in itertools.product(("same", (4, 3)), STRIDES, DILATIONS):
        options = {"padding": padding, "stride": stride, "dilation": dilation}
        with mc.conv_algorithm(algorithm):
            Case(rng, (3, 9, 8, 4), (*kernel, 4, 5), "float64", **options).check(DOUBLE)


@pytest.mark.parametrize("algorithm", choose.ALGORITHMS)
@pytest.mark.parametrize("groups", [2, 4])
def test_conv2d_in_groups(rng, algorithm, groups):
    for kernel, options in (((3, 3), {"padding": 1}), ((2, 1), {"stride": 2}), ((1, 1), {})):
        shapes = (7, 6, 5, 8), (*kernel, 8 // groups, 12)
        with mc.conv_algorithm(algorithm):
            Case(rng, *shapes, groups=groups, **options).check(DIRECT)


def test_conv2d_of_mixed_dtypes_is_the_books(rng):
    for x_dtype, w_dtype in (("float32", "float64"), ("float64", "float32"), ("float16",) * 2):
        x, w = rng.standard_normal((2, 5, 5, 2)), rng.standard_normal((3, 3, 2, 3))
        x, w = x.astype(x_dtype), w.astype(w_dtype)
        y, cache = conv2d_forward(x, w)
        wanted, its_cache = conv2d_forward.dispatch(object)(x, w)
        np.testing.assert_array_equal(y, wanted)
        assert y.dtype == wanted.dtype
        theirs = conv2d_backward.dispatch(object)(y, its_cache)
        for a, b in zip(conv2d_backward(y, cache)[:2], theirs[:2], strict=True):
            np.testing.assert_array_equal(a, b)
            assert a.dtype == b.dtype


def test_conv2d_of_float32_with_an_upstream_gradient_of_float64(rng):
    case = Case(rng, (2, 5, 5, 2), (3, 3, 2, 3))
    _, cache = conv2d_forward(case.x, case.w, case.b)
    dx, dw, _ = conv2d_backward(case.dy.astype("float64"), cache)
    assert relative(dx, case.expected[1]) <= DIRECT and relative(dw, case.expected[2]) <= DIRECT


def test_conv2d_of_no_pictures(rng):
    x, w = np.zeros((0, 5, 5, 2), "float32"), np.ones((3, 3, 2, 3), "float32")
    y, cache = conv2d_forward(x, w)
    dx, dw, _ = conv2d_backward(y, cache)
    assert (y.shape, dx.shape, dw.shape) == ((0, 3, 3, 3), x.shape, w.shape)
    assert not dw.any()


# Layouts.

LAYOUTS = {
    "every other row": lambda a: np.repeat(a, 2, axis=1)[:, ::2],
    "every other column": lambda a: np.repeat(a, 2, axis=2)[:, :, ::2],
    "every other channel": lambda a: np.repeat(a, 2, axis=3)[..., ::2],
    "upside down": lambda a: np.ascontiguousarray(a[:, ::-1])[:, ::-1],
    "backwards": lambda a: np.ascontiguousarray(a[::-1])[::-1],
    "channels first": lambda a: np.ascontiguousarray(a.transpose(0, 3, 1, 2)).transpose(0, 2, 3, 1),
    "fortran": np.asfortranarray,
    "part of a larger one": lambda a: np.pad(a, ((1, 2), (2, 1), (0, 3), (1, 1)))[
        1 : 1 + a.shape[0], 2 : 2 + a.shape[1], : a.shape[2], 1 : 1 + a.shape[3]
    ],
    "not aligned": lambda a: (
        np.frombuffer(b"?" + a.tobytes(), "uint8")[1:].view(a.dtype).reshape(a.shape)
    ),
}


@pytest.mark.parametrize("algorithm", ["direct", "winograd"])
@pytest.mark.parametrize("layout", LAYOUTS)
def test_conv2d_of_arrays_that_lie_in_other_ways(rng, algorithm, layout):
    for kernel, options in (((3, 3), {"padding": 1}), ((3, 3), {}), ((1, 1), {}), ((2, 3), {})):
        for C in (1, 4):
            case = Case(rng, (5, 9, 8, C), (*kernel, C, 3), **options)
            for name in ("x", "dy", "w"):
                array = getattr(case, name)
                turned = read_only(LAYOUTS[layout](array))
                np.testing.assert_array_equal(turned, array)
                setattr(case, name, turned)
                with mc.conv_algorithm(algorithm):
                    case.check(LIMITS[algorithm])
                setattr(case, name, array)


def test_conv2d_of_one_picture_broadcast_to_a_batch(rng):
    case = Case(rng, (1, 6, 7, 4), (3, 3, 4, 5))
    x = np.broadcast_to(case.x, (9, 6, 7, 4))
    for algorithm, limit in LIMITS.items():
        with mc.conv_algorithm(algorithm):
            y, _ = conv2d_forward(x, case.w, case.b)
        assert relative(y, np.broadcast_to(case.expected[0], y.shape)) <= limit


def test_conv2d_results_are_the_callers_own(rng):
    """Nothing is returned that a later call would overwrite."""
    case = Case(rng, (9, 8, 8, 16), (3, 3, 16, 16), padding="same")
    for algorithm in ("direct", "winograd"):
        with mc.conv_algorithm(algorithm):
            first = case.compute()
            kept = [array.copy() for array in first]
            second = case.compute()
        for array, before, other in zip(first, kept, second, strict=True):
            np.testing.assert_array_equal(array, before)
            assert array.flags.writeable and not np.shares_memory(array, other)
            assert not any(np.shares_memory(array, a) for a in (case.x, case.w, case.b, case.dy))


@pytest.mark.parametrize("algorithm", choose.ALGORITHMS)
@pytest.mark.parametrize("kernel", [(1, 1), (3, 3), (2, 3)], ids=str)
def test_conv2d_leaves_dx_out_if_asked(rng, algorithm, kernel):
    for options in ({}, {"stride": 2}, {"padding": 1}):
        for bias in (True, False):
            case = Case(rng, (9, 8, 7, 16), (*kernel, 16, 17), bias=bias, **options)
            with mc.conv_algorithm(algorithm):
                _, cache = conv2d_forward(case.x, case.w, case.b, **options)
                none, *grads = conv2d_backward(case.dy, cache, need_dx=False)
                _, *full = conv2d_backward(case.dy, cache)
            assert none is None
            for array, wanted in zip(grads, full, strict=True):
                np.testing.assert_array_equal(array, wanted)


# Threads.

SHAPES = {  # x without N, w, options
    "3x3": ((9, 8, 16), (3, 3, 16, 5), {"padding": "same"}),
    "first": ((13, 10, 3), (3, 3, 3, 8), {}),
    "strides": ((11, 9, 4), (5, 3, 4, 6), {"stride": (2, 1), "padding": "same"}),
    "pointwise": ((6, 7, 33), (1, 1, 33, 4), {}),
}


@pytest.mark.parametrize("algorithm", ["direct", "winograd"])
@pytest.mark.parametrize("name", SHAPES)
@pytest.mark.parametrize("threads", [1, 2, 3, 5])
def test_conv2d_in_threads(rng, small_slices, no_book, algorithm, name, threads):
    """Within the same bounds; and for a given number of threads, the same bits."""
    x_shape, w_shape, options = SHAPES[name]
    for N in BATCHES:
        case = Case(rng, (N, *x_shape), w_shape, **options)
        with mc.conv_algorithm(algorithm), mc.threads(threads):
            first, second = case.compute(), case.compute()
            case.check(LIMITS[algorithm], first)
        for name, a, b in zip(NAMES, first, second, strict=True):
            assert a.tobytes() == b.tobytes(), name


def test_conv2d_in_threads_uses_them(small_slices, monkeypatch):
    handed_over, real = [], team_module.run
    monkeypatch.setattr(
        team_module, "run", lambda jobs: handed_over.append(len(jobs)) or real(jobs)
    )
    x, w = np.ones((5, 8, 8, 2), "float32"), np.ones((3, 3, 2, 2), "float32")
    with mc.threads(3):
        conv2d_forward(x, w)
    assert max(handed_over) == 3


@pytest.mark.parametrize("algorithm", ["direct", "winograd"])
def test_conv2d_pictures_dont_see_each_other(rng, algorithm, small_slices):
    """What one picture brings, finite or not, stays with it."""
    case = Case(rng, (6, 7, 7, 4), (3, 3, 4, 5), padding="same")
    x = case.x.copy()
    x[2] = np.nan
    with mc.conv_algorithm(algorithm), mc.threads(2):
        y, cache = conv2d_forward(x, case.w, case.b, padding="same")
        dy = case.dy.copy()
        dy[4] = np.inf
        with np.errstate(invalid="ignore"):
            dx, _, _ = conv2d_backward(dy, cache)
    others = [n for n in range(6) if n != 2]
    assert np.isfinite(y[others]).all() and np.isnan(y[2]).any()
    assert np.isfinite(dx[:4]).all() and np.isfinite(dx[5]).all()
    assert relative(y[others], case.expected[0][others]) <= LIMITS[algorithm]


# Which way is taken.


@pytest.mark.parametrize("name", choose.ALGORITHMS)
def test_conv_algorithm_holds_within_its_block(name):
    assert choose.algorithm() == "auto"
    with mc.conv_algorithm("direct"):
        with mc.conv_algorithm(name):
            assert choose.algorithm() == name
        assert choose.algorithm() == "direct"
        with pytest.raises(KeyError), mc.conv_algorithm(name):
            raise KeyError
        assert choose.algorithm() == "direct"
    assert choose.algorithm() == "auto"


@pytest.mark.parametrize("name", ["fast", "", None, 3, "Direct"])
def test_conv_algorithm_refuses_other_words(name):
    with (
        pytest.raises(ValueError, match=r"conv_algorithm .*: expected one of auto, direct, win"),
        mc.conv_algorithm(name),
    ):
        pass


def test_conv_algorithm_of_the_environment(monkeypatch):
    monkeypatch.setenv("MINICNN_CONV_ALGORITHM", "winograd")
    assert choose.algorithm() == "winograd"
    with mc.conv_algorithm("direct"):
        assert choose.algorithm() == "direct"
    monkeypatch.setenv("MINICNN_CONV_ALGORITHM", "wino")
    with pytest.raises(ValueError, match="'wino': expected one of auto, direct, winograd"):
        choose.algorithm()


def test_choose_keeps_float64_and_gradient_checks_direct():
    g = Geometry.of((32, 32, 64), (3, 3, 64, 64), padding="same")
    for algorithm in choose.ALGORITHMS:
        with mc.conv_algorithm(algorithm):
            assert choose.choose(g, 128, np.dtype("float64"), need_dx=True) == "direct"
    with mc.conv_algorithm("winograd"):
        assert choose.choose(g, 1, np.dtype("float32"), need_dx=True) == "winograd"
    with mc.conv_algorithm("direct"):
        assert choose.choose(g, 128, np.dtype("float32"), need_dx=True) == "direct"


@pytest.mark.parametrize("n", [1, 2, 7, 33, 128])
@pytest.mark.parametrize("limit", [1, 99, 100, 250, 10_000])
def test_chunks_cover_all_within_the_limit(n, limit):
    parts = list(chunks(n, 100, limit))
    assert [k for part in parts for k in range(part.start, part.stop)] == list(range(n))
    sizes = [part.stop - part.start for part in parts]
    assert max(sizes) * 100 <= max(limit, 100)
    assert sizes[0] == max(sizes) <= min(sizes) + 1
