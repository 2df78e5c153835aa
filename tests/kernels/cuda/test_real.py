"""What all kernels stand on (``real.cuh``): 16 bits, sums over threads, random numbers."""

from __future__ import annotations

from pathlib import Path

import emulation
import numpy as np
import pytest

from minicnn.kernels.cuda import module
from minicnn.kernels.cuda.module import KINDS

from .test_elementwise import floats, rounded

KERNELS = r"""
extern "C" __global__ void sums(const acc* x, acc* of_block, acc* of_warp, acc* most) {
    int i = blockIdx.x * blockDim.x + threadIdx.x;
    acc first = block_sum(x[i]), second = block_sum(x[i] * 2);
    acc warp = warp_sum(x[i]), top = block_max(x[i]);
    of_block[i] = first + second;
    of_warp[i] = warp;
    most[i] = top - warp_max(x[i]);
}
extern "C" __global__ void packs(const real* x, real* y) {
    Pack pack = load_pack(x + threadIdx.x * Pack::size);
    for (int k = 0; k < Pack::size; k++) pack.of[k] = narrow(widen(pack.of[k]) * 2);
    store_pack(y + threadIdx.x * Pack::size, pack);
}
extern "C" __global__ void draw(const uint32* counter, const uint32* key, uint32* y, float* z) {
    uint4 drawn = philox(make_uint4(counter[0], counter[1], counter[2], counter[3]),
                         make_uint2(key[0], key[1]));
    y[0] = drawn.x, y[1] = drawn.y, y[2] = drawn.z, y[3] = drawn.w;
    for (int i = 0; i < 4; i++) z[i] = uniform(y[i]);
}
"""


@pytest.fixture
def kernel(cupy):
    """A function that gets a kernel of a kind."""
    code = Path(module.__file__).with_name("real.cuh").read_text() + KERNELS

    def get(kind, name):
        return cupy.RawModule(code=code, options=module.options(kind)).get_function(name)

    return get


@pytest.mark.parametrize("block", [32, 96, 256, 1024])
@pytest.mark.parametrize("kind", ["float32", "float64"])
def test_sums_and_maxima_over_threads(cupy, kernel, rng, order, kind, block):
    x = rng.integers(-100, 101, (3, block)).astype(kind)
    results = [cupy.empty(x.shape, dtype=kind) for _ in range(3)]
    kernel(kind, "sums")((3,), (block,), (cupy.asarray(x), *results))
    of_block, of_warp, most = (a.get() for a in results)
    warps = x.reshape(3, -1, 32)
    np.testing.assert_array_equal(of_block, 3 * x.sum(1, keepdims=True) + 0 * x)
    np.testing.assert_array_equal(
        of_warp.reshape(warps.shape), warps.sum(2, keepdims=True) + 0 * warps
    )
    top = x.max(1)[:, None, None] - warps.max(2, keepdims=True)
    np.testing.assert_array_equal(most.reshape(warps.shape), top + 0 * warps)


FAULTS = {
    "no barrier after the call before": ("    __syncthreads();  // in a second call", "    //"),
    "no barrier before reading": ("warps[warp] = x;\n    __syncthreads();", "warps[warp] = x;"),
    "warps that aren't there": (
        "lane < count ? warps[lane] : Op::nothing(warps[0])",
        "warps[lane]",
    ),
    "half a warp": ("int distance = 16", "int distance = 8"),
    "lanes left out": ("__shfl_xor_sync(0xffffffffu", "__shfl_xor_sync(0xffffu"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_planted_fault_is_seen(standin, rng, monkeypatch, fault):
    """By wrong numbers or by an error, if threads run from the first to the last or back."""
    right, wrong = FAULTS[fault]
    code = Path(module.__file__).with_name("real.cuh").read_text() + KERNELS
    assert code.count(right) == 1
    function = standin.RawModule(
        code=code.replace(right, wrong), options=module.options("float64")
    ).get_function("sums")
    x, seen = rng.standard_normal((2, 96)), 0
    for backwards in (False, True):
        monkeypatch.setattr(emulation, "backwards", backwards)
        results = [standin.empty(x.shape) for _ in range(3)]
        try:
            function((2,), (96,), (standin.asarray(x), *results))
        except emulation.KernelError:
            seen += 1
            continue
        total = results[0].get()
        seen += not np.allclose(total, 3 * x.sum(1, keepdims=True) + 0 * total, atol=1e-9)
    assert seen


@pytest.mark.parametrize("kind", KINDS)
def test_packs_of_16_bytes(cupy, kernel, rng, kind):
    dtype = KINDS[kind][1]
    x = rounded(kind, rng.standard_normal(16 // dtype.itemsize * 32))
    y = cupy.empty(x.shape, dtype=dtype)
    kernel(kind, "packs")((1,), (32,), (cupy.asarray(x), y))
    np.testing.assert_array_equal(floats(kind, y.get()), 2 * floats(kind, x))


@pytest.mark.parametrize(
    ("counter", "key", "drawn"),
    [  # the vectors that come with the authors' Random123
        ("0 0 0 0", "0 0", "6627e8d5 e169c58d bc57ac4c 9b00dbd8"),
        (" ".join(["ffffffff"] * 4), "ffffffff ffffffff", "408f276d 41c83b0e a20bc7c6 6d5451fd"),
        (
            "243f6a88 85a308d3 13198a2e 03707344",
            "a4093822 299f31d0",
            "d16cfe09 94fdcceb 5001e420 24126ea1",
        ),
    ],
)
def test_philox_draws_the_known_numbers(cupy, kernel, counter, key, drawn):
    given = [
        cupy.asarray(np.array([int(word, 16) for word in words.split()], "uint32"))
        for words in (counter, key)
    ]
    y, z = cupy.empty((4,), dtype="uint32"), cupy.empty((4,), dtype="float32")
    kernel("float32", "draw")((1,), (1,), (*given, y, z))
    assert [f"{word:08x}" for word in y.get()] == drawn.split()
    np.testing.assert_array_equal(z.get(), (y.get() >> 8) / 2.0**24)
