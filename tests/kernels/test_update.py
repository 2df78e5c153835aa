from __future__ import annotations

import threading
import warnings

import numpy as np
import pytest

from minicnn import parallel
from minicnn.functional import update as book
from minicnn.kernels.cpu import update as kernels

RULES = {  # the function, how many arrays it takes, the scalars after them
    "sgd": ("sgd_update", 2, (0.1,)),
    "momentum": ("momentum_update", 3, (0.1, 0.9)),
    "nesterov": ("momentum_update", 3, (0.1, 0.9, True)),
    "rmsprop": ("rmsprop_update", 3, (0.01, 0.9, 1e-8)),
    "adam": ("adam_update", 4, (3, 0.01, 0.9, 0.999, 1e-8)),
    "adam, first step": ("adam_update", 4, (1, 0.01, 0.9, 0.999, 1e-8)),
    "adam, late": ("adam_update", 4, (100_000, 0.01, 0.9, 0.999, 1e-8)),
    "average": ("average_update", 2, (0.99,)),
}
LIMITS = {"float32": 1e-6, "float64": 1e-12}
BLOCK = kernels.BLOCK_BYTES // 4
SEVERAL, MILLION = 3 * BLOCK, 1_000_000

each_rule = pytest.mark.parametrize("name", RULES)
each_dtype = pytest.mark.parametrize("dtype", LIMITS)


def arrays_for(name, rng, shape, dtype="float32"):
    """What a rule changes and reads: w, dw and its memory, of which v isn't negative."""
    _, count, _ = RULES[name]
    arrays = [rng.standard_normal(shape).astype(dtype) for _ in range(count)]
    if count > 2:
        np.abs(arrays[-1], out=arrays[-1])
    return arrays


def step(name, arrays):
    """Take one step by the registered body."""
    function, _, scalars = RULES[name]
    getattr(book, function)(*arrays, *scalars)


def reference_step(name, arrays):
    """Take one step by the book's own body."""
    function, _, scalars = RULES[name]
    getattr(book, function).dispatch(object)(*arrays, *scalars)


def check_against_the_book(name, arrays, copies):
    """Step both and compare; ``copies`` are what the book's body works on."""
    limit = LIMITS[arrays[0].dtype.name]
    step(name, arrays)
    reference_step(name, copies)
    for array, expected in zip(arrays, copies, strict=True):
        assert array.dtype == expected.dtype
        np.testing.assert_allclose(array, expected, rtol=limit, atol=limit)


@pytest.fixture
def parts(monkeypatch):
    """The sizes of the parts that updates were cut into, since it was last cleared."""
    sizes = []

    def one_part(step, block, *vectors):
        sizes.append(vectors[0].size)
        kernels_part(step, block, *vectors)

    kernels_part = kernels.one_part
    monkeypatch.setattr(kernels, "one_part", one_part)
    return sizes


def test_all_rules_but_the_shortest_are_registered():
    rules = {name for name in vars(book) if name.endswith("_update")}
    registered = {function for function, _, _ in RULES.values()}
    assert rules == registered | {"decay_update", "lookahead_update"}
    for name in registered:
        function = getattr(book, name)
        assert function.dispatch(np.ndarray) is getattr(kernels, name)
        assert function.dispatch(object) is not getattr(kernels, name)


@each_rule
@each_dtype
@pytest.mark.parametrize("size", [0, 1, 7, BLOCK - 1, BLOCK + 1, 122_570, MILLION])
def test_update_equals_the_book(rng, name, dtype, size):
    arrays = arrays_for(name, rng, size, dtype)
    check_against_the_book(name, arrays, [a.copy() for a in arrays])


@each_rule
@each_dtype
def test_update_stays_with_the_book_over_many_steps(rng, name, dtype):
    arrays = arrays_for(name, rng, 1000, dtype)
    copies = [a.copy() for a in arrays]
    for _ in range(50):
        step(name, arrays)
        reference_step(name, copies)
    for array, expected in zip(arrays, copies, strict=True):
        np.testing.assert_allclose(array, expected, rtol=0, atol=20 * LIMITS[dtype])


@each_rule
@each_dtype
def test_update_is_bitwise_the_same_in_threads(rng, name, dtype, parts):
    arrays = arrays_for(name, rng, MILLION + 3, dtype)
    results, counts = [], []
    for n in (1, 2, 5):
        parts.clear()
        copies = [a.copy() for a in arrays]
        with parallel.threads(n):
            step(name, copies)
        results.append([a.tobytes() for a in copies])
        counts.append(len(parts))
        assert sum(parts) == MILLION + 3
    assert results[0] == results[1] == results[2]
    assert counts[0] == 1
    assert counts[1] <= 2
    if name.startswith(("adam", "rmsprop")):
        assert counts == [1, 2, 5]


@pytest.mark.parametrize(
    ("name", "size", "count"), [("adam", BLOCK, 1), ("sgd", 8 * BLOCK, 1), ("adam", 4 * BLOCK, 3)]
)
def test_update_wakes_no_thread_for_a_little_work(rng, parts, name, size, count):
    with parallel.threads(8):
        step(name, arrays_for(name, rng, size))
    assert len(parts) == count


@each_rule
def test_update_leaves_the_gradient_alone(rng, name):
    arrays = arrays_for(name, rng, 1000)
    changed = [0, *range(2, len(arrays))]
    copies = [a.copy() for a in arrays]
    step(name, arrays)
    for k, (array, before) in enumerate(zip(arrays, copies, strict=True)):
        assert (array != before).any() == (k in changed)


@each_rule
def test_update_changes_its_vectors_and_nothing_around_them(rng, name):
    whole = arrays_for(name, rng, 1000)
    before = [a.copy() for a in whole]
    check_against_the_book(name, [a[100:900] for a in whole], [a[100:900].copy() for a in whole])
    for array, old in zip(whole, before, strict=True):
        np.testing.assert_array_equal(array[:100], old[:100])
        np.testing.assert_array_equal(array[900:], old[900:])


def spread(array):
    """An equal array with room between its elements."""
    wide = np.zeros((*array.shape, 2), array.dtype)
    wide[..., 0] = array
    return wide[..., 0]


@each_rule
@pytest.mark.parametrize("shape", [(), (5, 7), (0, 3), (300,)])
@pytest.mark.parametrize("lay_out", [np.asfortranarray, spread], ids=["fortran", "strided"])
def test_update_takes_other_arrays_than_vectors(rng, name, shape, lay_out):
    arrays = [lay_out(np.asarray(a)) for a in arrays_for(name, rng, shape)]
    check_against_the_book(name, arrays, [a.copy() for a in arrays])


@each_rule
def test_update_takes_one_array_that_is_strided(rng, name):
    arrays = arrays_for(name, rng, 300)
    for k in range(len(arrays)):
        mixed = [spread(a) if i == k else a.copy() for i, a in enumerate(arrays)]
        check_against_the_book(name, mixed, [a.copy() for a in mixed])


@pytest.mark.parametrize(
    ("dtype", "dw_dtype", "dw_size"),
    [("float32", "float64", SEVERAL), ("float32", "float32", 1), ("float16", "float16", SEVERAL)],
    ids=["other dtype", "broadcast", "half"],
)
def test_update_leaves_to_the_book_what_it_is_not_for(rng, dtype, dw_dtype, dw_size):
    w = rng.standard_normal(SEVERAL).astype(dtype)
    dw = rng.standard_normal(dw_size).astype(dw_dtype)
    arrays, copies = [w, dw], [w.copy(), dw.copy()]
    step("sgd", arrays)
    reference_step("sgd", copies)
    np.testing.assert_array_equal(arrays[0], copies[0])


@each_rule
def test_update_takes_scalars_of_numpy(rng, name, monkeypatch):
    """They are what a sweep gives; float64 ones would double the work on float32."""
    arrays = arrays_for(name, rng, 1000)
    copies = [a.copy() for a in arrays]
    step(name, copies)
    function, count, scalars = RULES[name]
    scalars = tuple(np.float64(x) if isinstance(x, float) else np.int64(x) for x in scalars)
    monkeypatch.setitem(RULES, name, (function, count, scalars))
    step(name, arrays)
    for array, expected in zip(arrays, copies, strict=True):
        assert array.tobytes() == expected.tobytes()


@each_rule
def test_update_leaves_zeros_without_gradient_zero(name):
    arrays = [np.zeros(100, "float32") for _ in range(RULES[name][1])]
    step(name, arrays)
    assert not np.any(arrays)


def test_adam_before_the_first_step_is_refused_as_in_the_book(rng):
    for one_step in (book.adam_update, book.adam_update.dispatch(object)):
        with pytest.raises(ZeroDivisionError):
            one_step(*arrays_for("adam", rng, 10), 0, 0.1, 0.9, 0.999, 1e-8)


@pytest.mark.parametrize("size", [100, MILLION])
def test_update_keeps_the_callers_way_with_overflow(size):
    """The jobs in threads see ``np.errstate``, and what they raise arrives."""
    big = np.full(size, 1e30, "float32")
    arrays = [np.zeros(size, "float32"), big, big.copy(), big.copy()]
    with parallel.threads(2):
        with np.errstate(all="raise"), pytest.raises(FloatingPointError):
            step("adam", arrays)
        with np.errstate(all="ignore"), warnings.catch_warnings(record=True) as caught:
            step("adam", arrays)
    assert caught == []


def test_updates_in_several_threads_at_once(rng):
    """Two models may be trained at once."""
    starts = [arrays_for("adam", rng, MILLION) for _ in range(3)]
    expected = [[a.copy() for a in arrays] for arrays in starts]
    for arrays in expected:
        step("adam", arrays)
    runners = [threading.Thread(target=step, args=("adam", arrays)) for arrays in starts]
    for runner in runners:
        runner.start()
    for runner in runners:
        runner.join()
    for arrays, wanted in zip(starts, expected, strict=True):
        assert [a.tobytes() for a in arrays] == [a.tobytes() for a in wanted]
