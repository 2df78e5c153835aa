// Convolution backward to the weights, as one product of matrices over all pixels.
//
//     dW (KH*KW*C x O) = X^T (KH*KW*C x N*OH*OW) dY (N*OH*OW x O)
//
// Again X, the windows, is written nowhere.  A tile of it is gathered as it lies in the picture,
// pixels down and channels across, so A is turned.
//
// The product is small (27 x 32 for the first layer of a network) and its sums are long (100 000
// pixels): tiles alone would keep a handful of blocks busy.  So the pixels are cut into parts
// ("split-K"): the grid's z counts them, every block adds up its own part only, and `conv_sum`
// adds the parts up afterwards.  With atomics that would be one kernel, and each run would round
// in another order; like this, equal inputs give equal bits.

namespace conv {

template <class Tile, bool UNITS>
struct PixelLoader {
    static constexpr int A_UNITS = Tile::M / VEC, B_UNITS = Tile::N / VEC;  // in a row
    static constexpr int A_STEP = Tile::THREADS / A_UNITS, B_STEP = Tile::THREADS / B_UNITS;
    static_assert(Tile::K % A_STEP == 0 && Tile::K % B_STEP == 0, "threads share evenly");

    const Windows& all;
    const real *x, *dy;
    int O, KW, m0, n0, first, end;  // the part: pixels first to end
    Divider channels, taps_w, places, per_row;

    __device__ __forceinline__ PixelLoader(const Windows& all, const real* x, const real* dy, int O,
                                           int KW, int m0, int n0, int first, int end)
        : all(all), x(x), dy(dy), O(O), KW(KW), m0(m0), n0(n0), first(first), end(end),
          channels(all.channels), taps_w(KW), places(all.places()), per_row(all.w.places) {}

    __device__ __forceinline__ void operator()(int step, real* a, real* b) const {
        int p0 = first + step * Tile::K;
        // A: a pixel's window is a row; the thread's tap stays the same in all of them.
        int row = threadIdx.x / A_UNITS, column = threadIdx.x % A_UNITS * VEC;
#pragma unroll 1
        for (int e = 0; e < (UNITS ? 1 : VEC); e++) {
            int k = m0 + column + e;
            Tap tap(all, channels, taps_w, k);
            int offset = tap.offset(all);
#pragma unroll
            for (int r = 0; r < Tile::K; r += A_STEP) {
                Window window(x, all, places, per_row, p0 + row + r, end);
                bool there = (k < all.depth()) & tap.inside(all, window);
                real* to = a + place<Tile::M>(row + r, column + e);
                if (UNITS)
                    copy_16(to, window.start + offset, there);
                else
                    *to = there ? window.start[offset] : real{};
            }
        }
        // B: rows of dy.
        row = threadIdx.x / B_UNITS, column = threadIdx.x % B_UNITS * VEC;
#pragma unroll
        for (int r = 0; r < Tile::K; r += B_STEP) {
            int p = p0 + row + r, o = n0 + column;
            const real* from = dy + static_cast<int64>(p) * O + o;
            real* to = b + place<Tile::N>(row + r, column);
            if (UNITS) {
                copy_16(to, from, (p < end) & (o < O));
            } else {
                for (int e = 0; e < VEC; e++) to[e] = p < end && o + e < O ? from[e] : real{};
            }
        }
    }
};

// parts: (number of parts, KH*KW*C, O).  A part has `share` pixels, the last one fewer.
template <class Tile, class Way, bool UNITS>
__device__ __forceinline__ void pixel_product(const real* x, const real* dy, acc* parts,
                                              const Sizes& s, int share) {
    __shared__ Pack packs[Tile::PACKS];
    Windows all{forward_axis(s.H, s.OH, s.KH, s.SH, s.DH, s.top),
                forward_axis(s.W, s.OW, s.KW, s.SW, s.DW, s.left), s.C};
    int m0 = blockIdx.x * Tile::M, n0 = blockIdx.y * Tile::N, part = blockIdx.z;
    int first = part * share, end = min(first + share, s.N * all.places());
    Way way;
    PixelLoader<Tile, UNITS> load(all, x, dy, s.O, s.KW, m0, n0, first, end);
    walk<Tile>((end - first + Tile::K - 1) / Tile::K, packs[0].of, load,
               [&](real* a, real* b) { way.multiply(a, b); });
    int64 before = static_cast<int64>(part) * all.depth();
    way.each([&](int row, int column, acc left, acc right) {
        acc* to = parts + (before + m0 + row) * s.O + n0 + column;
        if (m0 + row < all.depth() && n0 + column < s.O) to[0] = left;
        if (m0 + row < all.depth() && n0 + column + 1 < s.O) to[1] = right;
    });
}

// Sums over a block of 8 columns and 32 rows of threads, or of 32 and 8, by halves: the order is
// always the same.  Returns the sum of its column to the threads of the first row.
template <int COLUMNS>
__device__ __forceinline__ acc column_sum(acc own) {
    __shared__ acc sums[256];
    sums[threadIdx.x] = own;
    for (int half = 128; half >= COLUMNS; half /= 2) {
        __syncthreads();
        if (threadIdx.x < half) sums[threadIdx.x] += sums[threadIdx.x + half];
    }
    return sums[threadIdx.x];
}

}  // namespace conv

extern "C" __global__ void __launch_bounds__(conv::Large::THREADS) conv_weights_large(
    const real* x, const real* dy, acc* parts, int N, int H, int W, int C, int OH, int OW, int O,
    int KH, int KW, int SH, int SW, int DH, int DW, int top, int left, int share) {
    conv::pixel_product<conv::Large, conv::Exact<conv::Large, true>, true>(
        x, dy, parts, SIZES_GIVEN, share);
}
extern "C" __global__ void __launch_bounds__(conv::Small::THREADS) conv_weights_small(
    const real* x, const real* dy, acc* parts, int N, int H, int W, int C, int OH, int OW, int O,
    int KH, int KW, int SH, int SW, int DH, int DW, int top, int left, int share) {
    conv::pixel_product<conv::Small, conv::Exact<conv::Small, true>, true>(
        x, dy, parts, SIZES_GIVEN, share);
}
extern "C" __global__ void __launch_bounds__(conv::Small::THREADS) conv_weights_small_odd(
    const real* x, const real* dy, acc* parts, int N, int H, int W, int C, int OH, int OW, int O,
    int KH, int KW, int SH, int SW, int DH, int DW, int top, int left, int share) {
    conv::pixel_product<conv::Small, conv::Exact<conv::Small, true>, false>(
        x, dy, parts, SIZES_GIVEN, share);
}

// For 16 bits; in the modules of other storage types it does nothing.
extern "C" __global__ void __launch_bounds__(conv::Wide::THREADS, 2) conv_weights_wide(
    const real* x, const real* dy, acc* parts, int N, int H, int W, int C, int OH, int OW, int O,
    int KH, int KW, int SH, int SW, int DH, int DW, int top, int left, int share) {
#if defined(REAL_F16) || defined(REAL_BF16)
    conv::pixel_product<conv::Wide, conv::Exact<conv::Wide, true>, true>(
        x, dy, parts, SIZES_GIVEN, share);
#endif
}

// With TF32; in the modules of other storage types these do nothing.
extern "C" __global__ void __launch_bounds__(conv::Large::THREADS) conv_weights_large_tf32(
    const real* x, const real* dy, acc* parts, int N, int H, int W, int C, int OH, int OW, int O,
    int KH, int KW, int SH, int SW, int DH, int DW, int top, int left, int share) {
#ifdef REAL_F32
    conv::pixel_product<conv::Large, conv::Tf32<conv::Large, true>, true>(
        x, dy, parts, SIZES_GIVEN, share);
#endif
}
extern "C" __global__ void __launch_bounds__(conv::Small::THREADS) conv_weights_small_tf32(
    const real* x, const real* dy, acc* parts, int N, int H, int W, int C, int OH, int OW, int O,
    int KH, int KW, int SH, int SW, int DH, int DW, int top, int left, int share) {
#ifdef REAL_F32
    conv::pixel_product<conv::Small, conv::Tf32<conv::Small, true>, true>(
        x, dy, parts, SIZES_GIVEN, share);
#endif
}

// out[i] = the sum of parts[p][i] over all parts.  32 threads share the parts of a value.
extern "C" __global__ void conv_sum(const acc* parts, acc* out, int count, int size) {
    int i = blockIdx.x * 8 + threadIdx.x % 8;
    acc sum = 0;
    if (i < size)
        for (int p = threadIdx.x / 8; p < count; p += 32)
            sum += parts[static_cast<int64>(p) * size + i];
    sum = conv::column_sum<8>(sum);
    if (threadIdx.x < 8 && i < size) out[i] = sum;
}

// The gradient of the bias, in parts: parts[p][o] = the sum of dy (rows, O) over `share` rows.  The
// grid: 32 columns a block, and the parts.
extern "C" __global__ void conv_bias_parts(const real* dy, acc* parts, int rows, int O, int share) {
    int o = blockIdx.x * 32 + threadIdx.x % 32, part = blockIdx.y;
    int end = min((part + 1) * share, rows);
    acc sum = 0;
    if (o < O)
        for (int row = part * share + threadIdx.x / 32; row < end; row += 8)
            sum += load(dy + static_cast<int64>(row) * O + o);
    sum = conv::column_sum<32>(sum);
    if (threadIdx.x < 32 && o < O) parts[static_cast<int64>(part) * O + o] = sum;
}

// (KH*KW, C, O) -> (KH*KW, O, C): the filters as the gradient of the input reads them.
extern "C" __global__ void conv_turn(const real* w, real* turned, int taps, int C, int O) {
    for (int64 i = first_index(); i < static_cast<int64>(taps) * C * O; i += index_step()) {
        int c = static_cast<int>(i % C), o = static_cast<int>(i / C % O);
        turned[i] = w[(i / C / O * C + c) * O + o];
    }
}

// y = y + b, and ReLU: after products that can't do it on the way (cuBLAS).
extern "C" __global__ void conv_bias(real* y, const acc* b, int64 size, int O, int relu) {
    for (int64 i = first_index(); i < size; i += index_step()) {
        acc value = load(y + i) + (b != nullptr ? b[i % O] : acc(0));
        store(y + i, relu && value < 0 ? acc(0) : value);
    }
}
