"""The inner loops of convolutions keep what they work on in registers, says NVIDIA's compiler."""

from __future__ import annotations

import re

import pytest

from minicnn.kernels.cuda import module

from .test_compile import compiler  # noqa: F401

ENTRY = re.compile(r"Compiling entry function '(\w+)'.*?(\d+) bytes spill stores", re.DOTALL)


@pytest.mark.parametrize("architecture", ["sm_80", "sm_90"])
@pytest.mark.parametrize("kind", module.KINDS)
def test_products_spill_nothing(compiler, kind, architecture):  # noqa: F811
    options = *module.options(kind), f"-arch={architecture}", "--ptxas-options=-v"
    worked, log, _ = compiler.compile(module.source(), options)
    assert worked, log
    spilled = {name: int(count) for name, count in ENTRY.findall(log)}
    products = {
        name: n for name, n in spilled.items() if "_windows_" in name or "_weights_" in name
    }
    assert len(products) >= 10
    assert not any(products.values()), products
