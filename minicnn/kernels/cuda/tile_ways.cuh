// Three ways to multiply two tiles in shared memory, all with the same faces:
//
//     way.multiply(a, b)      adds the product A B to this thread's part of C
//     way.add(f)              adds f(column) to every value
//     way.each(f)             calls f(row, column, value, next) for this thread's part of C,
//                             two neighbours in a row at once
//
// Plain is for float32 and float64, Halves for float16 and bfloat16, Tf32 for float32 where TF32
// was asked for.  TURNED: the tile of A lies in memory as K x M (gradients of weights) rather
// than M x K.

namespace conv {

// Which part of the tile a warp computes.
template <class Tile>
struct Warp {
    static __device__ __forceinline__ int lane() { return threadIdx.x % 32; }
    static __device__ __forceinline__ int row() {
        return static_cast<int>(threadIdx.x) / 32 / Tile::WARPS_N * Tile::WARP_M;
    }
    static __device__ __forceinline__ int column() {
        return static_cast<int>(threadIdx.x) / 32 % Tile::WARPS_N * Tile::WARP_N;
    }
};

#if defined(REAL_F32) || defined(REAL_F64)
// Plain arithmetic, exact in float32 and float64, without tensor cores.
//
// The lanes of a warp stand in 8 rows and 4 columns, and each computes ROWS x COLUMNS values of C:
// a value read from shared memory is used 4 or 8 times.  Reads are units: of 4 neighbours along K,
// or along the row where A lies turned.
template <class Tile, bool TURNED>
struct Plain {
    static constexpr int ROWS = Tile::WARP_M / 8, COLUMNS = Tile::WARP_N / 4;
    acc sum[ROWS][COLUMNS] = {};

    static __device__ __forceinline__ int row(int i) {
        int lane = Warp<Tile>::lane() / 4;
        return Warp<Tile>::row() + (TURNED ? (i / VEC * 8 + lane) * VEC + i % VEC : i * 8 + lane);
    }
    static __device__ __forceinline__ int column(int j) {
        return Warp<Tile>::column() + (j / VEC * 4 + Warp<Tile>::lane() % 4) * VEC + j % VEC;
    }

    __device__ __forceinline__ void multiply(real* a, real* b) {
        int at = place<Tile::K>(row(0), 0);  // rows that are 8 apart lie at fixed distances
#pragma unroll 1
        for (int k = 0; k < Tile::K; k += VEC) {
            Pack along[TURNED ? 1 : ROWS];  // VEC values along K of each row
#pragma unroll
            for (int i = 0; i < (TURNED ? 0 : ROWS); i++)
                along[i] = load_pack(a + (at ^ k) + 8 * i * Tile::K);
#pragma unroll
            for (int e = 0; e < VEC; e++) {
                real left[ROWS], right[COLUMNS];
#pragma unroll
                for (int i = 0; i < ROWS; i += VEC) {
                    Pack unit;
                    if (TURNED) unit = load_pack(a + place<Tile::M>(k + e, row(0) ^ 8 * i));
#pragma unroll
                    for (int f = 0; f < VEC; f++)
                        left[i + f] = TURNED ? unit.of[f] : along[TURNED ? 0 : i + f].of[e];
                }
#pragma unroll
                for (int j = 0; j < COLUMNS; j += VEC) {
                    Pack unit = load_pack(b + place<Tile::N>(k + e, column(0) ^ 4 * j));
#pragma unroll
                    for (int f = 0; f < VEC; f++) right[j + f] = unit.of[f];
                }
#pragma unroll
                for (int i = 0; i < ROWS; i++)
#pragma unroll
                    for (int j = 0; j < COLUMNS; j++) sum[i][j] += left[i] * right[j];
            }
        }
    }
    template <class F>
    __device__ __forceinline__ void add(F f) {
#pragma unroll
        for (int j = 0; j < COLUMNS; j++) {
            acc value = f(column(j));
#pragma unroll
            for (int i = 0; i < ROWS; i++) sum[i][j] += value;
        }
    }
    template <class F>
    __device__ __forceinline__ void each(F f) const {
#pragma unroll
        for (int i = 0; i < ROWS; i++)
#pragma unroll
            for (int j = 0; j < COLUMNS; j += 2) f(row(i), column(j), sum[i][j], sum[i][j + 1]);
    }
};
#endif

// The tensor cores.  A warp's part of C is cut into pieces of 16 x 8, one instruction each; which
// lane holds which value of a piece is drawn in mma.cuh.
template <class Tile>
struct Pieces {
    static constexpr int ROWS = Tile::WARP_M / 16, COLUMNS = Tile::WARP_N / 8;
    float sum[ROWS][COLUMNS][4] = {};

    static __device__ __forceinline__ int row(int i, int e) {
        return Warp<Tile>::row() + 16 * i + Warp<Tile>::lane() / 4 + e / 2 * 8;
    }
    static __device__ __forceinline__ int column(int j, int e) {
        return Warp<Tile>::column() + 8 * j + Warp<Tile>::lane() % 4 * 2 + e % 2;
    }
    template <class F>
    __device__ __forceinline__ void add(F f) {
#pragma unroll
        for (int j = 0; j < COLUMNS; j++)
#pragma unroll
            for (int e = 0; e < 2; e++) {
                float value = f(column(j, e));
#pragma unroll
                for (int i = 0; i < ROWS; i++) {
                    sum[i][j][e] += value;
                    sum[i][j][e + 2] += value;
                }
            }
    }
    template <class F>
    __device__ __forceinline__ void each(F f) const {
#pragma unroll
        for (int i = 0; i < ROWS; i++)
#pragma unroll
            for (int j = 0; j < COLUMNS; j++)
#pragma unroll
                for (int e = 0; e < 4; e += 2)
                    f(row(i, e), column(j, e), sum[i][j][e], sum[i][j][e + 1]);
    }
};

#if defined(REAL_F16) || defined(REAL_BF16)
template <class Tile, bool TURNED>
struct Halves : Pieces<Tile> {
    using Pieces<Tile>::ROWS, Pieces<Tile>::COLUMNS, Pieces<Tile>::sum;

    __device__ __forceinline__ void multiply(real* a, real* b) {
        int lane = Warp<Tile>::lane();
        // load_matrices reads 2 x 2 matrices of 8 x 8.  The lane gives the address of one of
        // their rows: `inner` within its matrix, and which matrix it is by `odd` and `high`.
        int inner = lane % 8, odd = lane / 8 % 2 * 8, high = lane / 16 * 8;
        // The addresses of the first ones.  From there, rows that are multiples of 8 apart lie at
        // fixed distances, and columns that are apart by a power of 2 differ in one bit, because
        // all that the swizzle does is to flip bits of the column.
        int row = Warp<Tile>::row(), column = Warp<Tile>::column();
        // a[0..3] are the matrices (rows 0-7, k 0-7), (8-15, 0-7), (0-7, 8-15), (8-15, 8-15).
        int at = TURNED ? place<Tile::M>(inner + high, row + odd)
                        : place<Tile::K>(row + inner + odd, high);
        // Two pieces' b: (k 0-7, columns 0-7), (8-15, 0-7), (0-7, 8-15), (8-15, 8-15).
        int bt = place<Tile::N>(inner + odd, column + high);
#pragma unroll
        for (int k = 0; k < Tile::K; k += 16) {
            unsigned left[ROWS][4];
#pragma unroll
            for (int i = 0; i < ROWS; i++) {
                if (TURNED)
                    load_matrices_transposed(left[i], a + (at ^ 16 * i) + k * Tile::M);
                else
                    load_matrices(left[i], a + (at ^ k) + 16 * i * Tile::K);
            }
#pragma unroll
            for (int j = 0; j < COLUMNS; j += 2) {
                unsigned right[4];
                load_matrices_transposed(right, b + (bt ^ 8 * j) + k * Tile::N);
                unsigned first[2] = {right[0], right[1]}, second[2] = {right[2], right[3]};
#pragma unroll
                for (int i = 0; i < ROWS; i++) {
                    multiply_16x8x16(sum[i][j], left[i], first);
                    multiply_16x8x16(sum[i][j + 1], left[i], second);
                }
            }
        }
    }
};
#endif

#ifdef REAL_F32
template <class Tile, bool TURNED>
struct Tf32 : Pieces<Tile> {
    using Pieces<Tile>::ROWS, Pieces<Tile>::COLUMNS, Pieces<Tile>::sum;

    __device__ __forceinline__ void multiply(real* a, real* b) {
        int lane = Warp<Tile>::lane(), g = lane / 4, t = lane % 4;
        int row = Warp<Tile>::row(), column = Warp<Tile>::column();
        // A float is two 16-bit values to load_matrices, which so gives rows of 4 floats to the
        // lanes as A wants them.  It can't transpose floats: B, and a turned A, are read one by one.
        int inner = lane % 8, odd = lane / 8 % 2 * 8, high = lane / 16 * 4;
        int at = TURNED ? place<Tile::M>(t, row + g) : place<Tile::K>(row + inner + odd, high);
        int bt = place<Tile::N>(t, column + g);
#pragma unroll
        for (int k = 0; k < Tile::K; k += 8) {
            unsigned left[ROWS][4], right[COLUMNS][2];
#pragma unroll
            for (int i = 0; i < ROWS; i++) {
                if (!TURNED) load_matrices(left[i], a + (at ^ k) + 16 * i * Tile::K);
#pragma unroll
                for (int e = 0; e < 4; e++) {
                    int beside = 16 * i ^ e % 2 * 8, below = e / 2 * 4;
                    float value = TURNED ? a[(at ^ beside ^ below) + (k + below) * Tile::M]
                                         : __uint_as_float(left[i][e]);
                    left[i][e] = to_tf32(value);
                }
            }
#pragma unroll
            for (int j = 0; j < COLUMNS; j++)
#pragma unroll
                for (int e = 0; e < 2; e++)
                    right[j][e] = to_tf32(b[(bt ^ 8 * j ^ 4 * e) + (k + 4 * e) * Tile::N]);
#pragma unroll
            for (int i = 0; i < ROWS; i++)
#pragma unroll
                for (int j = 0; j < COLUMNS; j++)
                    multiply_16x8x8_tf32(sum[i][j], left[i], right[j]);
        }
    }
};
#endif

// What a kernel of this module multiplies with unless its name says otherwise, and the tiles that
// there are.  Large ones read less from memory for what they compute; small ones are for few
// filters or few pixels.  Wide ones, for many filters, are worth it with tensor cores alone.
#if defined(REAL_F64)
template <class Tile, bool TURNED>
using Exact = Plain<Tile, TURNED>;
using Large = Tile<64, 64, 16, 2, 2>;
using Small = Tile<32, 32, 16, 2, 1>;
#elif defined(REAL_F32)
template <class Tile, bool TURNED>
using Exact = Plain<Tile, TURNED>;
using Large = Tile<128, 64, 16, 2, 2>;
using Small = Tile<64, 32, 16, 2, 1>;
#else
template <class Tile, bool TURNED>
using Exact = Halves<Tile, TURNED>;
using Large = Tile<128, 64, 32, 2, 2>;
using Small = Tile<64, 32, 32, 2, 1>;
#endif
using Wide = Tile<128, 128, 32, 2, 4>;

}  // namespace conv
