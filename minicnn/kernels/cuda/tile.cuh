// Products of large matrices, tile by tile: what all convolutions on this floor are made of.
//
//     C (M x N) = A (M x K) B (K x N)
//
// A block computes one tile of C, Tile::M x Tile::N.  It walks along K in steps of Tile::K; in
// each it copies a tile of A and one of B into shared memory, and its warps multiply them from
// there.  Copies run ahead by two steps (`walk`), so that the arithmetic needn't wait for them.
// Where A and B come from is the business of who loads: for a convolution A is the windows of a
// picture, which are written nowhere, and are gathered into the tile pixel by pixel.

namespace conv {

constexpr int VEC = Pack::size;  // values in a unit of 16 bytes, what one copy moves

template <int M_, int N_, int K_, int WARPS_M_, int WARPS_N_>
struct Tile {
    static constexpr int M = M_, N = N_, K = K_;
    static constexpr int WARPS_M = WARPS_M_, WARPS_N = WARPS_N_;  // how its warps share it
    static constexpr int THREADS = 32 * WARPS_M * WARPS_N;
    static constexpr int WARP_M = M / WARPS_M, WARP_N = N / WARPS_N;  // a warp's part
    static constexpr int A = M * K, B = K * N;                        // values in shared memory
    static constexpr int STAGES = 3 * (A + B) * sizeof(real) <= 49152 ? 3 : 2;
    // As much as the stages need, and the finished tile afterwards.
    static constexpr int PACKS = (STAGES * (A + B) > M * N ? STAGES * (A + B) : M * N) / Pack::size;
};

// Where a value lies in a tile of ROWS x COLUMNS in shared memory: the swizzle.
//
// Shared memory has 32 banks of 4 bytes, 8 units side by side; a warp is served at once only if
// its units lie in different ones.  But a matrix is read down its columns: 8 rows, the same unit
// in each.  With rows of 128 bytes all of them lie in the same banks, and are served one by one.
// So a row's units change places, in every row another way (4 units, rows 0 to 7 downwards):
//
//     0 1 2 3 | 0 1 2 3      (two rows of 64 bytes span all banks)
//     1 0 3 2 | 1 0 3 2      Unit 0 of rows 0 to 7 lies in 8 different places.
//     2 3 0 1 | 2 3 0 1
//     3 2 1 0 | 3 2 1 0
//
// 32-bit values are read as 4 rows x 2 neighbouring units as well, hence the order of the bits.
template <int COLUMNS>
__device__ __forceinline__ int swizzle(int row) {
    constexpr int UNITS = COLUMNS / VEC;
    static_assert(UNITS == 4 || UNITS % 8 == 0, "a row has 4 units, or a multiple of 8");
    return (UNITS == 4 ? row >> 1 & 3 : (row & 3) << 1 | (row >> 2 & 1)) * VEC;
}
template <int COLUMNS>
__device__ __forceinline__ int place(int row, int column) {
    return row * COLUMNS + (column ^ swizzle<COLUMNS>(row));
}

// Two neighbouring values are stored at once.
struct __align__(2 * sizeof(real)) RealPair {
    real left, right;
};
__device__ __forceinline__ void store_pair(real* to, acc left, acc right) {
#if defined(REAL_BF16) && SINCE_AMPERE && !defined(EMULATED)
    unsigned both;  // one instruction rounds two values
    asm("cvt.rn.bf16x2.f32 %0, %1, %2;" : "=r"(both) : "f"(right), "f"(left));
    *reinterpret_cast<unsigned*>(to) = both;
#else
    *reinterpret_cast<RealPair*>(to) = {narrow(left), narrow(right)};
#endif
}

// Division by a number that isn't known to the compiler: a multiplication and a shift, for
// n < 2^31 (Granlund and Montgomery, 1994).
struct Divider {
    unsigned divisor, factor, shift;

    __device__ __forceinline__ explicit Divider(int d)
        : divisor(d), shift(d > 1 ? 32 - __clz(d - 1) : 0) {
        factor = static_cast<unsigned>(((1ull << 32) * ((1ull << shift) - divisor)) / divisor + 1);
    }
    __device__ __forceinline__ int quotient(int n) const {
        unsigned whole = static_cast<unsigned>(n);
        return (__umulhi(whole, factor) + whole) >> shift;
    }
    // n = quotient * divisor + remainder; returns the quotient.
    __device__ __forceinline__ int split(int n, int& remainder) const {
        int q = quotient(n);
        remainder = n - q * static_cast<int>(divisor);
        return q;
    }
};

// The walk along K: `load(step, a, b)` starts the copies of one step, `multiply(a, b)` uses them.
//
// While step s is multiplied, the copies of s+1 and s+2 are on their way (with three stages).
// The barrier says two things at once: everybody's copies of this step have arrived, and
// everybody is done with the step before, whose memory the next copies overwrite.
template <class Tile, class Load, class Multiply>
__device__ __forceinline__ void walk(int steps, real* memory, Load load, Multiply multiply) {
    constexpr int AHEAD = Tile::STAGES - 1, SIZE = Tile::A + Tile::B;
    int stage = 0, next = 0;  // which part of the memory
    for (int s = -AHEAD; s < steps; s++) {  // the first rounds only load
        if (s >= 0) {
            copy_wait<AHEAD - 1>();
            __syncthreads();
        }
        if (s + AHEAD < steps) load(s + AHEAD, memory + next * SIZE, memory + next * SIZE + Tile::A);
        copy_commit();  // an empty group, too: groups are counted
        next = next == AHEAD ? 0 : next + 1;
        if (s >= 0) {
            multiply(memory + stage * SIZE, memory + stage * SIZE + Tile::A);
            stage = stage == AHEAD ? 0 : stage + 1;
        }
    }
    copy_wait<0>();
    __syncthreads();  // the memory is free for something else
}

}  // namespace conv
