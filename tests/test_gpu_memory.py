"""A GPU without memory: which layer, how much, what is left, and that a smaller batch works."""

from __future__ import annotations

import numpy as np
import pytest
from standin import installed

import minicnn as mc
from minicnn.backend import memory_left
from minicnn.layers.base import OutOfMemory

MORE = 40_000_000  # bytes that the pool may take beside what it has


def network():
    return mc.Sequential(
        mc.Normalize(), mc.Conv2D(8, 3, padding="same"), mc.BatchNorm(), mc.ReLU(), mc.Flatten(),
        mc.Dense(3),
    )  # fmt: skip


@pytest.fixture(params=["standin", pytest.param("cupy", marks=pytest.mark.gpu)])
def cupy(request):
    """CuPy, or the stand-in, with little memory."""
    if request.param == "standin":
        with installed() as module:
            yield from limited(module)
    elif reason := request.getfixturevalue("gpu_reason"):
        pytest.skip(reason)
    else:
        yield from limited(pytest.importorskip("cupy"))


def limited(module):
    pool = module.get_default_memory_pool()
    gpu = network().build((32, 32, 3), device="gpu")  # loads libraries, compiles
    mc.train_step(gpu, mc.SGD(), np.zeros((4, 32, 32, 3), "uint8"), np.zeros(4, int))
    del gpu
    pool.free_all_blocks()
    pool.set_limit(size=pool.total_bytes() + MORE)
    try:
        yield module
    finally:
        pool.set_limit(size=0)


def pictures(n):
    return np.zeros((n, 32, 32, 3), "uint8"), np.zeros(n, int)


USES = {
    "forward": lambda model, x, y: model.forward(x),
    "infer": lambda model, x, y: model.infer(x),
    "train_step": lambda model, x, y: mc.train_step(model, mc.SGD(), x, y),
    "predict": lambda model, x, y: mc.predict(model, x, len(x)),
}


@pytest.mark.parametrize("use", USES)
def test_out_of_memory_names_what_is_needed_and_left_and_frees_the_pool(cupy, use):
    """A smaller batch works at once, even while the error is being handled."""
    model, pool = network().build((32, 32, 3), device="gpu"), cupy.get_default_memory_pool()
    before = pool.used_bytes()
    x, y = map(model.device.asarray, pictures(2000))  # 6 MB, of which Normalize makes 25
    for _ in range(2):
        with pytest.raises(OutOfMemory) as caught:
            USES[use](model, x, y)
        said = str(caught.value)
        for text in (
            "Out of memory allocating", "gpu:0 has ", " GiB free of ", "CuPy keeps 0.0", "may take",
            "(2000, 32, 32, ", "smaller batch_size", "summary(batch_size)",
        ):  # fmt: skip
            assert text in said, said
        assert said.split()[0] in {layer.path for layer in model.walk()}
        held = 7_000_000 if use in ("train_step", "predict") else 32_000_000  # x, y; layer by layer
        assert pool.free_bytes() == 0 and pool.total_bytes() <= before + held
        USES[use](model, x[:20], y[:20])  # though the error, and where it came from, is still held


def test_out_of_memory_for_an_array_says_how_much_is_left(cupy):
    with pytest.raises(MemoryError, match=r"on gpu:0 for an array of \(80000000,\).* GiB free of"):
        mc.device("gpu").asarray(np.zeros(80_000_000, "uint8"))


def test_free_memory_gives_back_what_nobody_uses(cupy):
    gpu, pool = mc.device("gpu"), cupy.get_default_memory_pool()
    pool.free_all_blocks()
    before = pool.total_bytes()
    del_me = gpu.asarray(np.zeros(20_000_000, "uint8"))
    del del_me
    assert pool.total_bytes() >= before + 20_000_000
    gpu.free_memory()
    assert pool.total_bytes() <= before
    mc.device("cpu").free_memory()


def test_memory_left_doesnt_hide_the_error_that_it_is_about(cupy, monkeypatch):
    def fail():
        raise RuntimeError("cudaErrorIllegalAddress")

    monkeypatch.setattr(cupy.cuda.runtime, "memGetInfo", fail)
    assert "can't be found out (RuntimeError: cudaErrorIllegal" in memory_left(mc.device("gpu"))
    assert memory_left(mc.device("cpu")) == ""


def test_out_of_memory_for_the_optimizer_says_what_is_left(cupy, monkeypatch):
    """It belongs to no layer."""
    model, optimizer = network().build((32, 32, 3), device="gpu"), mc.Adam()
    x, y = map(model.device.asarray, pictures(4))

    def fail(params):
        raise MemoryError("Out of memory allocating 1,234 bytes")

    monkeypatch.setattr(optimizer, "prepare", fail)
    with pytest.raises(MemoryError) as caught:
        mc.train_step(model, optimizer, x, y)
    said = str(caught.value)
    assert "1,234 bytes" in said
    if isinstance(caught.value, OutOfMemory):  # a plan was at work
        assert said.startswith("the model (Sequential)") and " GiB free of " in said
