// What all kernels stand on: the storage type, sums over threads, random numbers.
//
// A module is compiled once per storage type, of which exactly one of these is defined:
//
//                  real (in memory)    acc (in arithmetic)
//     REAL_F32     float               float
//     REAL_F64     double              double
//     REAL_F16     16 bits             float
//     REAL_BF16    16 bits             float
//
// Activations and the copies of the weights that products read are `real`; sums, parameters,
// gradients of parameters and statistics are `acc`.  Numbers go from one to the other by `load` and
// `store` (or `widen` and `narrow`): 16 bits are for carrying, not for counting.

typedef unsigned char uint8;
typedef unsigned short uint16;
typedef unsigned int uint32;
typedef long long int64;
typedef unsigned long long uint64;

#if defined(REAL_F64)

typedef double acc;
typedef double real;
__device__ __forceinline__ acc widen(real x) { return x; }
__device__ __forceinline__ real narrow(acc x) { return x; }

#elif defined(REAL_F32)

typedef float acc;
typedef float real;
__device__ __forceinline__ acc widen(real x) { return x; }
__device__ __forceinline__ real narrow(acc x) { return x; }

#elif defined(REAL_BF16)

// bfloat16 is the upper half of a float: the same exponents, 8 bits of mantissa.
typedef float acc;
struct real { uint16 bits; };
__device__ __forceinline__ acc widen(real x) { return __uint_as_float((uint32)x.bits << 16); }
__device__ __forceinline__ real narrow(acc x) {
    uint32 bits = __float_as_uint(x);
    real y;
    if ((bits & 0x7fffffffu) > 0x7f800000u)
        y.bits = (uint16)(bits >> 16 | 0x40);  // NaN must not lose the bits that make it one
    else
        y.bits = (uint16)((bits + 0x7fffu + (bits >> 16 & 1)) >> 16);  // to nearest, ties to even
    return y;
}

#elif defined(REAL_F16)

// float16 has 5 bits of exponent and 11 of mantissa; the GPU has instructions for both ways.
typedef float acc;
struct real { uint16 bits; };
#ifdef EMULATED
__device__ __forceinline__ acc widen(real x) { return emulated_half_to_float(x.bits); }
__device__ __forceinline__ real narrow(acc x) { return real{emulated_float_to_half(x)}; }
#else
__device__ __forceinline__ acc widen(real x) {
    float y;
    asm("cvt.f32.f16 %0, %1;" : "=f"(y) : "h"(x.bits));
    return y;
}
__device__ __forceinline__ real narrow(acc x) {
    real y;
    asm("cvt.rn.f16.f32 %0, %1;" : "=h"(y.bits) : "f"(x));
    return y;
}
#endif

#else
#error "define one of REAL_F32, REAL_F64, REAL_F16, REAL_BF16"
#endif

__device__ __forceinline__ acc load(const real* p) { return widen(*p); }
__device__ __forceinline__ void store(real* p, acc x) { *p = narrow(x); }

// 16 bytes at once: memory is fastest in such pieces.  The address must be a multiple of 16.
struct __align__(16) Pack {
    static const int size = 16 / sizeof(real);
    real of[16 / sizeof(real)];
};
__device__ __forceinline__ Pack load_pack(const real* p) { return *(const Pack*)p; }
__device__ __forceinline__ void store_pack(real* p, const Pack& pack) { *(Pack*)p = pack; }

// The elements of a vector that a thread does: first, first + step, ...  ("grid-stride loop")
__device__ __forceinline__ int64 first_index() { return (int64)blockIdx.x * blockDim.x + threadIdx.x; }
__device__ __forceinline__ int64 index_step() { return (int64)gridDim.x * blockDim.x; }

// Sums and maxima over a warp and over a block of whole warps; every thread gets the result.  The
// order of the additions is fixed, so equal inputs give equal bits.  All threads must take part.
struct Add {
    template <class T> __device__ static T of(T a, T b) { return a + b; }
    template <class T> __device__ static T nothing(T) { return 0; }  // changes no result
};
struct Maximum {
    template <class T> __device__ static T of(T a, T b) { return a > b ? a : b; }
    template <class T> __device__ static T nothing(T any) { return any; }
};

template <class Op, class T> __device__ __forceinline__ T warp_reduce(T x) {
    for (int distance = 16; distance > 0; distance /= 2)
        x = Op::of(x, __shfl_xor_sync(0xffffffffu, x, distance));
    return x;
}

template <class Op, class T> __device__ T block_reduce(T x) {
    __shared__ T warps[32];
    int lane = threadIdx.x & 31, warp = threadIdx.x >> 5, count = blockDim.x >> 5;
    x = warp_reduce<Op>(x);
    __syncthreads();  // in a second call: all have read what the first one left here
    if (lane == 0) warps[warp] = x;
    __syncthreads();
    return warp_reduce<Op>(lane < count ? warps[lane] : Op::nothing(warps[0]));
}

template <class T> __device__ __forceinline__ T warp_sum(T x) { return warp_reduce<Add>(x); }
template <class T> __device__ __forceinline__ T warp_max(T x) { return warp_reduce<Maximum>(x); }
template <class T> __device__ __forceinline__ T block_sum(T x) { return block_reduce<Add>(x); }
template <class T> __device__ __forceinline__ T block_max(T x) { return block_reduce<Maximum>(x); }

// Random numbers from a counter: Philox4x32-10 (Salmon et al. 2011, "Parallel random numbers: as
// easy as 1, 2, 3").  No state: the same counter and key give the same four numbers in any thread,
// at any time, so that backward can draw again what forward drew.
__device__ __forceinline__ uint4 philox(uint4 counter, uint2 key) {
    for (int round = 0; round < 10; round++) {
        uint32 high0 = __umulhi(0xD2511F53u, counter.x), low0 = 0xD2511F53u * counter.x;
        uint32 high1 = __umulhi(0xCD9E8D57u, counter.z), low1 = 0xCD9E8D57u * counter.z;
        counter = make_uint4(high1 ^ counter.y ^ key.x, low1, high0 ^ counter.w ^ key.y, low0);
        key.x += 0x9E3779B9u;
        key.y += 0xBB67AE85u;
    }
    return counter;
}

// A number in [0, 1): the upper 24 bits, as many as a float has.
__device__ __forceinline__ float uniform(uint32 bits) { return (bits >> 8) * (1.0f / 16777216.0f); }
