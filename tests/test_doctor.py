"""minicnn doctor: which of the many reasons it is that a GPU can't be used, and the cure."""

from __future__ import annotations

import sys
from types import SimpleNamespace

import numpy as np
import pytest
from standin import installed

from minicnn import cli, doctor
from minicnn.kernels.cuda import blas, module


@pytest.fixture
def cupy(monkeypatch):
    """The stand-in, as the wheel for CUDA 13 would be."""
    have(monkeypatch, "cupy-cuda13x")
    with installed() as stand_in:
        yield stand_in


def have(monkeypatch, *names):
    """Let these packages be installed, and no others."""
    found = [SimpleNamespace(metadata={"Name": name}, version="14.2.0") for name in names]
    monkeypatch.setattr(doctor.importlib.metadata, "distributions", lambda: found)


def raiser(error):
    def fail(*args, **options):
        raise error

    return fail


def reason(*texts):
    """Examine; all texts must be in what is said from the reason on."""
    report = doctor.examine()
    assert not report.works
    said = str(report)
    _, _, why = said.partition("GPU       can't be used: ")
    for text in texts:
        assert text in why, said
    assert "GPU       works" not in said and "\nauto " in said
    return why


def test_works_says_what_was_tried_and_how_long_it_took(cupy, capsys):
    assert cli.main(["doctor"]) == 0
    said = capsys.readouterr().out
    for text in (
        f"NumPy     {np.__version__}", "CuPy      cupy-cuda13x 14.2.0",
        "speaks CUDA up to 13.0; CuPy is made for CUDA 13", "compute capability 9.0",
        "of 16.0 GiB of memory free", "works: a kernel of CuPy (", "kernels, compiled (",
        "works: a product by cuBLAS (", "works: a captured graph (", "GPU       works: Stand-in 0",
        'device="auto" takes the gpu, because one works',
    ):  # fmt: skip
        assert text in said, said
    assert "can't" not in said and "cure" not in said


def test_no_cupy(monkeypatch):
    have(monkeypatch, "numpy", "cupyish")
    monkeypatch.setitem(sys.modules, "cupy", None)
    reason(
        'device="auto" takes the cpu',
        "CuPy isn't installed",
        "pip install 'minicnn[cuda12]'",
        "original error",
    )
    assert "CuPy      none found" in str(doctor.examine())


def test_two_wheels(cupy, monkeypatch):
    have(monkeypatch, "cupy-cuda13x", "cupy-cuda12x")
    reason("2 CuPy packages", "cure: pip uninstall cupy-cuda12x cupy-cuda13x", "only one")


@pytest.mark.parametrize(
    ("wheel", "speaks", "texts"),
    [
        ("cupy-cuda13x", 12080, ["up to 12.8", "CUDA 13", "minicnn[cuda12]", "newer driver"]),
        ("cupy-cuda12x", 11040, ["up to 11.4", "CUDA 12", "cure: Install a newer driver: CuPy"]),
        ("cupy", 12080, ["up to 12.8", "made for CUDA 13"]),  # built from source, or conda's
    ],
)
def test_driver_older_than_cupys_cuda(cupy, monkeypatch, wheel, speaks, texts):
    have(monkeypatch, wheel)
    monkeypatch.setattr(cupy.cuda.runtime, "driverGetVersion", lambda: speaks)
    monkeypatch.setattr(cupy.cuda.runtime, "getDeviceCount", raiser(RuntimeError("Insufficient")))
    why = reason(*texts)
    assert ("cuda11" in why) is False


def test_driver_newer_than_cupys_cuda_is_fine(cupy, monkeypatch):
    have(monkeypatch, "cupy-cuda12x")
    assert doctor.examine().works


def no_driver(cupy, monkeypatch):
    text = "cudaErrorInsufficientDriver: CUDA driver version is insufficient"
    monkeypatch.setattr(cupy.cuda.runtime, "driverGetVersion", lambda: 0)
    monkeypatch.setattr(cupy.cuda.runtime, "getDeviceCount", raiser(RuntimeError(text)))


def test_no_driver(cupy, monkeypatch):
    no_driver(cupy, monkeypatch)
    reason("there is no NVIDIA driver", "nvidia-smi", "--gpus all")
    monkeypatch.setattr(cupy.cuda.runtime, "driverGetVersion", raiser(RuntimeError("no libcuda")))
    reason("there is no NVIDIA driver")


@pytest.mark.parametrize("hidden", [None, "", "7"])
@pytest.mark.parametrize("count", [lambda: 0, raiser(RuntimeError("cudaErrorNoDevice: none"))])
def test_driver_without_a_gpu(cupy, monkeypatch, hidden, count):
    monkeypatch.setattr(cupy.cuda.runtime, "getDeviceCount", count)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    if hidden is None:
        reason("GPU", "nvidia-smi must list one")
    else:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", hidden)
        reason(f"CUDA_VISIBLE_DEVICES is {hidden!r}", "cure: Unset CUDA_VISIBLE_DEVICES")


@pytest.mark.parametrize(
    ("wheel", "capability", "texts"),
    [
        ("cupy-cuda13x", (7, 0), ["capability 7.0", "7.5 and newer", "minicnn[cuda12]"]),
        ("cupy-cuda12x", (3, 5), ["capability 3.5", "5.0 and newer", "take the CPU"]),
    ],
)
def test_gpu_too_old(cupy, monkeypatch, wheel, capability, texts):
    have(monkeypatch, wheel)
    about = {"name": b"Old", "major": capability[0], "minor": capability[1]}
    monkeypatch.setattr(cupy.cuda.runtime, "getDeviceProperties", lambda index: about)
    monkeypatch.setattr(cupy, "arange", raiser(RuntimeError("no kernel image")), raising=False)
    reason("Old has compute", "too old", *texts)


NVRTC = 'Failure finding "libnvrtc.so.13 or libnvrtc.so.12": No such file: libnvrtc.so.13'
CUBLAS = "libcublas.so.13: cannot open shared object file: No such file or directory"
WINDOWS = "Could not find module 'cublas64_13.dll'"
CURE = "cure: pip install 'minicnn[cuda13]'   brings it, as CuPy's extra [ctk] does"


def test_nvrtc_is_missing(cupy, monkeypatch):
    monkeypatch.setattr(cupy, "arange", raiser(RuntimeError(NVRTC)), raising=False)
    reason("the CUDA library libnvrtc.so.13 is missing", CURE, f"RuntimeError: {NVRTC}")


@pytest.mark.parametrize(("text", "name"), [(CUBLAS, "libcublas.so.13"), (WINDOWS, "cublas64_13")])
def test_cublas_is_missing(cupy, monkeypatch, text, name):
    monkeypatch.setattr(blas, "gemm", raiser(ImportError(text)))
    reason(f"the CUDA library {name}", "is missing", CURE, "or install the CUDA Toolkit 13")


@pytest.mark.parametrize(
    ("text", "texts"),
    [
        (
            "libcudart.so.12: cannot open shared object file",
            ["libcudart.so.12 is missing", "cuda12"],
        ),
        ("libcuda.so.1: cannot open shared object file", ["part of NVIDIA's driver", "--gpus all"]),
        ("numpy is too old", ["can't be imported", "numpy is too old", "pip install 'minicnn"]),
    ],
)
def test_import_fails(monkeypatch, tmp_path, text, texts):
    have(monkeypatch, "cupy-cuda12x")
    (tmp_path / "cupy").mkdir()
    (tmp_path / "cupy" / "__init__.py").write_text(f"raise ImportError({text!r})")
    for name in [n for n in sys.modules if n == "cupy" or n.startswith("cupy.")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.syspath_prepend(tmp_path)
    reason(*texts, f"original error: ImportError: {text}")


def test_own_kernels_dont_compile(cupy, monkeypatch):
    monkeypatch.setattr(module, "kernel", raiser(RuntimeError("conv.cu(3): error: nonsense")))
    reason("minicnn's kernels, compiled fails (RuntimeError: conv.cu(3): error: nonsense)")


def test_cublas_gives_a_wrong_product(cupy, monkeypatch):
    monkeypatch.setattr(blas, "gemm", lambda a, b, c: c.fill(1))
    reason("a product by cuBLAS fails (ArithmeticError: it is wrong)")


def test_nothing_can_be_captured(cupy, monkeypatch):
    monkeypatch.setattr(cupy.cuda.Stream, "begin_capture", raiser(RuntimeError("not permitted")))
    monkeypatch.setattr(cupy.cuda.Stream, "end_capture", raiser(RuntimeError("isn't capturing")))
    reason("a captured graph fails (RuntimeError: not permitted)")


@pytest.mark.gpu
def test_doctor_on_this_gpu(gpu_reason):
    if gpu_reason:
        pytest.skip(gpu_reason)
    report = doctor.examine()
    assert report.works, str(report)
