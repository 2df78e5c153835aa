"""The emulation itself: barriers, warps, tensor cores, and the faults that it has to see."""

from __future__ import annotations

import numpy as np
import pytest

import emulation
from emulation import KernelError, Library

pytestmark = pytest.mark.skipif(emulation.compiler() is None, reason="needs g++")

SOURCE = r"""
extern "C" __global__ void reversed_in_block(const float* x, float* y) {
    __shared__ float all[96];
    all[threadIdx.x] = x[blockIdx.x * blockDim.x + threadIdx.x];
    __syncthreads();
    y[blockIdx.x * blockDim.x + threadIdx.x] = all[blockDim.x - 1 - threadIdx.x];
}
extern "C" __global__ void reversed_without_barrier(const float* x, float* y) {
    __shared__ float all[96];
    all[threadIdx.x] = x[threadIdx.x];
    y[threadIdx.x] = all[blockDim.x - 1 - threadIdx.x];
}
template <class T> __device__ T sum(T v) {
    for (int d = 16; d; d /= 2) v += __shfl_xor_sync(0xffffffffu, v, d);
    return v;
}
extern "C" __global__ void warp_sums(const double* x, double* y) {
    int i = threadIdx.x + threadIdx.y * blockDim.x;
    double s = sum(x[i]);
    if (i % 32 == 0) y[i / 32] = s;
}
extern "C" __global__ void shuffles(int* y) {
    int lane = threadIdx.x;
    y[lane] = __shfl_sync(~0u, lane, 3, 8);
    y[32 + lane] = __shfl_up_sync(~0u, lane, 2);
    y[64 + lane] = __shfl_down_sync(~0u, lane, 2, 16);
    y[96 + lane] = __ballot_sync(~0u, lane < 5);
    if (lane < 16) y[128 + lane] = __shfl_sync(0xffff, lane, 15);
}
extern "C" __global__ void left_early(float* y) {
    if (threadIdx.x == 7) return;
    __syncthreads();
    y[threadIdx.x] = 1;
}
extern "C" __global__ void two_barriers(float* y) {
    if (threadIdx.x % 2) __syncthreads();
    else
        __syncthreads();
    y[threadIdx.x] = 1;
}
extern "C" __global__ void half_a_warp(float* y) {
    if (threadIdx.x < 16) y[threadIdx.x] = __shfl_sync(0xffffffffu, 1.0f, 0);
}
extern "C" __global__ void mixed_warp(float* y) {
    if (threadIdx.x < 16) y[threadIdx.x] = __shfl_sync(0xffffffffu, 1.0f, 0);
    else __syncwarp();
}
extern "C" __global__ void index_in_shared(float* y, int i) {
    __shared__ float all[4][8];
    all[threadIdx.x][i] = 1;
    y[threadIdx.x] = all[threadIdx.x][i];
}
extern "C" __global__ void dynamic(float* y, int n, int written) {
    extern __shared__ float buffer[];
    for (int i = threadIdx.x; i < written; i += blockDim.x) buffer[i] = i;
    __syncthreads();
    for (int i = threadIdx.x; i < n; i += blockDim.x) y[i] = buffer[n - 1 - i];
}
extern "C" __global__ void unaligned(const float* x, float* y) {
    *(float4*)y = *(const float4*)(x + 1);
}
extern "C" __global__ void unset(float* y) {
    float value;
    y[threadIdx.x] = *(volatile float*)&value;
}
extern "C" __global__ void last_thread(int* y) { *y = blockIdx.x * blockDim.x + threadIdx.x; }
extern "C" __global__ void grids(int* y) {
    if (threadIdx.x + threadIdx.y + threadIdx.z == 0)
        y[(blockIdx.z * gridDim.y + blockIdx.y) * gridDim.x + blockIdx.x] =
            blockIdx.x + 10 * blockIdx.y + 100 * blockIdx.z + 1000 * blockDim.y;
}
extern "C" __global__ void deferred(const float* x, float* y, int wait) {
    __shared__ __align__(16) float near[4 * 32];
    emulated_cp_async(near + 4 * threadIdx.x, x + 4 * threadIdx.x, 16, threadIdx.x == 31 ? 4 : 16);
    emulated_cp_async_commit();
    emulated_cp_async_commit();
    if (wait >= 0) emulated_cp_async_wait(wait);
    __syncthreads();
    for (int k = 0; k < 4; k++) y[4 * threadIdx.x + k] = near[4 * threadIdx.x + k];
}
extern "C" __global__ void product_16(const uint16_t* a, const uint16_t* b, float* c, int bf16) {
    int lane = threadIdx.x, g = lane / 4, t = lane % 4;
    float d[4] = {1, 1, 1, 1};
    unsigned ra[4], rb[2];
    for (int i = 0; i < 4; i++)
        ra[i] = *(const unsigned*)(a + (g + i % 2 * 8) * 16 + t * 2 + i / 2 * 8);
    for (int i = 0; i < 2; i++) {
        const uint16_t* p = b + (t * 2 + i * 8) * 8 + g;
        rb[i] = p[0] | (unsigned)p[8] << 16;
    }
    if (bf16) emulated_mma_bf16(d, ra, rb);
    else emulated_mma_f16(d, ra, rb);
    for (int i = 0; i < 4; i++) c[(g + i / 2 * 8) * 8 + t * 2 + i % 2] = d[i];
}
extern "C" __global__ void product_by_ldmatrix(const uint16_t* a, const uint16_t* b, float* c) {
    int lane = threadIdx.x;
    __shared__ __align__(16) uint16_t sa[16 * 16], sb[16 * 8];
    for (int i = lane; i < 256; i += 32) sa[i] = a[i];
    for (int i = lane; i < 128; i += 32) sb[i] = b[i];
    __syncthreads();
    float d[4] = {1, 1, 1, 1};
    unsigned ra[4], rb[2];
    emulated_ldmatrix(ra, 4, sa + (lane % 16) * 16 + lane / 16 * 8, false);
    emulated_ldmatrix(rb, 2, sb + lane % 16 * 8, true);
    emulated_mma_f16(d, ra, rb);
    for (int i = 0; i < 4; i++) c[(lane / 4 + i / 2 * 8) * 8 + lane % 4 * 2 + i % 2] = d[i];
}
extern "C" __global__ void product_tf32(const float* a, const float* b, float* c) {
    int lane = threadIdx.x, g = lane / 4, t = lane % 4;
    float d[4] = {};
    unsigned ra[4], rb[2];
    for (int i = 0; i < 4; i++) ra[i] = __float_as_uint(a[(g + i % 2 * 8) * 8 + t + i / 2 * 4]);
    for (int i = 0; i < 2; i++) rb[i] = __float_as_uint(b[(t + i * 4) * 8 + g]);
    emulated_mma_tf32(d, ra, rb);
    for (int i = 0; i < 4; i++) c[(g + i / 2 * 8) * 8 + t * 2 + i % 2] = d[i];
}
extern "C" __global__ void halves(const float* x, uint16_t* y, float* z, int n) {
    for (int i = threadIdx.x; i < n; i += blockDim.x) {
        y[i] = emulated_float_to_half(x[i]);
        z[i] = emulated_half_to_float(y[i]);
    }
}
"""


@pytest.fixture(scope="module", params=[(), ("-DBY_UCONTEXT",)], ids=["", "ucontext"])
def library(request):
    """The kernels, with threads that change by our own switch or by the C library's."""
    return Library(SOURCE, request.param)


@pytest.fixture(params=[False, True], ids=["forwards", "backwards"])
def order(request, monkeypatch):
    monkeypatch.setattr(emulation, "backwards", request.param)


def run(library, name, grid, block, *arguments, shared=0):
    """Launch; arrays are given by their addresses."""
    values = [
        np.array(a.ctypes.data, np.intp) if isinstance(a, np.ndarray) else np.array(a, np.int32)
        for a in arguments
    ]
    grid, block = ((*((n,) if isinstance(n, int) else n), 1, 1)[:3] for n in (grid, block))
    library.launch(name, grid, block, [v.ctypes.data for v in values], shared)


def test_signature_is_what_the_kernel_declares(library):
    assert library.signature("reversed_in_block") == ("p4", "p4")
    assert library.signature("index_in_shared") == ("p4", "i4")
    assert library.signature("product_16") == ("p2", "p2", "p4", "i4")


def test_barrier_separates_writing_from_reading(library, order):
    x, y = np.arange(5 * 96, dtype="float32"), np.zeros(5 * 96, "float32")
    run(library, "reversed_in_block", 5, 96, x, y)
    np.testing.assert_array_equal(y.reshape(5, 96), x.reshape(5, 96)[:, ::-1])


def test_missing_barrier_shows(library, order):
    x, y = np.arange(96, dtype="float32"), np.zeros(96, "float32")
    run(library, "reversed_without_barrier", 1, 96, x, y)
    assert np.isnan(y).sum() == 48


def test_warps_of_a_block_of_two_dimensions(library, order):
    x, y = np.arange(128.0), np.zeros(4)
    run(library, "warp_sums", 1, (16, 8), x, y)
    np.testing.assert_array_equal(y, x.reshape(4, 32).sum(1))


def test_shuffles(library, order):
    y, lane = np.zeros(144, "int32"), np.arange(32)
    run(library, "shuffles", 1, 32, y)
    np.testing.assert_array_equal(y[:32], lane // 8 * 8 + 3)
    np.testing.assert_array_equal(y[32:64], np.where(lane < 2, lane, lane - 2))
    np.testing.assert_array_equal(y[64:96], np.where(lane % 16 < 14, lane + 2, lane))
    assert (y[96:128] == 0b11111).all() and (y[128:] == 15).all()


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("left_early", "63 threads wait in __syncthreads, but 1 have left"),
        ("two_barriers", "threads wait in __syncthreads at .* and at "),
        ("half_a_warp", "__shfl_sync waits for lanes that never come"),
        ("mixed_warp", "lanes of one warp are in "),
    ],
)
def test_divergence_is_an_error(library, order, name, message):
    with pytest.raises(KernelError, match=f"{name}: .*{message}"):
        run(library, name, 1, 64, np.zeros(64, "float32"))
    test_barrier_separates_writing_from_reading(library, None)  # and does no harm afterwards


def test_block_of_half_a_warp_has_no_full_mask(library):
    with pytest.raises(KernelError, match="wants lane 31, but the block has only 16 threads"):
        run(library, "warp_sums", 1, 16, np.zeros(32), np.zeros(1))


def test_index_beyond_shared_memory_is_an_error(library):
    y = np.zeros(4, "float32")
    run(library, "index_in_shared", 1, 4, y, 7)
    assert (y == 1).all()
    for index in (8, -1):
        with pytest.raises(KernelError, match=f"index {index} is beyond the array .*thread 0,0,0"):
            run(library, "index_in_shared", 1, 4, y, index)


def test_dynamic_shared_memory(library, order):
    y = np.zeros(100, "float32")
    run(library, "dynamic", 1, 32, y, 100, 100, shared=400)
    np.testing.assert_array_equal(y, np.arange(100)[::-1])
    run(library, "dynamic", 1, 32, y, 100, 90, shared=400)
    assert np.isnan(y[:10]).all() and not np.isnan(y[10:]).any()
    with pytest.raises(KernelError, match="past its 396 bytes of dynamic shared memory"):
        run(library, "dynamic", 1, 32, y, 100, 100, shared=396)


def test_address_that_is_not_aligned_is_an_error(library):
    with pytest.raises(KernelError, match="isn't aligned for its type"):
        run(library, "unaligned", 1, 1, np.zeros(8, "float32"), np.zeros(4, "float32"))


def test_variable_that_was_not_set_shows(library):
    y = np.zeros(4, "float32")
    run(library, "unset", 1, 4, y)
    assert (abs(y) > 1e30).all()


def test_threads_and_blocks_run_in_both_orders(library, monkeypatch):
    y = np.zeros(1, "int32")
    run(library, "last_thread", 4, 8, y)
    assert y == 31
    monkeypatch.setattr(emulation, "backwards", True)
    run(library, "last_thread", 4, 8, y)
    assert y == 0


def test_grids_of_three_dimensions(library, order):
    y = np.zeros((2, 3, 4), "int32")
    run(library, "grids", (4, 3, 2), (2, 5, 1), y)
    z, i, x = np.indices(y.shape)
    np.testing.assert_array_equal(y, x + 10 * i + 100 * z + 5000)


def test_asynchronous_copy_is_there_when_it_was_waited_for(library, order):
    x, y = np.arange(128, dtype="float32"), np.zeros(128, "float32")
    for wait in (1, 0):
        run(library, "deferred", 1, 32, x, y, wait)
        np.testing.assert_array_equal(y[:125], x[:125])
        assert (y[125:] == 0).all()
    for wait in (2, -1):
        run(library, "deferred", 1, 32, x, y, wait)
        assert np.isnan(y).all()


def bf16(x):
    return (x.astype("float32").view("uint32") >> 16).astype("uint16")


def test_product_of_16_bits(library, rng, order):
    a, b = rng.integers(-4, 5, (16, 16)) / 2, rng.integers(-4, 5, (16, 8)) / 4
    c = np.zeros((16, 8), "float32")
    halves = a.astype("float16"), b.astype("float16")
    for arguments in ((*halves, c, 0), (bf16(a), bf16(b), c, 1)):
        run(library, "product_16", 1, 32, *arguments)
        np.testing.assert_array_equal(c, a @ b + 1)
    run(library, "product_by_ldmatrix", 1, 32, *halves, c)
    np.testing.assert_array_equal(c, a @ b + 1)


def test_product_of_tf32(library, rng):
    a, b = (rng.standard_normal(shape).astype("float32") for shape in ((16, 8), (8, 8)))
    c = np.zeros((16, 8), "float32")
    run(library, "product_tf32", 1, 32, a, b, c)
    cut = [(x.view("uint32") & np.uint32(0xFFFFE000)).view("float32") for x in (a, b)]
    np.testing.assert_allclose(c, np.float64(cut[0]) @ np.float64(cut[1]), rtol=1e-6, atol=1e-6)
    assert abs(c - a @ b).max() > 1e-4


def test_halves_are_those_of_numpy(library, rng):
    bits = rng.integers(0, 2**32, 100_000, dtype="uint32")
    near = rng.integers(0, 2**16, 100_000).astype("uint16").view("float16").astype("float32")
    moved = near.view("uint32") + rng.integers(-0x1001, 0x1002, near.size).astype("uint32")
    near = moved.view("float32")
    special = np.float32([0, -0.0, 65504, 65519.99, 65520, 1e9, np.inf, -np.inf, 2**-24, 2**-25])
    x = np.concatenate([bits.view("float32"), near, special])
    y, z = np.zeros(x.size, "uint16"), np.zeros(x.size, "float32")
    run(library, "halves", 1, 32, x, y, z, x.size)
    with np.errstate(all="ignore"):
        wanted = x.astype("float16")
    np.testing.assert_array_equal(y.view("float16"), wanted)
    np.testing.assert_array_equal(z, wanted.astype("float32"))
    np.testing.assert_array_equal(np.signbit(z[~np.isnan(z)]), np.signbit(x[~np.isnan(z)]))


def test_complaint_of_the_compiler_is_shown():
    with pytest.raises(emulation.CompileError, match="no_such"):
        Library('extern "C" __global__ void k(int* y) { *y = no_such(); }').signature("k")


def test_files_are_compiled_when_they_are_needed():
    parts = ["typedef float real;"] + [
        f'#line 1 "{name}.cu"\nextern "C" __global__ void {name}(real* y) {{ {body} }}'
        for name, body in (("good", "*y = 3;"), ("bad", "*y = nothing;"), ("index", "int x[2];"))
    ]
    library, y = Library("\n".join(parts)), np.zeros(1, "float32")
    assert library.names == ["good", "bad", "index"]
    run(library, "good", 1, 1, y)
    assert y == 3
    with pytest.raises(emulation.CompileError, match=r"bad\.cu:1"):
        run(library, "bad", 1, 1, y)
