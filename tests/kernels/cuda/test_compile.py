"""NVIDIA's compiler takes all kernels, for every storage type and GPU; it needs no GPU for that."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from minicnn.kernels.cuda import module

from .nvrtc import Compiler

ARCHITECTURES = ("sm_75", "sm_80", "sm_90", "sm_100")  # Turing, Ampere, Hopper, Blackwell


@pytest.fixture(scope="module")
def compiler():
    nvidia = pytest.importorskip("nvidia.cu13", reason="needs pip install nvidia-cuda-nvrtc")
    path = Path(next(iter(nvidia.__path__)), "lib", "libnvrtc.so.13")
    if not path.exists():
        pytest.skip("needs pip install nvidia-cuda-nvrtc")
    return Compiler(path)


@pytest.mark.parametrize("architecture", ARCHITECTURES)
@pytest.mark.parametrize("kind", module.KINDS)
def test_all_kernels_compile(compiler, kind, architecture):
    options = (*module.options(kind), f"-arch={architecture}")
    worked, log, code = compiler.compile(module.source(), options)
    assert worked, log
    assert not re.search(r"warning (?!#177-D)", log), log  # what a kernel of another kind uses
    for name in module.parameters(kind):
        assert name.encode() in code


def test_compiler_says_what_is_wrong(compiler):
    worked, log, _ = compiler.compile('extern "C" __global__ void k() { int x = y; }', ())
    assert not worked and 'identifier "y" is undefined' in log
