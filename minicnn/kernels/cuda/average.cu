// Average pooling: the mean of each window, or of the whole picture (functional/pool.py).
// Backward collects, as in pool.cu.

namespace pooling {

// 1 / the pixels of a window: all of them, or those inside the picture.
__device__ __forceinline__ acc share_of_window(int row, int column, int whole, const Window& g) {
    int top = row * g.SH - g.top, left = column * g.SW - g.left;
    int rows = min(top + g.KH, g.H) - max(top, 0), columns = min(left + g.KW, g.W) - max(left, 0);
    return acc(1) / acc(whole ? g.KH * g.KW : rows * columns);
}

template <int V>
__device__ __forceinline__ void averagepool(const real* x, real* y, int whole, int64 N,
                                            const Window& g) {
    int64 count = N * g.OH * g.OW * (g.C / V);
    for (int64 k = first_index(); k < count; k += index_step()) {
        Place p = place_of<V>(k, g.OH, g.OW, g.C);
        acc total[V];
#pragma unroll
        for (int e = 0; e < V; e++) total[e] = 0;
        for (int i = 0; i < g.KH; i++) {
            int h = p.row * g.SH - g.top + i;
            if (h < 0 || h >= g.H) continue;
            for (int j = 0; j < g.KW; j++) {
                int w = p.column * g.SW - g.left + j;
                if (w < 0 || w >= g.W) continue;
                acc v[V];
                load_values<V>(x + offset_of(p.n, h, w, g.H, g.W, g.C) + p.c, v);
#pragma unroll
                for (int e = 0; e < V; e++) total[e] += v[e];
            }
        }
        acc share = share_of_window(p.row, p.column, whole, g);
#pragma unroll
        for (int e = 0; e < V; e++) total[e] *= share;
        store_values<V>(y + k * V, total);
    }
}

}  // namespace pooling

extern "C" __global__ void averagepool_forward(const real* x, real* y, int whole, int64 N, int H,
                                               int W, int C, int OH, int OW, int KH, int KW, int SH,
                                               int SW, int top, int left) {
    using namespace pooling;
    using namespace columns;
    Window g = {H, W, C, OH, OW, KH, KW, SH, SW, top, left};
    if (C % PACK == 0 && even(x) && even(y))
        averagepool<PACK>(x, y, whole, N, g);
    else
        averagepool<1>(x, y, whole, N, g);
}

namespace pooling {

template <int V>
__device__ __forceinline__ void unaverage(const real* dy, real* dx, int whole, int64 N,
                                          const Window& g) {
    int64 count = N * g.H * g.W * (g.C / V);
    for (int64 k = first_index(); k < count; k += index_step()) {
        Place p = place_of<V>(k, g.H, g.W, g.C);
        int h = p.row + g.top, w = p.column + g.left;
        acc total[V];
#pragma unroll
        for (int e = 0; e < V; e++) total[e] = 0;
        for (int i = h % g.SH; i < g.KH && i <= h; i += g.SH) {
            int oh = (h - i) / g.SH;
            if (oh >= g.OH) continue;
            for (int j = w % g.SW; j < g.KW && j <= w; j += g.SW) {
                int ow = (w - j) / g.SW;
                if (ow >= g.OW) continue;
                acc d[V], share = share_of_window(oh, ow, whole, g);
                load_values<V>(dy + offset_of(p.n, oh, ow, g.OH, g.OW, g.C) + p.c, d);
#pragma unroll
                for (int e = 0; e < V; e++) total[e] += d[e] * share;
            }
        }
        store_values<V>(dx + k * V, total);
    }
}

}  // namespace pooling

extern "C" __global__ void averagepool_backward(const real* dy, real* dx, int whole, int64 N, int H,
                                                int W, int C, int OH, int OW, int KH, int KW,
                                                int SH, int SW, int top, int left) {
    using namespace pooling;
    using namespace columns;
    Window g = {H, W, C, OH, OW, KH, KW, SH, SW, top, left};
    if (C % PACK == 0 && even(dy) && even(dx))
        unaverage<PACK>(dy, dx, whole, N, g);
    else
        unaverage<1>(dy, dx, whole, N, g);
}

namespace pooling {

// The mean over whole pictures: a block for a picture and some channels, as in columns.cuh.
using namespace columns;

template <int V>
__device__ __forceinline__ void average_all(const Tile& t, const real* x, real* y, int64 pixels,
                                            int C, acc* room) {
    for (int c = t.start(V); c - t.x * V < C; c += t.step(V)) {
        acc sum[V];
#pragma unroll
        for (int e = 0; e < V; e++) sum[e] = 0;
        if (c < C) {
            for (int64 m = t.first + t.y; m < t.stop; m += t.rows) {
                acc v[V];
                load_values<V>(x + m * C + c, v);
#pragma unroll
                for (int e = 0; e < V; e++) sum[e] += v[e];
            }
        }
        sum_tile<V>(t, sum, room);
#pragma unroll
        for (int e = 0; e < V; e++) sum[e] /= acc(pixels);
        if (t.y == 0 && c < C) store_values<V>(y + (int64)t.part * C + c, sum);
    }
}

}  // namespace pooling

// x: (N, pixels, C).  y: (N, C).  The parts of the rows are the pictures.
extern "C" __global__ void globalaverage_forward(const real* x, real* y, int N, int64 pixels, int C,
                                                 int across) {
    using namespace pooling;
    using namespace columns;
    __shared__ acc room[TILE * PACK];
    Tile t(N * pixels, N, across);
    if (C % PACK == 0 && even(x) && even(y))
        average_all<PACK>(t, x, y, pixels, C, room);
    else
        average_all<1>(t, x, y, pixels, C, room);
}

namespace pooling {

template <int V>
__device__ __forceinline__ void spread_all(const real* dy, real* dx, int64 N, int64 pixels, int C) {
    int64 per_picture = pixels * (C / V);
    for (int64 k = first_index(); k < N * per_picture; k += index_step()) {
        acc d[V];
        load_values<V>(dy + k / per_picture * C + k % (C / V) * V, d);
#pragma unroll
        for (int e = 0; e < V; e++) d[e] /= acc(pixels);
        store_values<V>(dx + k * V, d);
    }
}

}  // namespace pooling

extern "C" __global__ void globalaverage_backward(const real* dy, real* dx, int64 N, int64 pixels,
                                                  int C) {
    using namespace pooling;
    using namespace columns;
    if (C % PACK == 0 && even(dy) && even(dx))
        spread_all<PACK>(dy, dx, N, pixels, C);
    else
        spread_all<1>(dy, dx, N, pixels, C);
}
