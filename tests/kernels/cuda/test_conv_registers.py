"""The inner loops of convolutions keep what they work on in registers, says NVIDIA's compiler."""

from __future__ import annotations

import re

import pytest

from minicnn.kernels.cuda import module

from .nvrtc import compile_one
from .test_compile import compiler  # noqa: F401
from .test_conv_faults import conv_sources

ENTRY = re.compile(r"Compiling entry function '(\w+)'.*?(\d+) bytes spill stores", re.DOTALL)


@pytest.mark.parametrize("kind", module.KINDS)
def test_products_spill_nothing(compiler, kind):  # noqa: F811
    options = *module.options(kind), "-arch=sm_90", "--ptxas-options=-v"
    worked, log, _ = compile_one(compiler, conv_sources(), options)
    assert worked, log
    spilled = {name: int(count) for name, count in ENTRY.findall(log)}
    assert len(spilled) > 12 and not any(spilled.values()), spilled
