// Activations: one formula for every element, and its derivative (functional/activation.py).
//
// All are bound by memory: they read and write once, and compute in between for nothing.  The
// gradients recompute what the book keeps in its cache, for the same reason.

// max(x, 0).  Written as "x < 0" so that what isn't a number stays so.
extern "C" __global__ void relu_forward(const real* x, real* y, int64 n) {
    map(x, y, n, [](acc v) { return v < 0 ? acc(0) : v; });
}

extern "C" __global__ void relu_backward(const real* dy, const real* y, real* dx, int64 n) {
    map(dy, y, dx, n, [](acc d, acc v) { return d * acc(v > 0); });
}

extern "C" __global__ void leaky_relu_forward(const real* x, real* y, acc slope, int64 n) {
    map(x, y, n, [=](acc v) { return v > 0 ? v : v * slope; });
}

extern "C" __global__ void leaky_relu_backward(const real* dy, const real* x, real* dx, acc slope,
                                               int64 n) {
    map(dy, x, dx, n, [=](acc d, acc v) { return v > 0 ? d : d * slope; });
}

namespace activations {

// 1 / (1 + exp(-x)), for negative x as exp(x) / (1 + exp(x)): no exponential is of a positive
// number, so none overflows, and small results keep all their digits.
__device__ __forceinline__ acc logistic(acc v) {
    acc e = exp(-fabs(v)), share = 1 / (1 + e);
    return v < 0 ? e * share : share;
}

}  // namespace activations

extern "C" __global__ void sigmoid_forward(const real* x, real* y, int64 n) {
    using namespace activations;
    map(x, y, n, [](acc v) { return logistic(v); });
}

extern "C" __global__ void sigmoid_backward(const real* dy, const real* y, real* dx, int64 n) {
    map(dy, y, dx, n, [](acc d, acc v) { return d * v * (1 - v); });
}

extern "C" __global__ void tanh_forward(const real* x, real* y, int64 n) {
    map(x, y, n, [](acc v) { return acc(tanh(v)); });
}

extern "C" __global__ void tanh_backward(const real* dy, const real* y, real* dx, int64 n) {
    map(dy, y, dx, n, [](acc d, acc v) { return d * (1 - v * v); });
}

extern "C" __global__ void silu_forward(const real* x, real* y, int64 n) {
    using namespace activations;
    map(x, y, n, [](acc v) { return v * logistic(v); });
}

extern "C" __global__ void silu_backward(const real* dy, const real* x, real* dx, int64 n) {
    using namespace activations;
    map(dy, x, dx, n, [](acc d, acc v) {
        acc s = logistic(v);
        return d * (s * (1 + v * (1 - s)));
    });
}

namespace activations {

// The distribution function of the standard normal.  By erfc, which keeps its digits where the
// result is small; 1 + erf(v) would cancel there.
__device__ __forceinline__ acc normal_share(acc v) {
    return acc(0.5) * erfc(v * acc(-0.70710678118654752));
}

}  // namespace activations

extern "C" __global__ void gelu_forward(const real* x, real* y, int64 n) {
    using namespace activations;
    map(x, y, n, [](acc v) { return v * normal_share(v); });
}

extern "C" __global__ void gelu_backward(const real* dy, const real* x, real* dx, int64 n) {
    using namespace activations;
    map(dy, x, dx, n, [](acc d, acc v) {
        acc density = exp(v * v * acc(-0.5)) * acc(0.39894228040143268);
        return d * (normal_share(v) + v * density);
    });
}

// Softmax: a warp for each row of K values.  A lane takes every 32nd, and the warp puts together
// what its lanes found.  The second and third reading of a row come from the cache.
extern "C" __global__ void softmax_forward(const real* x, real* y, int64 rows, int K) {
    int lane = threadIdx.x % 32;
    for (int64 row = first_index() / 32; row < rows; row += index_step() / 32) {
        const real* in = x + row * K;
        real* out = y + row * K;
        acc most = load(in);
        for (int k = lane; k < K; k += 32) most = load(in + k) > most ? load(in + k) : most;
        most = warp_max(most);
        acc total = 0;
        for (int k = lane; k < K; k += 32) total += exp(load(in + k) - most);
        acc scale = 1 / warp_sum(total);
        for (int k = lane; k < K; k += 32) store(out + k, exp(load(in + k) - most) * scale);
    }
}

// dx_k = y_k (dy_k - sum_j dy_j y_j)
extern "C" __global__ void softmax_backward(const real* dy, const real* y, real* dx, int64 rows,
                                            int K) {
    int lane = threadIdx.x % 32;
    for (int64 row = first_index() / 32; row < rows; row += index_step() / 32) {
        const real *d = dy + row * K, *p = y + row * K;
        acc total = 0;
        for (int k = lane; k < K; k += 32) total += load(d + k) * load(p + k);
        total = warp_sum(total);
        for (int k = lane; k < K; k += 32)
            store(dx + row * K + k, load(p + k) * (load(d + k) - total));
    }
}
