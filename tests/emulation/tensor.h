// What a warp's matrix instructions do, with the layouts of the PTX manual ("Matrix fragments for
// mma.m16n8k16", "... m16n8k8", "ldmatrix"); mma.cuh calls these where EMULATED is defined.
//
//     emulated_mma_bf16(d, a, b)    d[4] += A (16 x 16) B (16 x 8): a[4], b[2], two numbers in each
//     emulated_mma_f16(d, a, b)
//     emulated_mma_tf32(d, a, b)    A (16 x 8) B (8 x 8): a[4], b[2], a float's bits in each
//     emulated_ldmatrix(r, count, row, transposed)    count 1, 2 or 4 matrices of 8 x 8 16-bit numbers
//     emulated_cp_async(to, from, bytes, filled)      of 4, 8 or 16 bytes `filled` are read, the rest zero
//     emulated_cp_async_commit()  emulated_cp_async_wait(n)    until n groups are still on their way
#pragma once

static inline float emulated_half_to_float(unsigned short h) {
    unsigned sign = (h & 0x8000u) << 16, exponent = h >> 10 & 31, fraction = h & 0x3ff;
    if (exponent == 0) return (sign ? -1.0f : 1.0f) * fraction * 0x1p-24f;
    if (exponent == 31) return __uint_as_float(sign | 0x7f800000u | fraction << 13);
    return __uint_as_float(sign | (exponent + 112) << 23 | fraction << 13);
}
static inline unsigned short emulated_float_to_half(float x) {  // to nearest, ties to even
    unsigned bits = __float_as_uint(x), sign = bits >> 16 & 0x8000u;
    bits &= 0x7fffffffu;
    if (bits > 0x7f800000u) return sign | 0x7fff;   // NaN, as cvt gives it
    if (bits >= 0x477ff000u) return sign | 0x7c00;  // 65520 and more
    if (bits < 0x38800000u)                         // denormal: a multiple of 2^-24
        return sign | (unsigned)rintf(__uint_as_float(bits) * 0x1p24f);
    bits += 0xfff + (bits >> 13 & 1);
    return sign | (bits - (112u << 23)) >> 13;
}
static inline float emulated_bfloat_to_float(unsigned short h) { return __uint_as_float((unsigned)h << 16); }

namespace emulation {

struct Fragments { float* d; const unsigned *a, *b; };

template <class Element> void multiply(void** lanes, int K, Element element) {
    for (int m = 0; m < 16; m++)
        for (int n = 0; n < 8; n++) {
            float* d = ((Fragments*)lanes[(m & 7) * 4 + n / 2])->d + (m / 8 * 2 + n % 2);
            double sum = *d;
            for (int k = 0; k < K; k++) sum += element(lanes, true, m, k) * element(lanes, false, n, k);
            *d = (float)sum;
        }
}

// Element (row, k) of A or (k, row) of B, of two 16-bit numbers in each register.
template <float (*to_float)(unsigned short)>
double of_16_bits(void** lanes, bool is_a, int row, int k) {
    const Fragments* f = (Fragments*)lanes[(row & 7) * 4 + k % 8 / 2];
    unsigned pair = is_a ? f->a[row / 8 + k / 8 * 2] : f->b[k / 8];
    return to_float((unsigned short)(k % 2 ? pair >> 16 : pair));
}

static double of_tf32(void** lanes, bool is_a, int row, int k) {
    const Fragments* f = (Fragments*)lanes[(row & 7) * 4 + k % 4];
    unsigned bits = is_a ? f->a[row / 8 + k / 4 * 2] : f->b[k / 4];
    return __uint_as_float(bits & 0xffffe000u);  // the tensor cores don't look at the rest
}

struct Rows { unsigned* r; const void* row; int count; bool transposed; };

static void load_matrices(void** lanes, unsigned) {
    int count = ((Rows*)lanes[0])->count;
    bool transposed = ((Rows*)lanes[0])->transposed;
    for (int i = 0; i < 8 * count; i++)
        if ((uintptr_t)((Rows*)lanes[i])->row & 15) fail("ldmatrix: the row of lane %d isn't aligned", i);
    for (int lane = 0; lane < 32; lane++)
        for (int m = 0; m < count; m++) {
            unsigned short pair[2];
            for (int e = 0; e < 2; e++) {
                int row = lane / 4, column = lane % 4 * 2 + e;
                if (transposed) { int swapped = row; row = column; column = swapped; }
                pair[e] = ((const unsigned short*)((Rows*)lanes[m * 8 + row])->row)[column];
            }
            ((Rows*)lanes[lane])->r[m] = pair[0] | (unsigned)pair[1] << 16;
        }
}

}  // namespace emulation

static inline void emulated_mma_bf16(float* d, const unsigned* a, const unsigned* b, HERE) {
    emulation::Fragments f{d, a, b};
    emulation::collective(~0u, &f, [](void** lanes, unsigned) {
        emulation::multiply(lanes, 16, emulation::of_16_bits<emulated_bfloat_to_float>);
    }, "mma_bf16", file, line);
}
static inline void emulated_mma_f16(float* d, const unsigned* a, const unsigned* b, HERE) {
    emulation::Fragments f{d, a, b};
    emulation::collective(~0u, &f, [](void** lanes, unsigned) {
        emulation::multiply(lanes, 16, emulation::of_16_bits<emulated_half_to_float>);
    }, "mma_f16", file, line);
}
static inline void emulated_mma_tf32(float* d, const unsigned* a, const unsigned* b, HERE) {
    emulation::Fragments f{d, a, b};
    emulation::collective(~0u, &f, [](void** lanes, unsigned) {
        emulation::multiply(lanes, 8, emulation::of_tf32);
    }, "mma_tf32", file, line);
}
static inline void emulated_ldmatrix(unsigned* r, int count, const void* row, bool transposed, HERE) {
    emulation::Rows rows{r, row, count, transposed};
    emulation::collective(~0u, &rows, emulation::load_matrices, "ldmatrix", file, line);
}

// A copy is done only when it is waited for; until then NaN stands there.
static inline void emulated_cp_async(void* to, const void* from, int bytes = 16, int filled = -1) {
    if (((uintptr_t)to | (filled == 0 ? 0 : (uintptr_t)from)) & (bytes - 1))
        emulation::fail("cp.async of %d bytes from %p to %p: not aligned", bytes, from, to);
    auto& copies = emulation::threads[emulation::current].copies;
    if (copies.empty()) copies.emplace_back();
    memset(to, 0xff, bytes);
    copies.back().push_back({to, from, bytes, filled < 0 ? bytes : filled});
}
static inline void emulated_cp_async_commit() {
    auto& copies = emulation::threads[emulation::current].copies;
    if (copies.empty()) copies.emplace_back();
    copies.emplace_back();
}
static inline void emulated_cp_async_wait(int left) {
    auto& copies = emulation::threads[emulation::current].copies;
    while ((int)copies.size() > left + 1) {
        for (auto& copy : copies.front()) {
            memcpy(copy.to, copy.from, copy.filled);
            memset((char*)copy.to + copy.filled, 0, copy.bytes - copy.filled);
        }
        copies.erase(copies.begin());
    }
}
