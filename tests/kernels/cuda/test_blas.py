"""Products by cuBLAS: shapes, types and captures, on a stand-in for the library."""

from __future__ import annotations

import ctypes
import importlib
from threading import Event, Thread
from types import SimpleNamespace

import numpy as np
import pytest

from minicnn.backend import DeviceError
from minicnn.kernels.cuda import blas

from .convolutions import assert_close, from_storage, rounded, to_storage

BOUNDS = {"float64": 1e-14, "float32": 1e-6, "float16": 6e-4, "bfloat16": 5e-3}


@pytest.fixture
def calls(standin):
    found = importlib.import_module("cupy.cublas").calls
    found.clear()
    return found


def operands(kind, M=5, K=7, N=3, batch=()):
    rng = np.random.default_rng(1)
    return [rounded(rng.standard_normal((*batch, *s)), kind) for s in ((M, K), (K, N), (M, N))]


@pytest.mark.parametrize("batch", [(), (4,)], ids=["one", "four"])
@pytest.mark.parametrize("transposed", [(False, False), (True, False), (False, True), (True, True)])
@pytest.mark.parametrize("kind", BOUNDS)
def test_product(cupy, kind, transposed, batch):
    a, b, _ = operands(kind, batch=batch)
    wanted = a @ b
    stored = [np.swapaxes(m, -1, -2) if t else m for m, t in zip((a, b), transposed, strict=True)]
    on_device = [cupy.asarray(to_storage(np.ascontiguousarray(m), kind)) for m in stored]
    c = cupy.empty(wanted.shape, on_device[0].dtype)
    blas.gemm(*on_device, c, *transposed)
    assert_close(from_storage(c.get(), kind), wanted, BOUNDS[kind])


@pytest.mark.parametrize("kind", ["float16", "bfloat16"])
def test_sums_of_16_bits_are_float32(cupy, kind):
    a, b, start = operands(kind, K=300)
    c = cupy.asarray(start.astype(np.float32))
    blas.gemm(*(cupy.asarray(to_storage(m, kind)) for m in (a, b)), c, beta=1.0)
    assert_close(c.get().astype(float), a @ b + start.astype(np.float32), 1e-6)


def test_tf32_only_where_it_is_asked_for(cupy):
    a, b, _ = operands("float64", K=50)
    on_device = [cupy.asarray(m.astype(np.float32)) for m in (a, b)]
    exact, coarse = cupy.empty((5, 3), "float32"), cupy.empty((5, 3), "float32")
    blas.gemm(*on_device, exact)
    blas.gemm(*on_device, coarse, tf32=True)
    assert_close(exact.get().astype(float), a @ b, 1e-6)
    assert_close(coarse.get().astype(float), rounded(a, "tf32") @ rounded(b, "tf32"), 1e-6)
    assert np.abs(coarse.get() - exact.get()).max() > 1e-5


def test_stream_comes_before_workspace(standin, calls):
    a = standin.ones((2, 2), "float32")
    blas.gemm(a, a, standin.empty((2, 2), "float32"))
    assert calls[-3:] == [
        "cublasSetStream_v2",
        "cublasSetWorkspace_v2",
        "cublasGemmStridedBatchedEx",
    ]


def test_threads_take_turns(standin, calls, monkeypatch):
    own, entered = blas.prepare(), Event()
    call = own.call

    def slowly(name, *arguments):
        call(name, *arguments)
        if name == "cublasSetStream_v2" and not entered.is_set():
            entered.set()
            thread.join(0.2)  # time for the other to come between

    def multiply():
        entered.wait(10)
        a = standin.ones((2, 2), "float32")
        blas.gemm(a, a, standin.empty((2, 2), "float32"))

    monkeypatch.setattr(own, "call", slowly)
    thread = Thread(target=multiply)
    thread.start()
    a = standin.ones((2, 2), "float32")
    blas.gemm(a, a, standin.empty((2, 2), "float32"))
    thread.join()
    assert calls[-6:] == calls[-3:] * 2


def test_captured_product_reads_what_is_there_at_each_launch(cupy):
    a = cupy.asarray(np.eye(2, dtype=np.float32))
    b = cupy.asarray(np.float32([[1, 2], [3, 4]]))
    c = cupy.empty((2, 2), "float32")
    blas.prepare()
    stream = cupy.cuda.Stream(non_blocking=True)
    with stream:
        stream.begin_capture()
        blas.gemm(a, b, c)
        graph = stream.end_capture()
    assert np.isnan(c.get()).all()
    for _ in range(2):
        b *= 2
        graph.launch()
        np.testing.assert_array_equal(c.get(), b.get())


def test_devices_have_handles_of_their_own(standin):
    first = blas.prepare()
    assert blas.prepare() is first
    with standin.cuda.Device(1):
        second = blas.prepare()
    assert second is not first
    assert (first.workspace.device_id, second.workspace.device_id) == (0, 1)


@pytest.mark.parametrize(
    ("a", "b", "c", "message"),
    [
        ((2, 3), (2, 3), (2, 3), "doesn't give"),
        ((2, 3), (3, 2), (2, 3), "doesn't give"),
        ((2, 2, 3), (3, 3, 2), (2, 2, 2), "doesn't give"),
        ((2, 0), (0, 2), (2, 2), "over nothing"),
    ],
)
def test_shapes_that_do_not_fit(cupy, a, b, c, message):
    arrays = [cupy.empty(shape, "float32") for shape in (a, b, c)]
    with pytest.raises(ValueError, match=message):
        blas.gemm(*arrays)


def test_types_that_do_not_fit(cupy):
    def array(dtype):
        return cupy.empty((2, 2), dtype)

    with pytest.raises(TypeError, match="expected one of float32"):
        blas.gemm(array("int32"), array("int32"), array("int32"))
    with pytest.raises(TypeError, match="a is float32 and b float64"):
        blas.gemm(array("float32"), array("float64"), array("float64"))
    with pytest.raises(TypeError, match="can't be written as float16"):
        blas.gemm(array("float32"), array("float32"), array("float16"))
    with pytest.raises(ValueError, match="C-contiguous"):
        blas.gemm(array("float32").T, array("float32"), array("float32"))


def test_empty_product_is_no_call(standin, calls):
    blas.gemm(
        standin.empty((0, 3), "float32"),
        standin.empty((3, 2), "float32"),
        standin.empty((0, 2), "float32"),
    )
    assert calls == []


def test_failure_says_which_call(standin, monkeypatch):
    own = blas.prepare()
    monkeypatch.setattr(own, "handle", ctypes.c_void_p(1))
    a = standin.ones((2, 2), "float32")
    with pytest.raises(DeviceError, match="cublasGemmStridedBatchedEx failed with status 7"):
        blas.gemm(a, a, standin.empty((2, 2), "float32"))


def test_library_that_is_not_there(monkeypatch):
    monkeypatch.setattr(blas.importlib, "import_module", lambda name: SimpleNamespace(cublas=1))
    monkeypatch.setattr(blas, "candidates", lambda: ["/nowhere/libcublas.so.13"])
    with pytest.raises(DeviceError, match="no cuBLAS that can be used; /nowhere/libcublas"):
        blas.find()


def test_loaded_library_is_looked_at_first(monkeypatch):
    maps = (
        "7f00-7f01 r-xp 00000000 08:01 5 /opt/nvidia/lib/libcublasLt.so.13\n"
        "7f01-7f02 r-xp 00000000 08:01 6 /opt/nvidia/lib/libcublas.so.13\n" * 2
    )
    monkeypatch.setattr(blas.Path, "exists", lambda path: True)
    monkeypatch.setattr(blas.Path, "read_text", lambda path, encoding: maps)
    assert blas.candidates() == [
        "/opt/nvidia/lib/libcublas.so.13",
        "libcublas.so.13",
        "libcublas.so.12",
    ]
