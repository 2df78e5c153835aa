// Sums over the channels of gradients, and the way back through batch normalization.
//
// dy is the gradient behind a fused ReLU, where there is one: y, what that returned, lets nothing
// through where it is 0.  y is null if there was none.

namespace norms {

using namespace columns;

template <int V>
__device__ __forceinline__ void load_masked(const real* dy, const real* y, int64 at, acc* d) {
    load_values<V>(dy + at, d);
    if (!y) return;
    acc out[V];
    load_values<V>(y + at, out);
#pragma unroll
    for (int e = 0; e < V; e++) d[e] *= acc(out[e] > 0);
}

template <int V>
__device__ __forceinline__ void sums_of(const Tile& t, const real* dy, const real* x, const real* y,
                                        const acc* mean, const acc* inverse, int C, acc* plain,
                                        acc* along, acc* room) {
    for (int c = t.start(V); c - t.x * V < C; c += t.step(V)) {
        acc middle[V], factor[V], sum[V], product[V];
        load_columns<V>(mean, c, C, 0, middle);
        load_columns<V>(inverse, c, C, 1, factor);
#pragma unroll
        for (int e = 0; e < V; e++) sum[e] = product[e] = 0;
        if (c < C) {
#pragma unroll 4
            for (int64 m = t.first + t.y; m < t.stop; m += t.rows) {
                acc d[V], v[V];
                load_masked<V>(dy, y, m * C + c, d);
                if (x) load_values<V>(x + m * C + c, v);
#pragma unroll
                for (int e = 0; e < V; e++) {
                    sum[e] += d[e];
                    if (x) product[e] += d[e] * ((v[e] - middle[e]) * factor[e]);
                }
            }
        }
        sum_tile<V>(t, sum, room);
        if (x) sum_tile<V>(t, product, room);
        if (t.y == 0 && c < C) {
#pragma unroll
            for (int e = 0; e < V; e++) {
                plain[(int64)t.part * C + c + e] = sum[e];
                if (x) along[(int64)t.part * C + c + e] = product[e];
            }
        }
    }
}

}  // namespace norms

// For each part of the rows, (parts, C): the sums of dy, and of dy (x - mean) inverse unless x is
// null.
extern "C" __global__ void column_sums(const real* dy, const real* x, const real* y,
                                       const acc* mean, const acc* inverse, acc* plain, acc* along,
                                       int64 M, int C, int parts, int across) {
    using namespace norms;
    __shared__ acc room[TILE * PACK];
    Tile t(M, parts, across);
    if (C % PACK == 0 && even(dy) && even(x) && even(y))
        sums_of<PACK>(t, dy, x, y, mean, inverse, C, plain, along, room);
    else
        sums_of<1>(t, dy, x, y, mean, inverse, C, plain, along, room);
}

// Add up the parts, a warp for each column: total = sum of plain, product = sum of along.
extern "C" __global__ void column_sums_finish(const acc* plain, const acc* along, acc* total,
                                              acc* product, int C, int parts) {
    int lane = threadIdx.x % 32;
    for (int64 c = first_index() / 32; c < C; c += index_step() / 32) {
        double sum = 0, other = 0;
        for (int p = lane; p < parts; p += 32) {
            sum += double(plain[(int64)p * C + c]);
            if (along) other += double(along[(int64)p * C + c]);
        }
        sum = warp_sum(sum);
        other = warp_sum(other);
        if (lane != 0) continue;
        total[c] = acc(sum);
        if (along) product[c] = acc(other);
    }
}

namespace norms {

using namespace columns;

template <int V>
__device__ __forceinline__ void apply_back(const Tile& t, const real* dy, const real* x,
                                           const real* y, const acc* gamma, const acc* mean,
                                           const acc* inverse, const acc* dgamma, const acc* dbeta,
                                           real* dx, real* daddend, int64 M, int C) {
    for (int c = t.start(V); c < C; c += t.step(V)) {
        acc middle[V], factor[V], scale[V], common[V], slope[V];
        load_columns<V>(mean, c, C, 0, middle);
        load_columns<V>(inverse, c, C, 1, factor);
        load_columns<V>(gamma, c, C, 1, scale);
        load_columns<V>(dbeta, c, C, 0, common);
        load_columns<V>(dgamma, c, C, 0, slope);
#pragma unroll
        for (int e = 0; e < V; e++) {
            scale[e] *= factor[e];
            common[e] /= acc(M);
            slope[e] /= acc(M);
        }
        for (int64 m = t.first + t.y; m < t.stop; m += t.rows) {
            acc d[V], v[V];
            load_masked<V>(dy, y, m * C + c, d);
            if (daddend) store_values<V>(daddend + m * C + c, d);
            if (x) load_values<V>(x + m * C + c, v);
#pragma unroll
            for (int e = 0; e < V; e++) {
                acc left = d[e];
                if (x) left = left - common[e] - (v[e] - middle[e]) * factor[e] * slope[e];
                d[e] = left * scale[e];
            }
            store_values<V>(dx + m * C + c, d);
        }
    }
}

}  // namespace norms

// dx = (dy - dbeta / M - n dgamma / M) gamma inverse, with n = (x - mean) inverse; and what a fused
// addend gets, dy itself.  x null: the statistics were fixed, and dx = dy gamma inverse.
extern "C" __global__ void batchnorm_backward_apply(const real* dy, const real* x, const real* y,
                                                    const acc* gamma, const acc* mean,
                                                    const acc* inverse, const acc* dgamma,
                                                    const acc* dbeta, real* dx, real* daddend,
                                                    int64 M, int C, int parts, int across) {
    using namespace norms;
    Tile t(M, parts, across);
    if (C % PACK == 0 && even(dy) && even(x) && even(y) && even(dx) && even(daddend))
        apply_back<PACK>(t, dy, x, y, gamma, mean, inverse, dgamma, dbeta, dx, daddend, M, C);
    else
        apply_back<1>(t, dy, x, y, gamma, mean, inverse, dgamma, dbeta, dx, daddend, M, C);
}
