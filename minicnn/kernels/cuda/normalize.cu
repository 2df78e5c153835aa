// Pictures to numbers with known statistics (functional/norm.py, normalize):
//
//     y = x scale / std - mean / std        channel by channel
//
// A thread does as many neighbours as fill 16 bytes of y.

namespace normalizing {

template <int V>
__device__ __forceinline__ void load_picture(const uint8* x, acc* v) {
    int bytes[V];
    load_bytes<V>(x, bytes);
#pragma unroll
    for (int e = 0; e < V; e++) v[e] = acc(bytes[e]);
}

template <int V>
__device__ __forceinline__ void load_picture(const real* x, acc* v) {
    load_values<V>(x, v);
}

// mean: null for a gradient, which isn't shifted.
template <int V, class Number>
__device__ __forceinline__ void run(const Number* x, const acc* mean, const acc* std, acc scale,
                                    real* y, int C, int64 n) {
    for (int64 i = first_index() * V; i < n; i += index_step() * V) {
        acc v[V];
        load_picture<V>(x + i, v);
        int c = int(i % C);
#pragma unroll
        for (int e = 0; e < V; e++) {
            v[e] = v[e] * (scale / std[c]) - (mean ? mean[c] / std[c] : acc(0));
            c = c + 1 == C ? 0 : c + 1;
        }
        store_values<V>(y + i, v);
    }
}

template <class Number>
__device__ __forceinline__ void run(const Number* x, const acc* mean, const acc* std, acc scale,
                                    real* y, int C, int64 n) {
    if (even(x) && even(y) && n % PACK == 0)
        run<PACK>(x, mean, std, scale, y, C, n);
    else
        run<1>(x, mean, std, scale, y, C, n);
}

}  // namespace normalizing

extern "C" __global__ void normalize_bytes(const uint8* x, const acc* mean, const acc* std,
                                           acc scale, real* y, int C, int64 n) {
    normalizing::run(x, mean, std, scale, y, C, n);
}

// x: numbers on the same scale.  With mean null it is the gradient: dx = dy scale / std.
extern "C" __global__ void normalize_numbers(const real* x, const acc* mean, const acc* std,
                                             acc scale, real* y, int C, int64 n) {
    normalizing::run(x, mean, std, scale, y, C, n);
}
