"""Scripts, the memory under them, and the team of scripts that share a batch."""

from __future__ import annotations

import itertools
import threading
from collections import Counter

import numpy as np
import pytest
import threadpoolctl

from minicnn import parallel
from minicnn.kernels.cpu import team as team_module
from minicnn.kernels.cpu.team import LEAST, Team
from minicnn.kernels.memory import ALIGNMENT, REST, Memory, address, aligned
from minicnn.kernels.script import Script, maximum

# Memory.


@pytest.mark.parametrize("shape", [(3, 5), (7,), (), (2, 3, 4, 5)])
@pytest.mark.parametrize("dtype", ["float32", "float64", "uint8", bool])
def test_memory_new_is_aligned_contiguous_and_as_asked(shape, dtype):
    array = Memory().new(shape, dtype)
    assert (array.shape, array.dtype) == (shape, np.dtype(dtype))
    assert array.flags.c_contiguous and array.flags.writeable
    assert address(array) % ALIGNMENT == 0


@pytest.mark.parametrize("size", [1, 63, 64, 65, 1000])
def test_aligned_has_the_size_that_was_asked_for(size):
    for _ in range(5):
        raw = aligned(size)
        assert raw.nbytes == size and address(raw) % ALIGNMENT == 0
        raw[...] = 255  # all of it is ours


def test_memory_new_arrays_are_disjoint_while_they_are_held():
    memory = Memory()
    arrays = [memory.new((n,), "float32") for n in (5, 1, 17, 5, 300)]
    for k, array in enumerate(arrays):
        array.fill(k)
    assert [set(array.tolist()) for array in arrays] == [{0}, {1}, {2}, {3}, {4}]


def test_memory_gaps_are_given_out_again_the_smallest_that_fits():
    memory = Memory()
    small, middle, large = (memory.new((n,), "uint8") for n in (10, 100, 1000))
    memory.free(large, small, middle)
    assert np.shares_memory(memory.new((100,), "uint8"), middle)
    assert np.shares_memory(memory.new((100,), "uint8"), large)
    assert np.shares_memory(memory.new((50,), "uint8"), small)
    assert memory.nbytes == 64 + 128 + 1024, "whole lines"


def test_memory_block_is_cut_up_and_becomes_whole_again():
    """In whatever order its pieces are freed."""
    for order in itertools.permutations(range(3)):
        memory = Memory()
        whole = memory.new((10 * REST,), "uint8")
        memory.free(whole)
        pieces = [memory.new((n * REST,), "uint8") for n in (3, 2, 4)]
        assert all(np.shares_memory(piece, whole) for piece in pieces)
        for k, piece in enumerate(pieces):
            piece.fill(k)
        assert [set(piece.tolist()) for piece in pieces] == [{0}, {1}, {2}]
        for k in order:
            memory.free(pieces[k])
        assert np.shares_memory(memory.new((10 * REST,), "uint8"), whole)
        assert memory.nbytes == 10 * REST


def test_memory_is_not_cut_for_a_small_rest():
    memory = Memory()
    whole = memory.new((2 * REST,), "uint8")
    memory.free(whole)
    part = memory.new((REST + 1,), "uint8")
    assert np.shares_memory(part, whole)
    assert not np.shares_memory(memory.new((1,), "uint8"), whole)


def test_memory_blocks_side_by_side_stay_two():
    """An array doesn't go from one block into another, however they lie."""
    raw = aligned(4 * ALIGNMENT)
    halves = iter([raw[: 2 * ALIGNMENT], raw[2 * ALIGNMENT :], aligned(4 * ALIGNMENT)])
    memory = Memory(lambda size: next(halves))
    memory.free(*[memory.new((2 * ALIGNMENT,), "uint8") for _ in range(2)])
    assert not np.shares_memory(memory.new((4 * ALIGNMENT,), "uint8"), raw)


def test_memory_borrowed_and_given_back():
    lender, memory = Memory(), Memory()
    lent = [lender.new((n * ALIGNMENT,), "uint8") for n in (1, 3)]
    memory.borrow(lender)
    array = memory.new((2 * ALIGNMENT,), "uint8")
    assert np.shares_memory(array, lent[1]) and memory.nbytes == 4 * ALIGNMENT
    memory.give_back()
    assert memory.nbytes == 3 * ALIGNMENT
    assert not np.shares_memory(memory.new((ALIGNMENT,), "uint8"), lent[1]), "no more of it"
    memory.free(array)
    assert lender.nbytes == 4 * ALIGNMENT


def test_memory_block_is_used_again_in_another_shape_and_dtype():
    memory = Memory()
    first = memory.new((4, 6), "float64")
    memory.free(first)
    second = memory.new((3, 5), "float32")
    assert np.shares_memory(first, second)
    second.fill(2)
    assert second.sum() == 30 and memory.nbytes == first.nbytes


def test_memory_free_twice_is_an_error():
    memory = Memory()
    array = memory.new((3,), "float32")
    memory.free(array)
    with pytest.raises(RuntimeError, match="nobody holds"):
        memory.free(array)


def test_memory_held_arrays_take_as_many_frees():
    memory = Memory()
    array = memory.new((3,), "float32")
    assert memory.hold(array) is array
    memory.free(array)
    assert not np.shares_memory(memory.new((3,), "float32"), array)
    memory.free(array)
    assert np.shares_memory(memory.new((3,), "float32"), array)


def test_memory_alone_is_who_holds_it_by_himself():
    memory = Memory()
    array = memory.new((3,), "float32")
    assert memory.alone(array)
    memory.hold(array)
    assert not memory.alone(array)
    memory.free(array)
    assert memory.alone(array)
    memory.free(array)
    assert not memory.alone(array)


VIEWS = {
    "part": lambda a: a[1:3],
    "reshaped": lambda a: a.reshape(-1),
    "turned": lambda a: a.transpose(1, 0, 2)[::-1],
    "view of a view": lambda a: a[2:].reshape(-1)[1:][::2],
    "strided": lambda a: np.lib.stride_tricks.as_strided(a[1:], (2, 2), (8, 4)),
    "other dtype": lambda a: a.view("uint8"),
    "empty": lambda a: a[:0],
}


@pytest.mark.parametrize("view", VIEWS.values(), ids=VIEWS)
def test_memory_views_count_as_their_array(view):
    memory = Memory()
    array = memory.new((4, 3, 2), "float32")
    memory.hold(view(array))
    assert not memory.alone(array) and not memory.alone(view(array))
    memory.free(view(array))
    assert memory.alone(array)
    memory.free(view(array))
    assert np.shares_memory(memory.new((4, 3, 2), "float32"), array)


def test_memory_leaves_arrays_from_elsewhere_alone():
    memory, elsewhere = Memory(), np.ones(5)
    memory.new((5,), "float64")
    assert memory.hold(elsewhere) is elsewhere
    assert not memory.alone(elsewhere)
    memory.free(elsewhere, None, elsewhere[1:], elsewhere)
    other = Memory().new((5,), "float64")
    memory.free(other)
    assert not np.shares_memory(memory.new((5,), "float64"), other)


def test_memory_free_of_one_of_two_views_of_a_batch_keeps_the_other():
    """A chunk is a view of its batch: to hold it is to hold the batch."""
    memory = Memory()
    batch = memory.new((4, 3), "float32")
    chunks = [memory.hold(batch)[k : k + 1] for k in range(4)]
    memory.free(batch, *chunks[:3])
    assert memory.alone(chunks[3])
    memory.free(chunks[3])
    assert np.shares_memory(memory.new((4, 3), "float32"), batch)


# Script.


def test_script_does_nothing_until_it_runs_and_then_as_often_as_asked(rng):
    s = Script("float32")
    x, w = (rng.standard_normal((4, 4)).astype("float32") for _ in range(2))
    y = s.new((4, 4))
    y.fill(7)
    s(np.matmul, x, w, y)
    s(np.add, y, 1, y)
    assert (y == 7).all()
    s.run()
    np.testing.assert_array_equal(y, x @ w + 1)
    x[...] = rng.standard_normal((4, 4))
    s.run()
    np.testing.assert_array_equal(y, x @ w + 1)


def test_script_runs_from_top_to_bottom():
    s, seen = Script("float32"), []
    for k in range(10):
        s(seen.append, k)
    s.run()
    assert seen == list(range(10))


def test_script_new_has_the_scripts_dtype_unless_another_is_asked_for():
    s = Script("float64")
    assert s.new((2,)).dtype == "float64" and s.new((2,), bool).dtype == bool
    mask = s.new([3, 4], "uint8")
    assert (s.like(mask).shape, s.like(mask).dtype) == ((3, 4), "uint8")
    assert not np.shares_memory(s.like(mask), mask)


def test_script_reuse_takes_over_what_nobody_else_needs():
    s = Script("float32")
    array = s.new((3,))
    assert s.reuse(array) is array


def test_script_reuse_gives_another_where_somebody_else_needs_it():
    s = Script("float32")
    array = s.new((3, 2))
    s.hold(array)
    other = s.reuse(array)
    assert other.shape == (3, 2) and not np.shares_memory(other, array)
    assert s.memory.alone(array), "whoever reuses has given up the first"
    elsewhere = np.ones(3)
    assert s.reuse(elsewhere) is not elsewhere


def test_script_constants_are_made_once_and_never_given_out():
    s = Script("float64")
    assert s.ones(3) is s.ones(3) and s.ones(3) is not s.ones(4)
    assert s.zeros(2, 3) is s.zeros(2, 3)
    assert s.ones(3).dtype == "float64" and s.ones(3).tolist() == [1, 1, 1]
    assert not s.zeros(2, 3).any() and s.zeros(2, 3).shape == (2, 3)
    third = s.constant("mean", (2,), 0.25)
    assert third.tolist() == [0.25, 0.25] and s.constant("mean", (2,), 9) is third
    assert s.constant("other", (2,), 9) is not third
    s.free(third, s.ones(3))  # nobody's
    assert not np.shares_memory(s.new((2,)), third) and not np.shares_memory(s.new((3,)), s.ones(3))
    assert address(third) % ALIGNMENT == 0


def test_maximum_is_numpys_with_out_last():
    out = np.zeros(3)
    maximum(np.array([1.0, -2, 0]), np.zeros(3), out)
    assert out.tolist() == [1, 0, 0]


def test_script_labels_go_with_the_calls():
    s = Script("float32")
    s(len, [])
    s.label = "forward conv"
    s(len, [])
    s(len, [])
    s.label = "backward conv"
    s(len, [])
    assert s.labels == ["", "forward conv", "forward conv", "backward conv"]
    assert len(s.labels) == len(s.calls)


# Team.

needs_blas = pytest.mark.skipif(
    not parallel.blas_can_be_limited(), reason="this BLAS keeps its threads: one slice"
)


@needs_blas
@pytest.mark.parametrize("n", [1, 2, 3, 5, 8])
@pytest.mark.parametrize("N", [1, 2, LEAST - 1, LEAST, 2 * LEAST - 1, 2 * LEAST, 33, 64, 129])
def test_team_cuts_the_batch_evenly_and_small_ones_less(n, N):
    with parallel.threads(n):
        parts = Team(N, "float32").parts
    assert len(parts) == max(1, min(n, N // LEAST))
    covered = [k for part in parts for k in range(part.start, part.stop)]
    assert covered == list(range(N))
    sizes = [part.stop - part.start for part in parts]
    assert max(sizes) - min(sizes) <= 1
    assert len(parts) == 1 or min(sizes) >= LEAST


def test_team_takes_as_many_slices_as_it_is_told_but_none_empty():
    assert len(Team(3, "float32", slices=7).parts) == 3
    assert len(Team(9, "float32", slices=2).scripts) == 2
    assert len(Team(9, "float32", slices=0).scripts) == 1


def test_team_has_one_slice_where_blas_keeps_its_threads(monkeypatch):
    monkeypatch.setattr(team_module, "blas_can_be_limited", lambda: False)
    with parallel.threads(4):
        assert Team(128, "float32").parts == [slice(0, 128)]


class Kind(Script):
    pass


def test_team_scripts_are_of_the_kind_asked_for_with_memory_of_their_own():
    team = Team(9, "float64", Kind, slices=3)
    assert [type(s) for s in team.scripts] == [Kind] * 3
    assert {s.dtype for s in team.scripts} == {np.dtype("float64")}
    arrays = [s.new((4,)) for s in team.scripts]
    assert not any(np.shares_memory(a, b) for a in arrays for b in arrays if a is not b)
    assert team.nbytes == 3 * 64


def test_team_stages_meet_in_order():
    """In each stage what is prepared comes first, then the scripts, then the meeting."""
    team, seen = Team(8, "float32", slices=3), []
    for stage in "ab":
        for k, s in enumerate(team.scripts):
            s(seen.append, f"{stage} script {k}")
        team.before(lambda stage=stage: seen.append(f"{stage} prepared"))
        team.meet((seen.append, (f"{stage} meeting",)), (seen.append, (f"{stage} over",)))
    team.meet()
    assert seen == [] and len(team.stages) == 3
    for _ in range(2):  # as often as one likes
        seen.clear()
        team.run(team.stages)
        scripts = {stage: sorted(f"{stage} script {k}" for k in range(3)) for stage in "ab"}
        assert seen[0] == "a prepared" and sorted(seen[1:4]) == scripts["a"]
        assert seen[4:7] == ["a meeting", "a over", "b prepared"]
        assert sorted(seen[7:10]) == scripts["b"] and seen[10:] == ["b meeting", "b over"]


def test_team_runs_the_stages_that_it_is_given():
    team, seen = Team(8, "float32", slices=2), []
    for stage in "abc":
        team.scripts[1](seen.append, stage)
        team.meet()
    team.run(team.stages[1:])
    assert seen == ["b", "c"]


def test_team_slices_are_at_work_at_once():
    team, barrier = Team(8, "float32", slices=3), threading.Barrier(3)
    for s in team.scripts:
        s(barrier.wait, 20)
    team.meet()
    team.run(team.stages)
    assert not barrier.broken


def test_team_prepares_once_for_all_slices():
    team, w = Team(8, "float32", slices=4), np.arange(6, dtype="float32")
    asked = []

    def write(job, array):
        asked.append(array)
        job(np.multiply, w, 2, array)

    arrays = [team.prepare("doubled", (6,), write) for _ in team.scripts]
    assert len(asked) == 1 and all(array is arrays[0] for array in arrays)
    assert team.prepare("again", (6,), write) is not arrays[0]
    results = [s.new((6,)) for s in team.scripts]
    for s, result in zip(team.scripts, results, strict=True):
        s(np.add, arrays[0], 1, result)
    team.meet()
    for _ in range(2):
        w += 1
        team.run(team.stages)
        for result in results:
            np.testing.assert_array_equal(result, 2 * w + 1)


def test_team_prepares_anew_in_another_stage():
    """The weights may have changed between forward and backward, and the memory is used again."""
    team, w, seen = Team(8, "float32", slices=2), np.ones(5, "float32"), []
    for _ in range(2):
        array = team.prepare("w", (5,), lambda job, array: job(np.copyto, array, w))
        team.scripts[0](lambda array=array: seen.append(array.sum()))
        team.meet((np.add, (w, 1, w)))
    assert team.nbytes == 64
    team.run(team.stages)
    assert seen == [5, 10]


def test_team_shares_out_what_is_prepared():
    team, threads = Team(8, "float32", slices=3), []
    barrier = threading.Barrier(3)

    def wait_and_note():
        barrier.wait(20)  # all three at once, or never
        threads.append(threading.get_ident())

    for key in "abc":
        team.prepare(key, (1,), lambda job, array: job(wait_and_note))
    for key in "defg":
        team.prepare(
            key, (1,), lambda job, array: job(lambda: threads.append(threading.get_ident()))
        )
    team.meet()
    team.run(team.stages)
    assert len(threads) == 7 and sorted(Counter(threads).values()) == [2, 2, 3]


def test_team_cuts_one_job_for_all():
    team, parts = Team(8, "float32", slices=3), []

    def write(jobs, array):
        for job, part in jobs.cut(10):
            parts.append(part)
            job(array[part].fill, part.start)

    array = team.prepare("a", (10,), write)
    team.meet()
    assert [len(calls) for calls in team.stages[0].prepared] == [1, 1, 1]
    team.run(team.stages)
    assert parts == [slice(0, 3), slice(3, 6), slice(6, 10)]
    assert array.tolist() == [0, 0, 0, 3, 3, 3, 6, 6, 6, 6]


def test_team_asks_before_a_stage_and_tells_the_slices():
    """Every time anew, here, and once for all."""
    team, answers, heard = Team(8, "float32", slices=2), iter(range(5)), []
    threads = []

    def ask():
        threads.append(threading.get_ident())
        return next(answers)

    told = team.before(ask)
    for s in team.scripts:
        s(lambda: heard.append(told.value))
    team.meet()
    for _ in range(2):
        team.run(team.stages)
    assert heard == [0, 0, 1, 1] and threads == [threading.get_ident()] * 2


def test_team_labels_stay_with_the_stage():
    team = Team(8, "float32", slices=2)
    for label in ("forward a", "backward a"):
        for s in team.scripts:
            s.label = label
            s(len, [])
        team.meet()
    team.meet()
    found = [stage.labels for stage in team.stages]
    assert found == [[["forward a"]] * 2, [["backward a"]] * 2, [[], []]]
    for stage in team.stages:
        for calls, labels in zip(stage.scripts, stage.labels, strict=True):
            assert len(calls) == len(labels)


@needs_blas
@pytest.mark.parametrize("slices", [1, 2])
def test_team_keeps_blas_to_one_thread(slices):
    found = []

    def note():
        info = threadpoolctl.threadpool_info()
        found.extend(pool["num_threads"] for pool in info if pool["user_api"] == "blas")

    team = Team(16, "float32", slices=slices)
    for s in team.scripts:
        s(note)
    team.meet((note, ()))
    with threadpoolctl.threadpool_limits(2, user_api="blas"):
        note()
        before = set(found)
        found.clear()
        team.run(team.stages)
        assert set(found) == {1}
        found.clear()
        note()
        assert set(found) == before


@pytest.mark.parametrize("where", ["prepared", "script", "meeting"])
@pytest.mark.parametrize("error", [KeyError, KeyboardInterrupt])
def test_team_passes_errors_on_and_works_again(where, error):
    team, seen = Team(8, "float32", slices=3), []
    failing = [True]

    def work():
        if failing[0]:
            raise error("here")
        seen.append("worked")

    team.before(work if where == "prepared" else lambda: None)
    if where == "script":
        team.scripts[1](work)
    team.meet(*([(work, ())] if where == "meeting" else []))
    team.scripts[0](seen.append, "later")
    team.meet()
    with pytest.raises(error):
        team.run(team.stages)
    assert seen == []
    failing[0] = False
    team.run(team.stages)
    assert seen == ["worked", "later"]
