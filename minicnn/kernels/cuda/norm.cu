// Batch normalization (functional/norm.py): what is found of a batch, and what is done with it.
//
//   forward    moments -> moments_finish -> batchnorm_apply
//   backward   column_sums -> column_sums_finish -> batchnorm_backward_apply
//
// A variance is a difference of two sums, which cancel where the mean is far from zero.  So each
// block first subtracts one of its part's own values, a pivot, which lies about as far from the
// mean as the others do: of three values the middle one, which an outlier isn't.  What the blocks
// found is put together in double (Chan, Golub and LeVeque 1983, section 2).

namespace norms {

using namespace columns;

__device__ __forceinline__ acc middle_of(acc a, acc b, acc c) {
    acc low = a < b ? a : b, high = a < b ? b : a;
    return c < low ? low : c > high ? high : c;
}

// found: (3, parts, C): the pivot of each part, and the sums of x - pivot and of its squares.
template <int V>
__device__ __forceinline__ void moments_of(const Tile& t, const real* x, int C, acc* found,
                                           acc* room) {
    for (int c = t.start(V); c - t.x * V < C; c += t.step(V)) {
        acc pivot[V], sum[V], squares[V];
#pragma unroll
        for (int e = 0; e < V; e++) pivot[e] = sum[e] = squares[e] = 0;
        if (c < C) {
            acc first[V], last[V];
            load_values<V>(x + t.first * C + c, first);
            load_values<V>(x + (t.first + t.stop) / 2 * C + c, pivot);
            load_values<V>(x + (t.stop - 1) * C + c, last);
#pragma unroll
            for (int e = 0; e < V; e++) pivot[e] = middle_of(first[e], last[e], pivot[e]);
#pragma unroll 4
            for (int64 m = t.first + t.y; m < t.stop; m += t.rows) {
                acc v[V];
                load_values<V>(x + m * C + c, v);
#pragma unroll
                for (int e = 0; e < V; e++) {
                    acc apart = v[e] - pivot[e];
                    sum[e] += apart;
                    squares[e] += apart * apart;
                }
            }
        }
        sum_tile<V>(t, sum, room);
        sum_tile<V>(t, squares, room);
        if (t.y == 0 && c < C) {
            int64 size = (int64)t.parts * C, at = (int64)t.part * C + c;
#pragma unroll
            for (int e = 0; e < V; e++) {
                found[at + e] = pivot[e];
                found[at + e + size] = sum[e];
                found[at + e + 2 * size] = squares[e];
            }
        }
    }
}

}  // namespace norms

extern "C" __global__ void moments(const real* x, acc* found, int64 M, int C, int parts,
                                   int across) {
    using namespace norms;
    __shared__ acc room[TILE * PACK];
    Tile t(M, parts, across);
    if (C % PACK == 0 && even(x))
        moments_of<PACK>(t, x, C, found, room);
    else
        moments_of<1>(t, x, C, found, room);
}

namespace norms {

using namespace columns;

// The part of M rows, and its mean and its spread (the sum of squares about that mean).
struct Share {
    double size, mean, spread;

    __device__ Share(const acc* found, int64 M, int C, int parts, int part, int64 c) {
        int64 all = (int64)parts * C, at = (int64)part * C + c;
        double sum = found[at + all], squares = found[at + 2 * all];
        size = double(M * (part + 1) / parts - M * part / parts);
        mean = found[at] + sum / size;
        spread = squares - sum * sum / size;
        if (spread < 0) spread = 0;
    }
};

// running <- momentum running + (1 - momentum) batch, unless the batch's isn't a finite number.
__device__ __forceinline__ void follow(acc* running, double batch, double momentum) {
    if (batch - batch == 0) *running = acc(*running * momentum + batch * (1 - momentum));
}

}  // namespace norms

// Mean, variance and 1 / sqrt(var + eps) of all M rows, a warp for each column; the running
// statistics follow, if there are any (layers/norm.py).
extern "C" __global__ void moments_finish(const acc* found, acc eps, acc* mean, acc* var,
                                          acc* inverse, acc* running_mean, acc* running_var,
                                          acc momentum, int64 M, int C, int parts) {
    using namespace norms;
    int lane = threadIdx.x % 32;
    for (int64 c = first_index() / 32; c < C; c += index_step() / 32) {
        double total = 0, spread = 0;
        for (int p = lane; p < parts; p += 32) {
            Share share(found, M, C, parts, p, c);
            total += share.size * share.mean;
        }
        double middle = warp_sum(total) / double(M);
        for (int p = lane; p < parts; p += 32) {
            Share share(found, M, C, parts, p, c);
            spread += share.spread + share.size * (share.mean - middle) * (share.mean - middle);
        }
        spread = warp_sum(spread);
        if (lane != 0) continue;
        mean[c] = acc(middle);
        var[c] = acc(spread / double(M));
        inverse[c] = acc(1 / sqrt(spread / double(M) + double(eps)));
        if (running_mean) {
            follow(running_mean + c, middle, momentum);
            follow(running_var + c, spread / double(M - 1), momentum);
        }
    }
}

// The same by itself, of a batch of M values a channel; its variance is made unbiased.
extern "C" __global__ void running_update(const acc* mean, const acc* var, acc* running_mean,
                                          acc* running_var, acc momentum, int64 M, int C) {
    for (int64 c = first_index(); c < C; c += index_step()) {
        norms::follow(running_mean + c, mean[c], momentum);
        norms::follow(running_var + c, double(var[c]) * (double(M) / double(M - 1)), momentum);
    }
}

namespace norms {

using namespace columns;

template <int V>
__device__ __forceinline__ void apply(const Tile& t, const real* x, const real* addend,
                                      const acc* mean, const acc* var, acc eps, acc* inverse,
                                      const acc* gamma, const acc* beta, int relu, real* y, int C) {
    for (int c = t.start(V); c < C; c += t.step(V)) {
        acc middle[V], scale[V], shift[V], other[V];
        load_columns<V>(mean, c, C, 0, middle);
        load_columns<V>(gamma, c, C, 1, scale);
        load_columns<V>(beta, c, C, 0, shift);
        load_columns<V>(var ? var : inverse, c, C, 0, other);
#pragma unroll
        for (int e = 0; e < V; e++) {
            acc factor = var ? 1 / sqrt(other[e] + eps) : other[e];
            if (var && inverse && t.part == 0 && t.y == 0) inverse[c + e] = factor;
            scale[e] *= factor;
        }
        for (int64 m = t.first + t.y; m < t.stop; m += t.rows) {
            acc v[V], extra[V];
            load_values<V>(x + m * C + c, v);
            if (addend) load_values<V>(addend + m * C + c, extra);
#pragma unroll
            for (int e = 0; e < V; e++) {
                v[e] = (v[e] - middle[e]) * scale[e] + shift[e];
                if (addend) v[e] += extra[e];
                if (relu && v[e] < 0) v[e] = 0;
            }
            store_values<V>(y + m * C + c, v);
        }
    }
}

}  // namespace norms

// y = (x - mean) inverse gamma + beta + addend, cut off at 0 if relu.  With var, inverse is
// computed from it here, and written if there is room for it.  gamma, beta, addend: may be null.
extern "C" __global__ void batchnorm_apply(const real* x, const real* addend, const acc* mean,
                                           const acc* var, acc eps, acc* inverse, const acc* gamma,
                                           const acc* beta, int relu, real* y, int64 M, int C,
                                           int parts, int across) {
    using namespace norms;
    Tile t(M, parts, across);
    if (C % PACK == 0 && even(x) && even(addend) && even(y))
        apply<PACK>(t, x, addend, mean, var, eps, inverse, gamma, beta, relu, y, C);
    else
        apply<1>(t, x, addend, mean, var, eps, inverse, gamma, beta, relu, y, C);
}
