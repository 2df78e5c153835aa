from __future__ import annotations

import sys

import numpy as np
import pytest
from standin import installed

from minicnn import backend
from minicnn.backend import Device, DeviceError, array_module, device, to_numpy


@pytest.fixture
def cupy():
    with installed() as module:
        yield module


@pytest.fixture
def no_cupy(monkeypatch):
    """Make ``import cupy`` fail as if it weren't installed."""
    monkeypatch.setitem(sys.modules, "cupy", None)


@pytest.fixture
def broken_cupy(monkeypatch, tmp_path):
    """Install a CuPy whose import raises, as with a missing CUDA library."""

    def install(source):
        (tmp_path / "cupy").mkdir()
        (tmp_path / "cupy" / "__init__.py").write_text(source)
        for name in [n for n in sys.modules if n == "cupy" or n.startswith("cupy.")]:
            monkeypatch.delitem(sys.modules, name)
        monkeypatch.syspath_prepend(tmp_path)

    return install


def test_array_module_of_numpy_without_cupy(no_cupy):
    assert array_module(np.ones(2)) is np
    assert array_module([1, 2]) is np


def test_array_module_tells_the_libraries_apart(cupy):
    assert array_module(cupy.ones((2,))) is cupy
    assert array_module(np.ones(2)) is np


def test_to_numpy(cupy):
    host = np.arange(3.0)
    assert to_numpy(host) is host
    fetched = to_numpy(cupy.asarray(host))
    assert type(fetched) is np.ndarray
    np.testing.assert_array_equal(fetched, host)


def test_cpu_device():
    cpu = device("cpu")
    assert (cpu.kind, str(cpu), cpu.xp, cpu.note) == ("cpu", "cpu", np, "cpu, as asked")
    assert device(cpu) is cpu
    cpu.synchronize()


def test_cpu_asarray_copies_only_where_it_must(cupy):
    x, cpu = np.ones(3, "float32"), device("cpu")
    assert cpu.asarray(x) is x
    assert cpu.asarray(x, dtype="float64").dtype == np.float64
    assert type(cpu.asarray(cupy.ones((2,)))) is np.ndarray


def test_gpu_device(cupy):
    gpu = device("gpu")
    assert (gpu.kind, gpu.index, str(gpu), gpu.xp) == ("gpu", 0, "gpu:0", cupy)
    assert gpu.note == "gpu, as asked: Stand-in 0 (CuPy 14.0.stand-in)"
    x = gpu.asarray(np.ones(3), dtype="float32")
    assert isinstance(x, cupy.ndarray) and x.dtype == np.float32
    assert gpu.asarray(x) is x


def test_gpu_index(cupy):
    second = device("gpu:1")
    assert (second.index, str(second)) == (1, "gpu:1") and "Stand-in 1" in second.note
    assert second.asarray(np.ones(2)).device_id == 1


@pytest.mark.parametrize(("spec", "current"), [("gpu", 0), ("gpu:1", 1), ("auto", 0)])
def test_gpu_becomes_the_current_one(cupy, spec, current):
    cupy.cuda.Device(1 - current).use()
    chosen = device(spec)
    assert cupy.cuda.Device().id == chosen.index == current


def test_gpu_synchronize_waits(cupy):
    gpu = device("gpu")
    cupy.counts.reset()
    gpu.synchronize()
    assert cupy.counts.synchronizations == 1


def test_kernels_are_told_of_cupy(cupy, monkeypatch):
    told = []
    monkeypatch.setattr(backend, "after_cupy", [told.append])
    device("cpu")
    assert told == []
    device("gpu")
    assert told == [cupy]


def test_probe_runs_a_kernel(cupy, monkeypatch):
    sizes, arange = [], cupy.arange
    monkeypatch.setattr(
        cupy, "arange", lambda n, **o: sizes.append(n) or arange(n, **o), raising=False
    )
    device("gpu")
    assert sizes == [1000] and cupy.counts.synchronizations == 1


def test_auto_takes_a_working_gpu(cupy):
    chosen = device("auto")
    assert chosen.kind == "gpu" and chosen.note.startswith("gpu, because one works: Stand-in 0")


@pytest.mark.parametrize("spec", ["tpu", "gpu:", "gpu:x", "gpu:-1", "cuda", "", "cpu:0", 0, None])
def test_device_refuses_other_words(cupy, spec):
    with pytest.raises(ValueError, match=r"expected 'cpu', 'gpu', 'gpu:1' \(a number\) or 'auto'"):
        device(spec)


def failure(spec="gpu"):
    """The error of asking for a GPU; "auto" must give the CPU for the same reason."""
    with pytest.raises(DeviceError) as caught:
        device(spec)
    if spec == "gpu":
        chosen = device("auto")
        assert chosen.kind == "cpu"
        assert chosen.note == f"cpu, because no GPU can be used: {caught.value}"
    return caught.value


def test_gpu_without_cupy(no_cupy):
    error = failure()
    assert "CuPy isn't installed. pip install 'minicnn[cuda12]'" in str(error)
    assert isinstance(error.__cause__, ModuleNotFoundError)


@pytest.mark.parametrize(
    ("source", "kind", "text"),
    [
        ("raise ImportError('\\n====\\nlibcudart.so.12: not found\\n====')", ImportError, "libcud"),
        ("raise RuntimeError('two CuPy packages')", RuntimeError, "two CuPy packages"),
        ("import a_module_that_is_not_there", ModuleNotFoundError, "a_module_that_is_not_there"),
    ],
)
def test_gpu_with_a_broken_cupy(broken_cupy, source, kind, text):
    broken_cupy(source)
    error = failure()
    assert "can't be imported" in str(error) and text in str(error)
    assert "isn't installed" not in str(error)
    assert type(error.__cause__) is kind


def raiser(text):
    def fail(*args, **options):
        raise RuntimeError(text)

    return fail


def test_gpu_without_a_driver(cupy, monkeypatch):
    text = "cudaErrorInsufficientDriver: CUDA driver version is insufficient\nmore"
    monkeypatch.setattr(cupy.cuda.runtime, "getDeviceCount", raiser(text))
    error = failure()
    assert "finds no NVIDIA driver or GPU" in str(error) and "InsufficientDriver" in str(error)
    assert "nvidia-smi" in str(error) and "more" not in str(error)
    assert isinstance(error.__cause__, RuntimeError)


def test_gpu_whose_kernels_fail(cupy, monkeypatch):
    monkeypatch.setattr(cupy, "arange", raiser("libnvrtc.so.12 not found"), raising=False)
    error = failure()
    assert "can't run a kernel on gpu:0" in str(error) and "libnvrtc" in str(error)
    assert isinstance(error.__cause__, RuntimeError)


def test_gpu_that_computes_nonsense(cupy, monkeypatch):
    monkeypatch.setattr(cupy, "arange", lambda n, **o: cupy.zeros((n,)), raising=False)
    assert "wrong sum (0.0" in str(failure())


def test_gpu_with_a_wrong_index(cupy):
    assert "gpu:2 was asked for, but this machine has 2 GPU(s)" in str(failure("gpu:2"))


def test_no_gpu_at_all(cupy, monkeypatch):
    monkeypatch.setattr(cupy.cuda.runtime, "getDeviceCount", lambda: 0)
    assert "this machine has 0 GPU(s)" in str(failure())


def test_first_line_skips_rules_and_blanks():
    assert (
        backend.first_line(ValueError("\n =====\n  the cause  \nmore")) == "ValueError: the cause"
    )
    assert backend.first_line(ValueError()) == "ValueError"


def test_device_is_a_value():
    assert Device("gpu", 1) == Device("gpu", 1) != Device("gpu", 0)
