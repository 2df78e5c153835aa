// The instructions that have no name in C++: copies to shared memory that don't wait, loads of
// matrices from shared memory, and products of small matrices on the tensor cores.
//
// Everything here is one line of PTX under a C++ name.  Where EMULATED is defined, the tests run
// the kernels without a GPU, and functions of theirs do what the PTX manual says, lane by lane.

#ifdef EMULATED
#define PTX(instruction, emulated) emulated
#else
#define PTX(instruction, emulated) instruction
#endif

#if defined(EMULATED) || __CUDA_ARCH__ >= 800
#define SINCE_AMPERE 1  // sm_80: cp.async, bfloat16 and TF32
#else
#define SINCE_AMPERE 0
#endif

// ---- Copies ----------------------------------------------------------------------------------
//
// cp.async moves 16 bytes from global to shared memory while the thread goes on.  Copies are
// closed into groups (copy_commit), and copy_wait<N> waits until at most N groups are on their
// way.  Where `valid` is false, zeros are written and nothing is read: that is how the margins of
// a picture, which aren't stored anywhere, get into a tile.
// Turing (sm_75) has no cp.async: there the copy is done at once, and there is nothing to wait for.

#ifndef EMULATED
__device__ __forceinline__ unsigned shared_address(const void* pointer) {
    return static_cast<unsigned>(__cvta_generic_to_shared(pointer));
}
#endif

__device__ __forceinline__ void copy_16(void* shared, const void* global, bool valid) {
#if SINCE_AMPERE
    int bytes = valid ? 16 : 0;
    PTX(asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;"
                     :: "r"(shared_address(shared)), "l"(global), "r"(bytes) : "memory"),
        emulated_cp_async(shared, global, 16, bytes));
#else
    uint4 value = {0, 0, 0, 0};
    if (valid) value = *static_cast<const uint4*>(global);
    *static_cast<uint4*>(shared) = value;
#endif
}

__device__ __forceinline__ void copy_commit() {
#if SINCE_AMPERE
    PTX(asm volatile("cp.async.commit_group;" ::: "memory"), emulated_cp_async_commit());
#endif
}

template <int GROUPS>
__device__ __forceinline__ void copy_wait() {
#if SINCE_AMPERE
    PTX(asm volatile("cp.async.wait_group %0;" :: "n"(GROUPS) : "memory"),
        emulated_cp_async_wait(GROUPS));
#endif
}

// ---- Matrices from shared memory -------------------------------------------------------------
//
// ldmatrix.x4 loads four 8x8 matrices of 16-bit values.  Lane l gives the address of one row of
// 16 bytes: lanes 0-7 the rows of matrix 0, lanes 8-15 those of matrix 1, and so on.  Afterwards
// lane l holds in r[i] the two values (row l/4, columns 2(l%4) and 2(l%4)+1) of matrix i, the
// left one in the lower half.  With .trans it holds those of the transposed matrix:
// rows 2(l%4) and 2(l%4)+1 of column l/4.

__device__ __forceinline__ void load_matrices(unsigned (&r)[4], const void* row) {
    PTX(asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0, %1, %2, %3}, [%4];"
                     : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3])
                     : "r"(shared_address(row)) : "memory"),
        emulated_ldmatrix(r, 4, row, false));
}

__device__ __forceinline__ void load_matrices_transposed(unsigned (&r)[4], const void* row) {
    PTX(asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0, %1, %2, %3}, [%4];"
                     : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3])
                     : "r"(shared_address(row)) : "memory"),
        emulated_ldmatrix(r, 4, row, true));
}

// ---- Products --------------------------------------------------------------------------------
//
// A warp computes D (16x8) += A (16xK) B (Kx8) in one instruction; the matrices are spread over
// its 32 lanes.  With g = lane / 4 and t = lane % 4 ("group" and "thread in group"):
//
//     16-bit, K = 16                            TF32, K = 8
//     a[0]: A[g]  [2t, 2t+1]                    a[0]: A[g]  [t]
//     a[1]: A[g+8][2t, 2t+1]                    a[1]: A[g+8][t]
//     a[2]: A[g]  [2t+8, 2t+9]                  a[2]: A[g]  [t+4]
//     a[3]: A[g+8][2t+8, 2t+9]                  a[3]: A[g+8][t+4]
//     b[0]: B[2t, 2t+1][g]                      b[0]: B[t]  [g]
//     b[1]: B[2t+8, 2t+9][g]                    b[1]: B[t+4][g]
//
//     both:   d[0], d[1]: D[g][2t], D[g][2t+1]     d[2], d[3]: D[g+8][2t], D[g+8][2t+1]
//
// Two 16-bit values share a register, the first one in its lower half.  The products are exact,
// the sums are float32.

#define MMA_16x8x16(TYPE)                                                                    \
    asm volatile("mma.sync.aligned.m16n8k16.row.col.f32." TYPE "." TYPE ".f32 "              \
                 "{%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, {%0, %1, %2, %3};"           \
                 : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])                            \
                 : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]))

__device__ __forceinline__ void multiply_16x8x16(float (&d)[4], const unsigned (&a)[4],
                                                 const unsigned (&b)[2]) {
#if defined(REAL_BF16) && SINCE_AMPERE
    PTX(MMA_16x8x16("bf16"), emulated_mma_bf16(d, a, b));
#elif defined(REAL_F16) && SINCE_AMPERE
    PTX(MMA_16x8x16("f16"), emulated_mma_f16(d, a, b));
#elif defined(REAL_F16)
    // Turing multiplies K = 8 at a time: the left half of A, then the right one.
    for (int half = 0; half < 2; half++)
        asm volatile("mma.sync.aligned.m16n8k8.row.col.f32.f16.f16.f32 "
                     "{%0, %1, %2, %3}, {%4, %5}, {%6}, {%0, %1, %2, %3};"
                     : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
                     : "r"(a[2 * half]), "r"(a[2 * half + 1]), "r"(b[half]));
#elif !defined(EMULATED)
    asm volatile("trap;");  // no such instruction; Python refuses before it comes to this
#endif
}

// TF32: float32 with 10 bits of mantissa instead of 23, rounded to the nearest (ties away).

__device__ __forceinline__ unsigned to_tf32(float x) {
    unsigned bits = 0;
#if SINCE_AMPERE
    PTX(asm("cvt.rna.tf32.f32 %0, %1;" : "=r"(bits) : "f"(x)),
        bits = __float_as_uint(x) + 0x1000u & 0xffffe000u);
#endif
    return bits;
}

__device__ __forceinline__ void multiply_16x8x8_tf32(float (&d)[4], const unsigned (&a)[4],
                                                     const unsigned (&b)[2]) {
#if SINCE_AMPERE
    PTX(asm volatile("mma.sync.aligned.m16n8k8.row.col.f32.tf32.tf32.f32 "
                     "{%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, {%0, %1, %2, %3};"
                     : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
                     : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1])),
        emulated_mma_tf32(d, a, b));
#elif !defined(EMULATED)
    asm volatile("trap;");
#endif
}
