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

void emulated_mma_bf16(float* d, const unsigned* a, const unsigned* b, HERE);
void emulated_mma_f16(float* d, const unsigned* a, const unsigned* b, HERE);
void emulated_mma_tf32(float* d, const unsigned* a, const unsigned* b, HERE);
void emulated_ldmatrix(unsigned* r, int count, const void* row, bool transposed, HERE);
void emulated_cp_async(void* to, const void* from, int bytes = 16, int filled = -1);
void emulated_cp_async_commit();
void emulated_cp_async_wait(int left);

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
