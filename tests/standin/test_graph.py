"""Streams that are recorded, their graphs, and memory: what a captured step stands on."""

from __future__ import annotations

import gc

import emulation
import numpy as np
import pytest

from . import installed

KERNEL = """
extern "C" __global__ void twice(const float* x, float* y, int n) {
    int i = blockIdx.x * blockDim.x + threadIdx.x;
    if (i < n) y[i] = 2 * x[i];
}
extern "C" __global__ void far(float* y, int i) { y[i] = 0; }
"""
needs_compiler = pytest.mark.skipif(emulation.compiler() is None, reason="needs g++")


@pytest.fixture
def cupy():
    with installed() as module:
        yield module


@pytest.fixture
def stream(cupy):
    """A stream, and a pool that keeps what is freed in a capture."""
    pool = cupy.cuda.MemoryPool()
    with cupy.cuda.using_allocator(pool.malloc), cupy.cuda.Stream(non_blocking=True) as stream:
        yield stream


def test_nothing_is_done_before_the_graph_is_launched(cupy, stream):
    x, y = cupy.ones((3,)), cupy.zeros((3,))
    stream.begin_capture()
    assert stream.is_capturing()
    total = (x * 2 + y).sum()
    y += x
    y[1:] *= 3
    cupy.add(y, x, out=y)
    y[0] = total
    z = cupy.concatenate([x, y])
    z.fill(7)
    copy = y.copy()
    graph = stream.end_capture()
    np.testing.assert_array_equal(y.get(), 0)
    assert np.isnan(copy.get()).all() and copy.shape == (3,)
    graph.launch()
    np.testing.assert_array_equal(y.get(), [6, 4, 4])
    graph.upload(stream)
    graph.launch(stream)
    np.testing.assert_array_equal(y.get(), [20, 16, 16])
    np.testing.assert_array_equal(copy.get(), y.get())
    assert (z.get() == 7).all() and z.shape == (6,)


def test_results_keep_shape_and_dtype_in_a_capture(cupy, stream):
    x = cupy.ones((4, 3), dtype="float32")
    stream.begin_capture()
    results = [
        *(x.sum(axis=0), x.astype("float64"), x > 1, x[:, 1], x.reshape(12), x.T, x @ x.T),
        *(x.argmax(axis=1), cupy.zeros((2, 2)), cupy.exp(x), cupy.empty_like(x), -x),
    ]
    stream.end_capture()
    assert [(a.shape, a.dtype.name) for a in results] == [
        ((3,), "float32"),
        ((4, 3), "float64"),
        ((4, 3), "bool"),
        ((4,), "float32"),
        ((12,), "float32"),
        ((3, 4), "float32"),
        ((4, 4), "float32"),
        ((4,), "int64"),
        ((2, 2), "float64"),
        ((4, 3), "float32"),
        ((4, 3), "float32"),
        ((4, 3), "float32"),
    ]


def test_what_waits_or_copies_is_refused_in_a_capture(cupy, stream):
    x = cupy.ones((3,))
    stream.begin_capture()
    for wait in (
        lambda: x.get(),
        lambda: float(x.sum()),
        lambda: bool(x[0] > 1),
        lambda: x[x > 1],
        lambda: cupy.asarray(np.ones(3)),
        lambda: stream.synchronize(),
        lambda: cupy.cuda.Device().synchronize(),
        lambda: cupy.random.default_rng(0).random((3,)),
    ):
        with pytest.raises(RuntimeError, match="not permitted while the stream is capturing"):
            wait()
    stream.end_capture()


def test_capture_wants_a_stream_of_its_own(cupy):
    with pytest.raises(RuntimeError, match="non-blocking"):
        cupy.cuda.get_current_stream().begin_capture()
    with pytest.raises(RuntimeError, match="non-blocking"):
        cupy.cuda.Stream().begin_capture()
    stream = cupy.cuda.Stream(non_blocking=True)
    with pytest.raises(RuntimeError, match="isn't capturing"):
        stream.end_capture()
    stream.begin_capture()
    x = cupy.ones((3,)) + 1  # on another stream: done at once
    assert (x.get() == 2).all()
    with pytest.raises(RuntimeError, match="one at a time"):
        stream.begin_capture()
    empty = stream.end_capture()
    with stream:
        assert cupy.cuda.get_current_stream() is stream
        stream.begin_capture()
        with pytest.raises(RuntimeError, match="isn't launched in a capture"):
            empty.launch()
    assert cupy.cuda.get_current_stream() is cupy.cuda.Stream.null


@needs_compiler
def test_kernels_are_recorded(cupy, stream):
    twice = cupy.RawModule(code=KERNEL).get_function("twice")
    x, y = cupy.ones((300,), dtype="float32"), cupy.zeros((300,), dtype="float32")
    stream.begin_capture()
    twice((3,), (128,), (x, y, np.int32(300)))
    twice.kernel((3,), (128,), (y, x, np.int32(300)), 0)
    graph = stream.end_capture()
    assert not y.get().any()
    graph.launch()
    graph.launch()
    assert (x.get() == 16).all() and (y.get() == 8).all()
    with cupy.cuda.using_allocator(None):
        stream.begin_capture()
        twice((3,), (128,), (x, cupy.empty((300,), dtype="float32"), np.int32(300)))
        graph = stream.end_capture()
    gc.collect()
    with pytest.raises(RuntimeError, match="memory that was freed"):
        graph.launch()


def test_graph_on_memory_that_was_freed_is_refused(cupy, stream):
    kept = cupy.zeros((3,))
    pool = cupy.cuda.MemoryPool()
    graphs = []
    for allocator in (None, pool.malloc):
        with cupy.cuda.using_allocator(allocator):
            stream.begin_capture()
            kept += cupy.ones((3,)) * 2  # two arrays that are gone at once
            graphs.append(stream.end_capture())
    gc.collect()
    with pytest.raises(RuntimeError, match="memory that was freed"):
        graphs[0].launch()
    graphs[1].launch()
    assert (kept.get() == 2).all()
    del pool, allocator
    with pytest.raises(RuntimeError, match="memory that was freed"):
        graphs[1].launch()


def test_pool_counts_what_is_used(cupy):
    pool = cupy.cuda.MemoryPool()
    with cupy.cuda.using_allocator(pool.malloc):
        x = cupy.empty((1000,), dtype="float32")
        view = x[10:]
        y = cupy.zeros((1,)) + 1
    outside = cupy.zeros((5000,))
    assert pool.used_bytes() == 4096 + 512
    del x, y
    gc.collect()
    assert pool.used_bytes() == 4096, "a view holds its memory"
    del view
    gc.collect()
    assert pool.used_bytes() == 0 and pool.total_bytes() >= 4096 + 512
    assert pool.free_bytes() == pool.total_bytes()
    pool.free_all_blocks()
    assert pool.total_bytes() == 0
    assert cupy.get_default_memory_pool().used_bytes() >= outside.nbytes


def test_memory_is_aligned_and_full_of_rubbish(cupy):
    arrays = [cupy.empty((n,), dtype=t) for n in (1, 7, 1000) for t in ("float32", "uint8")]
    assert all(a._host.ctypes.data % 512 == 0 for a in arrays)
    assert all(np.isnan(a.get()).all() or (a.get() == 77).all() for a in arrays)


@needs_compiler
@pytest.mark.parametrize(("index", "where"), [(10, "behind"), (-1, "before"), (200, "behind")])
def test_writing_beyond_an_array_is_an_error(cupy, index, where):
    far = cupy.RawModule(code=KERNEL).get_function("far")
    x = cupy.zeros((10,), dtype="float32")
    with pytest.raises(emulation.KernelError, match=rf"far writes {where} its array number 0"):
        far((1,), (1,), (x, np.int32(index)))
    far((1,), (1,), (x, np.int32(9)))


@needs_compiler
def test_launch_is_strict(cupy):
    module = cupy.RawModule(code=KERNEL, options=("-std=c++17",))
    twice = module.get_function("twice")
    x, n = cupy.ones((8,), dtype="float32"), np.int32(8)
    for arguments in (
        *((x, x), (x, x, 8), (x, x, np.int64(8)), (x, x, np.float32(8))),
        *((x, cupy.ones((8,)), n), (x, np.ones(8, "float32"), n), (x, None, n), (x, x, "8")),
    ):
        with pytest.raises(TypeError, match="twice"):
            twice((1,), (8,), arguments)
    for grid, block in (((0,), (8,)), ((1,), (0,)), ((1,), (1025,)), ((1, 70000), (8,))):
        with pytest.raises(RuntimeError, match="INVALID_VALUE"):
            twice(grid, block, (x, x, n))
    with pytest.raises(TypeError, match="tuples of integers"):
        twice((np.int64(1),), (8,), (x, x, n))
    with pytest.raises(RuntimeError, match="INVALID_VALUE"):
        twice((1,), (8,), (x, x, n), shared_mem=49 << 10)
    twice.max_dynamic_shared_size_bytes = 64 << 10
    twice((1,), (8,), (x, x, n), shared_mem=49 << 10)
    with pytest.raises(RuntimeError, match="NOT_FOUND"):
        module.get_function("thrice")
    with cupy.cuda.Device(1), pytest.raises(ValueError, match="different from the current device"):
        twice((1,), (8,), (x, x, n))
    with pytest.raises(TypeError, match="takes code"):
        cupy.RawModule(path="kernels.cubin")
