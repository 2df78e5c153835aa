// Pooling: the maximum or the mean of each window, channel by channel (functional/pool.py).
//
// A thread makes the result for one place and V neighbouring channels.  Forward it walks over the
// taps of its window.  Backward it doesn't send gradients to the taps, where windows that overlap
// would meet and need atomic additions in no fixed order: it stands at a pixel and collects from
// all windows that reach it, in the order of the taps.  That is the same sum, and it can be
// repeated to the last bit.

namespace pooling {

__device__ __forceinline__ acc minus_infinity() { return -acc(__int_as_float(0x7f800000)); }

template <int V>
__device__ __forceinline__ void maxpool(const real* x, const acc* b, real* y, uint8* winner,
                                        int relu, int64 N, const Window& g) {
    int64 count = N * g.OH * g.OW * (g.C / V);
    for (int64 k = first_index(); k < count; k += index_step()) {
        Place p = place_of<V>(k, g.OH, g.OW, g.C);
        acc best[V], bias[V];
        int tap[V];
#pragma unroll
        for (int e = 0; e < V; e++) {
            best[e] = minus_infinity();  // as the margin, which never wins
            bias[e] = b ? b[p.c + e] : acc(0);
            tap[e] = 0;
        }
        for (int i = 0; i < g.KH; i++) {
            int h = p.row * g.SH - g.top + i;
            if (h < 0 || h >= g.H) continue;
            for (int j = 0; j < g.KW; j++) {
                int w = p.column * g.SW - g.left + j;
                if (w < 0 || w >= g.W) continue;
                acc v[V];
                load_values<V>(x + offset_of(p.n, h, w, g.H, g.W, g.C) + p.c, v);
#pragma unroll
                for (int e = 0; e < V; e++) {
                    acc value = v[e] + bias[e];
                    bool larger = value > best[e];  // of equals the first stays
                    if (larger) tap[e] = i * g.KW + j;
                    if (larger || value != value) best[e] = value;  // what isn't a number stays
                }
            }
        }
#pragma unroll
        for (int e = 0; e < V; e++)
            if (relu && best[e] < 0) best[e] = 0;
        store_values<V>(y + k * V, best);
        if (winner) store_bytes<V>(winner + k * V, tap);
    }
}

}  // namespace pooling

// y = max over the window of x + b, cut off at 0 if relu: three layers in one pass.  The maximum of
// cut-off values is the cut-off maximum.  b, winner: may be null.
extern "C" __global__ void maxpool_forward(const real* x, const acc* b, real* y, uint8* winner,
                                           int relu, int64 N, int H, int W, int C, int OH, int OW,
                                           int KH, int KW, int SH, int SW, int top, int left) {
    using namespace pooling;
    Window g = {H, W, C, OH, OW, KH, KW, SH, SW, top, left};
    if (C % PACK == 0 && even(x) && even(y) && even(winner))
        maxpool<PACK>(x, b, y, winner, relu, N, g);
    else
        maxpool<1>(x, b, y, winner, relu, N, g);
}

namespace pooling {

template <int V>
__device__ __forceinline__ void unpool(const real* dy, const uint8* winner, const real* y, real* dx,
                                       int64 N, const Window& g) {
    int64 count = N * g.H * g.W * (g.C / V);
    for (int64 k = first_index(); k < count; k += index_step()) {
        Place p = place_of<V>(k, g.H, g.W, g.C);
        int h = p.row + g.top, w = p.column + g.left;
        acc total[V];
#pragma unroll
        for (int e = 0; e < V; e++) total[e] = 0;
        for (int i = h % g.SH; i < g.KH && i <= h;
             i += g.SH) {  // the pixel is tap i of window row oh
            int oh = (h - i) / g.SH;
            if (oh >= g.OH) continue;
            for (int j = w % g.SW; j < g.KW && j <= w; j += g.SW) {
                int ow = (w - j) / g.SW;
                if (ow >= g.OW) continue;
                int64 at = offset_of(p.n, oh, ow, g.OH, g.OW, g.C) + p.c;
                acc d[V], out[V];
                int tap[V];
                load_values<V>(dy + at, d);
                load_bytes<V>(winner + at, tap);
                if (y) load_values<V>(y + at, out);
#pragma unroll
                for (int e = 0; e < V; e++) {
                    acc share = y ? d[e] * acc(out[e] > 0) : d[e];
                    total[e] += share * acc(tap[e] == i * g.KW + j);
                }
            }
        }
        store_values<V>(dx + k * V, total);
    }
}

}  // namespace pooling

// y: what a fused ReLU returned, which lets nothing back where it is 0; null if there was none.
extern "C" __global__ void maxpool_backward(const real* dy, const uint8* winner, const real* y,
                                            real* dx, int64 N, int H, int W, int C, int OH, int OW,
                                            int KH, int KW, int SH, int SW, int top, int left) {
    using namespace pooling;
    Window g = {H, W, C, OH, OW, KH, KW, SH, SW, top, left};
    if (C % PACK == 0 && even(dy) && even(winner) && even(y) && even(dx))
        unpool<PACK>(dy, winner, y, dx, N, g);
    else
        unpool<1>(dy, winner, y, dx, N, g);
}

namespace pooling {

template <int V>
__device__ __forceinline__ void add_bias(const real* x, const acc* b, real* y, int relu, int64 M,
                                         int C) {
    for (int64 k = first_index(); k < M * (C / V); k += index_step()) {
        int c = int(k % (C / V)) * V;
        acc v[V];
        load_values<V>(x + k * V, v);
#pragma unroll
        for (int e = 0; e < V; e++) {
            if (b) v[e] += b[c + e];
            if (relu && v[e] < 0) v[e] = 0;
        }
        store_values<V>(y + k * V, v);
    }
}

}  // namespace pooling

// The same without pooling: y = x + b, cut off at 0 if relu.
extern "C" __global__ void bias_relu(const real* x, const acc* b, real* y, int relu, int64 M,
                                     int C) {
    using namespace pooling;
    if (C % PACK == 0 && even(x) && even(y))
        add_bias<PACK>(x, b, y, relu, M, C);
    else
        add_bias<1>(x, b, y, relu, M, C);
}
