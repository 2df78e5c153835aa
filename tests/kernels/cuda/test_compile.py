"""NVIDIA's compiler takes all kernels, for every storage type and GPU; it needs no GPU for that."""

from __future__ import annotations

import multiprocessing
import re
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import pytest

from minicnn.kernels.cuda import module

from .nvrtc import compile_one

ARCHITECTURES = ("sm_75", "sm_80", "sm_90", "sm_100")  # Turing, Ampere, Hopper, Blackwell


@pytest.fixture(scope="module")
def compiler():
    """Where the compiler is."""
    nvidia = pytest.importorskip("nvidia.cu13", reason="needs pip install nvidia-cuda-nvrtc")
    path = Path(next(iter(nvidia.__path__)), "lib", "libnvrtc.so.13")
    if not path.exists():
        pytest.skip("needs pip install nvidia-cuda-nvrtc")
    return path


@pytest.fixture(scope="module")
def compiled(request, compiler):
    """What becomes of the sources, by storage type and GPU; for the tests that are run, at once."""
    wanted = {
        (item.callspec.params["kind"], item.callspec.params["architecture"])
        for item in request.session.items
        if getattr(item, "originalname", "") == "test_all_kernels_compile"
    }
    with ProcessPoolExecutor(mp_context=multiprocessing.get_context("spawn")) as pool:
        yield {
            (kind, gpu): pool.submit(
                compile_one, compiler, module.source(), (*module.options(kind), f"-arch={gpu}")
            )
            for kind, gpu in sorted(wanted)
        }


@pytest.mark.parametrize("architecture", ARCHITECTURES)
@pytest.mark.parametrize("kind", module.KINDS)
def test_all_kernels_compile(compiled, kind, architecture):
    worked, log, code = compiled[kind, architecture].result()
    assert worked, log
    assert not re.search(r"warning (?!#177-D)", log), log  # what a kernel of another kind uses
    for name in module.parameters(kind):
        assert name.encode() in code


def test_compiler_says_what_is_wrong(compiler):
    worked, log, _ = compile_one(compiler, 'extern "C" __global__ void k() { int x = y; }', ())
    assert not worked and 'identifier "y" is undefined' in log
