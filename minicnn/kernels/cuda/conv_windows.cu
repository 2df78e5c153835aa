// Convolution as one product of matrices, forward and backward to the input: implicit GEMM.
//
//     Y (N*OH*OW x O) = X (N*OH*OW x KH*KW*C) W (KH*KW*C x O)
//
// Each row of X is a window of the picture.  X isn't written anywhere (that is what im2col does):
// a block gathers the part of it that it needs next, 16 bytes at a time, straight into shared
// memory.  A unit of 16 bytes are neighbouring channels of one pixel, so this needs channels in
// multiples of 8 (16-bit), 4 (float32) or 2 (float64).  Others (the picture itself, with 3
// channels; 10 classes) take the kernels named _odd, which gather value by value.

namespace conv {

template <class Tile, bool UNITS>
struct WindowLoader {
    static constexpr int A_UNITS = Tile::K / VEC, B_UNITS = Tile::N / VEC;  // in a row
    static constexpr int A_STEP = Tile::THREADS / A_UNITS, B_STEP = Tile::THREADS / B_UNITS;
    static constexpr int A_ROWS = Tile::M / A_STEP;  // of a thread
    static_assert(A_STEP * A_ROWS == Tile::M && Tile::K % B_STEP == 0, "threads share evenly");

    const Windows& all;
    const real *x, *w;
    int O, KW, n0;
    Divider channels, taps_w;
    Window windows[A_ROWS];
    Tap tap;             // of this thread's column, in the step to come
    const real* filter;  // its place in the filters, if none of them is left out

    __device__ __forceinline__ WindowLoader(const Windows& all, const real* x, const real* w,
                                            int O, int KW, int count, int m0, int n0)
        : all(all), x(x), w(w), O(O), KW(KW), n0(n0), channels(all.channels),
          taps_w(max(all.w.taps, 1)), tap(all, channels, taps_w, threadIdx.x % A_UNITS * VEC),
          filter(w + static_cast<int64>(threadIdx.x / B_UNITS) * O + n0 + threadIdx.x % B_UNITS * VEC) {
        Divider places(max(all.places(), 1)), per_row(max(all.w.places, 1));
#pragma unroll
        for (int r = 0; r < A_ROWS; r++) {
            int m = m0 + static_cast<int>(threadIdx.x) / A_UNITS + r * A_STEP;
            windows[r] = Window(x, all, places, per_row, m, count);
        }
    }

    // Is called for one step after the other.
    __device__ __forceinline__ void operator()(int step, real* a, real* b) {
        if (UNITS)
            gather(step * Tile::K, a);
        else
            gather_values(step * Tile::K, a);
        filters(step * Tile::K, b);
    }

    // A thread's part of A: one unit of columns, in every A_STEP-th row.
    __device__ __forceinline__ void gather(int k0, real* a) {
        int row = threadIdx.x / A_UNITS, column = threadIdx.x % A_UNITS * VEC;
        bool within = k0 + column < all.depth();
        int offset = tap.offset(all);
#pragma unroll
        for (int r = 0; r < A_ROWS; r++)
            copy_16(a + place<Tile::K>(row + r * A_STEP, column), windows[r].start + offset,
                    within & tap.inside(all, windows[r]));
        tap.advance(all, Tile::K);
    }

    // The same, value by value.
    __device__ __forceinline__ void gather_values(int k0, real* a) const {
        int row = threadIdx.x / A_UNITS, column = threadIdx.x % A_UNITS * VEC;
#pragma unroll 1
        for (int e = 0; e < VEC; e++) {
            int k = k0 + column + e;
            Tap tap(all, channels, taps_w, k);
#pragma unroll
            for (int r = 0; r < A_ROWS; r++) {
                bool there = k < all.depth() && tap.inside(all, windows[r]);
                a[place<Tile::K>(row + r * A_STEP, column + e)] =
                    there ? windows[r].start[tap.offset(all)] : real{};
            }
        }
    }

    // A thread's part of B: one unit of columns, in every B_STEP-th row.
    __device__ __forceinline__ void filters(int k0, real* b) {
        int row = threadIdx.x / B_UNITS, column = threadIdx.x % B_UNITS * VEC;
        if (all.h.filter_step * all.w.filter_step != 1) {  // a phase that doesn't use all taps
#pragma unroll 1
            for (int r = 0; r < Tile::K; r += B_STEP) {
                Tap tap(all, channels, taps_w, k0 + row + r);
                copy_filters(k0, r, w + tap.filter(all, KW) * O + n0 + column, b);
            }
        } else {
#pragma unroll
            for (int r = 0; r < Tile::K; r += B_STEP) copy_filters(k0, r, filter + r * O, b);
            filter += Tile::K * O;
        }
    }
    __device__ __forceinline__ void copy_filters(int k0, int r, const real* from, real* b) const {
        int row = threadIdx.x / B_UNITS + r, column = threadIdx.x % B_UNITS * VEC;
        bool within = k0 + row < all.depth();
        real* to = b + place<Tile::N>(row, column);
        if (UNITS) {
            copy_16(to, from, within & (n0 + column < O));
        } else {
#pragma unroll
            for (int e = 0; e < VEC; e++)
                to[e] = within && n0 + column + e < O ? from[e] : real{};
        }
    }
};

// The finished tile goes through shared memory once more, so that it can be written in units.
template <class Tile, bool UNITS, class Way>
__device__ __forceinline__ void write_tile(const Way& way, const Windows& all, real* tile, real* y,
                                           int H, int W, int O, int count, int m0, int n0,
                                           bool relu) {
    way.each([&](int row, int column, acc left, acc right) {
        if (relu && left < 0) left = 0;  // NaN stays
        if (relu && right < 0) right = 0;
        store_pair(tile + place<Tile::N>(row, column), left, right);
    });
    __syncthreads();
    Divider places(max(all.places(), 1)), per_row(max(all.w.places, 1));
    constexpr int IN_ROW = Tile::N / VEC;
#pragma unroll 1
    for (int unit = threadIdx.x; unit < Tile::M * IN_ROW; unit += Tile::THREADS) {
        int row = unit / IN_ROW, column = unit % IN_ROW * VEC, o = n0 + column;
        if (m0 + row >= count || o >= O) continue;
        int64 pixel = m0 + row;
        if (all.h.out_step * all.w.out_step != 1) {  // one phase of several: not all pixels
            int place_ = 0, b = 0;
            int n = places.split(m0 + row, place_);
            int a = per_row.split(place_, b);
            pixel = (static_cast<int64>(n) * H + all.h.out + a * all.h.out_step) * W + all.w.out +
                    b * all.w.out_step;
        }
        const real* from = tile + place<Tile::N>(row, column);
        real* to = y + pixel * O + o;
        if (UNITS) {
            store_pack(to, load_pack(from));
        } else {
            for (int e = 0; e < VEC && o + e < O; e++) to[e] = from[e];
        }
    }
}

// One block's tile.  back = 0: x (N, H, W, C), w (KH, KW, C, O), b (O) or null, and y
// (N, OH, OW, O), with ReLU where relu is 1.  back = 1: x is dy, w is turned, (KH, KW, O, C), b is
// null, and y is dx; the grid's z counts the phases.
template <class Tile, class Way, bool UNITS>
__device__ __forceinline__ void window_product(const real* x, const real* w, const acc* b, real* y,
                                               const Sizes& s, int back, int relu) {
    __shared__ Pack packs[Tile::PACKS];
    real* memory = packs[0].of;
    Windows all{forward_axis(s.H, s.OH, s.KH, s.SH, s.DH, s.top),
                forward_axis(s.W, s.OW, s.KW, s.SW, s.DW, s.left), s.C};
    int H = s.OH, W = s.OW, O = s.O;  // of y
    if (back) {
        int phase = blockIdx.z;
        all = {backward_axis(s.H, s.OH, s.KH, s.SH, s.DH, s.top, phase / s.SW),
               backward_axis(s.W, s.OW, s.KW, s.SW, s.DW, s.left, phase % s.SW), s.O};
        H = s.H, W = s.W, O = s.C;
    }
    // Neighbouring blocks take the same windows and other filters: the windows are in the cache.
    int across = (O + Tile::N - 1) / Tile::N, count = s.N * all.places();
    int m0 = static_cast<int>(blockIdx.x) / across * Tile::M;
    int n0 = static_cast<int>(blockIdx.x) % across * Tile::N;
    if (m0 >= count) return;  // phases have different numbers of places
    Way way;
    WindowLoader<Tile, UNITS> load(all, x, w, O, s.KW, count, m0, n0);
    walk<Tile>((all.depth() + Tile::K - 1) / Tile::K, memory, load,
               [&](real* left, real* right) { way.multiply(left, right); });
    if (b != nullptr) way.add([&](int column) { return n0 + column < O ? b[n0 + column] : acc(0); });
    write_tile<Tile, UNITS>(way, all, memory, y, H, W, O, count, m0, n0, relu);
}

}  // namespace conv

extern "C" __global__ void __launch_bounds__(conv::Large::THREADS, 3) conv_windows_large(
    const real* x, const real* w, const acc* b, real* y, int N, int H, int W, int C, int OH, int OW,
    int O, int KH, int KW, int SH, int SW, int DH, int DW, int top, int left, int back, int relu) {
    conv::window_product<conv::Large, conv::Exact<conv::Large, false>, true>(
        x, w, b, y, SIZES_GIVEN, back, relu);
}
extern "C" __global__ void __launch_bounds__(conv::Small::THREADS) conv_windows_small(
    const real* x, const real* w, const acc* b, real* y, int N, int H, int W, int C, int OH, int OW,
    int O, int KH, int KW, int SH, int SW, int DH, int DW, int top, int left, int back, int relu) {
    conv::window_product<conv::Small, conv::Exact<conv::Small, false>, true>(
        x, w, b, y, SIZES_GIVEN, back, relu);
}
extern "C" __global__ void __launch_bounds__(conv::Small::THREADS) conv_windows_small_odd(
    const real* x, const real* w, const acc* b, real* y, int N, int H, int W, int C, int OH, int OW,
    int O, int KH, int KW, int SH, int SW, int DH, int DW, int top, int left, int back, int relu) {
    conv::window_product<conv::Small, conv::Exact<conv::Small, false>, false>(
        x, w, b, y, SIZES_GIVEN, back, relu);
}

// For 16 bits; in the modules of other storage types it does nothing.
extern "C" __global__ void __launch_bounds__(conv::Wide::THREADS, 2) conv_windows_wide(
    const real* x, const real* w, const acc* b, real* y, int N, int H, int W, int C, int OH, int OW,
    int O, int KH, int KW, int SH, int SW, int DH, int DW, int top, int left, int back, int relu) {
#if defined(REAL_F16) || defined(REAL_BF16)
    conv::window_product<conv::Wide, conv::Exact<conv::Wide, false>, true>(
        x, w, b, y, SIZES_GIVEN, back, relu);
#endif
}

// With TF32; in the modules of other storage types these do nothing.
extern "C" __global__ void __launch_bounds__(conv::Large::THREADS, 3) conv_windows_large_tf32(
    const real* x, const real* w, const acc* b, real* y, int N, int H, int W, int C, int OH, int OW,
    int O, int KH, int KW, int SH, int SW, int DH, int DW, int top, int left, int back, int relu) {
#ifdef REAL_F32
    conv::window_product<conv::Large, conv::Tf32<conv::Large, false>, true>(
        x, w, b, y, SIZES_GIVEN, back, relu);
#endif
}
extern "C" __global__ void __launch_bounds__(conv::Small::THREADS) conv_windows_small_tf32(
    const real* x, const real* w, const acc* b, real* y, int N, int H, int W, int C, int OH, int OW,
    int O, int KH, int KW, int SH, int SW, int DH, int DW, int top, int left, int back, int relu) {
#ifdef REAL_F32
    conv::window_product<conv::Small, conv::Tf32<conv::Small, false>, true>(
        x, w, b, y, SIZES_GIVEN, back, relu);
#endif
}
