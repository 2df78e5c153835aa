// CUDA's words for a C++ compiler: kernels run on the CPU, the threads of a block in turns.
//
// A thread that waits (__syncthreads, a shuffle) stands aside with its own stack, and the next one
// runs; see fibers.cpp.  All is done in one order, so a fault shows in the same way each time:
//
// - shared memory is full of NaN before a block begins: what wasn't written yet shows,
// - the threads can run from the last to the first, too: what hangs on their order shows,
// - an index beyond an array, an address that isn't aligned, and a barrier that not all threads of
//   a block or a warp reach, are errors that name the line.
#pragma once
#include "emulation.h"
#include <math.h>

struct uint2 { unsigned x, y; };
struct int2 { int x, y; };
struct float2 { float x, y; };
struct alignas(16) uint4 { unsigned x, y, z, w; };
struct alignas(16) int4 { int x, y, z, w; };
struct alignas(16) float4 { float x, y, z, w; };
struct alignas(16) double2 { double x, y; };
static inline uint2 make_uint2(unsigned x, unsigned y) { return {x, y}; }
static inline uint4 make_uint4(unsigned x, unsigned y, unsigned z, unsigned w) { return {x, y, z, w}; }
static inline int2 make_int2(int x, int y) { return {x, y}; }
static inline int4 make_int4(int x, int y, int z, int w) { return {x, y, z, w}; }
static inline float2 make_float2(float x, float y) { return {x, y}; }
static inline float4 make_float4(float x, float y, float z, float w) { return {x, y, z, w}; }
static inline double2 make_double2(double x, double y) { return {x, y}; }

#define EMULATED
#define __global__
#define __device__
#define __host__
#define __constant__ static
#define __shared__ static
#define __launch_bounds__(...)
#define __forceinline__ inline
#define __align__(n) __attribute__((aligned(n)))

using emulation::blockDim;
using emulation::blockIdx;
using emulation::gridDim;
using emulation::threadIdx;
static const int warpSize = 32;

// Where a call stands, for errors' texts.
#define HERE const char* file = __builtin_FILE(), int line = __builtin_LINE()

static inline void __syncthreads(HERE) { emulation::wait_for_block(file, line); }
static inline void __threadfence() {}
static inline void __threadfence_block() {}
static inline void __syncwarp(unsigned mask = ~0u, HERE) {
    emulation::collective(mask, nullptr, [](void**, unsigned) {}, "__syncwarp", file, line);
}

namespace emulation {
// Every lane of a warp brings a value and takes that of another lane.
template <class T>
T shuffle(unsigned mask, T value, int source, const char* name, const char* file, int line) {
    struct Hand { T value; int source; } hand{value, source};
    collective(mask, &hand, [](void** lanes, unsigned mask) {
        T taken[32];
        for (int i = 0; i < 32; i++) if (mask >> i & 1) {
            int source = ((Hand*)lanes[i])->source;
            if (!(mask >> source & 1)) fail("lane %d reads lane %d, which isn't in the mask", i, source);
            taken[i] = ((Hand*)lanes[source])->value;
        }
        for (int i = 0; i < 32; i++) if (mask >> i & 1) ((Hand*)lanes[i])->value = taken[i];
    }, name, file, line);
    return hand.value;
}
}  // namespace emulation

template <class T> T __shfl_sync(unsigned mask, T v, int source, int width = 32, HERE) {
    int lane = emulation::lane();
    int from = (lane & -width) | (source & (width - 1));
    return emulation::shuffle(mask, v, from, "__shfl_sync", file, line);
}
template <class T> T __shfl_xor_sync(unsigned mask, T v, int bits, int width = 32, HERE) {
    int lane = emulation::lane(), from = lane ^ bits;
    if (from >= (lane & -width) + width) from = lane;
    return emulation::shuffle(mask, v, from, "__shfl_xor_sync", file, line);
}
template <class T> T __shfl_down_sync(unsigned mask, T v, int delta, int width = 32, HERE) {
    int lane = emulation::lane(), from = lane + delta;
    if (from >= (lane & -width) + width) from = lane;
    return emulation::shuffle(mask, v, from, "__shfl_down_sync", file, line);
}
template <class T> T __shfl_up_sync(unsigned mask, T v, int delta, int width = 32, HERE) {
    int lane = emulation::lane(), from = lane - delta;
    if (from < (lane & -width)) from = lane;
    return emulation::shuffle(mask, v, from, "__shfl_up_sync", file, line);
}
static inline unsigned __ballot_sync(unsigned mask, int predicate, HERE) {
    unsigned hand = predicate != 0;
    emulation::collective(mask, &hand, [](void** lanes, unsigned mask) {
        unsigned all = 0;
        for (int i = 0; i < 32; i++) if (mask >> i & 1) all |= *(unsigned*)lanes[i] << i;
        for (int i = 0; i < 32; i++) if (mask >> i & 1) *(unsigned*)lanes[i] = all;
    }, "__ballot_sync", file, line);
    return hand;
}
static inline int __any_sync(unsigned mask, int p, HERE) { return __ballot_sync(mask, p, file, line) != 0; }
static inline int __all_sync(unsigned mask, int p, HERE) { return __ballot_sync(mask, p, file, line) == mask; }

// Arithmetic that CUDA's compiler knows by itself.
template <class To, class From> static inline To emulated_cast(From x) {
    static_assert(sizeof(To) == sizeof(From), "");
    To y;
    memcpy(&y, &x, sizeof y);
    return y;
}
static inline unsigned __float_as_uint(float x) { return emulated_cast<unsigned>(x); }
static inline int __float_as_int(float x) { return emulated_cast<int>(x); }
static inline float __uint_as_float(unsigned x) { return emulated_cast<float>(x); }
static inline float __int_as_float(int x) { return emulated_cast<float>(x); }
static inline long long __double_as_longlong(double x) { return emulated_cast<long long>(x); }
static inline double __longlong_as_double(long long x) { return emulated_cast<double>(x); }
static inline unsigned __umulhi(unsigned a, unsigned b) { return (unsigned)((uint64_t)a * b >> 32); }
static inline int __popc(unsigned x) { return __builtin_popcount(x); }
static inline int __clz(int x) { return x ? __builtin_clz((unsigned)x) : 32; }
static inline int __ffs(int x) { return __builtin_ffs(x); }
#define __expf expf  // these names are the C library's, too
#define __logf logf
#define __powf powf
static inline float __fdividef(float a, float b) { return a / b; }
static inline float __fadd_rn(float a, float b) { return a + b; }
static inline float __fsub_rn(float a, float b) { return a - b; }
static inline float __fmul_rn(float a, float b) { return a * b; }
static inline float __fdiv_rn(float a, float b) { return a / b; }
static inline float __fsqrt_rn(float x) { return sqrtf(x); }
static inline float __fmaf_rn(float a, float b, float c) { return fmaf(a, b, c); }
static inline double __dadd_rn(double a, double b) { return a + b; }
static inline double __dmul_rn(double a, double b) { return a * b; }
static inline float rsqrtf(float x) { return 1 / sqrtf(x); }
static inline double rsqrt(double x) { return 1 / ::sqrt(x); }
static inline float rsqrt(float x) { return rsqrtf(x); }
static inline float __saturatef(float x) { return x > 0 ? (x < 1 ? x : 1) : 0; }
template <class T> T __ldg(const T* p) { return *p; }
static inline float min(float a, float b) { return fminf(a, b); }
static inline float max(float a, float b) { return fmaxf(a, b); }
static inline double min(double a, double b) { return fmin(a, b); }
static inline double max(double a, double b) { return fmax(a, b); }
template <class A, class B> std::common_type_t<A, B> min(A a, B b) {
    static_assert(std::is_integral_v<A> && std::is_integral_v<B>, "min of mixed floats");
    std::common_type_t<A, B> x = a, y = b;
    return x < y ? x : y;
}
template <class A, class B> std::common_type_t<A, B> max(A a, B b) {
    static_assert(std::is_integral_v<A> && std::is_integral_v<B>, "max of mixed floats");
    std::common_type_t<A, B> x = a, y = b;
    return x > y ? x : y;
}
template <class T> T atomicAdd(T* p, T v) {
    static_assert(std::is_integral_v<T>, "sums of floats need a fixed order");
    T old = *p;
    *p = old + v;
    return old;
}
template <class T> T atomicMax(T* p, T v) { T old = *p; if (v > old) *p = v; return old; }
template <class T> T atomicOr(T* p, T v) { T old = *p; *p = old | v; return old; }

#include "tensor.h"
