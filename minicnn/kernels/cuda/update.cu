// The update rules over flat buffers: one pass over memory each, all in `acc`.
//
// What changes from step to step is read from device memory, so that a captured graph needn't be
// made anew: `rate`, the learning rate; `clock`, the number of this step, 1 for the first; `scale`,
// what the gradient is to be multiplied by; `skip`, not zero if this step is to be left out.  The
// last two may be null.
//
// `factor` is what the learning rate is multiplied by for these parameters.
//
// Where `copy` isn't null it gets the new weights in the storage type: what products read.

namespace update {

// The gradient of element i, with weight decay for the first `decayed` elements.
__device__ __forceinline__ acc gradient(
    const acc* w, const acc* dw, int64 i, const acc* scale, acc decay, int64 decayed) {
    acc g = dw[i];
    if (scale) g *= *scale;
    if (i < decayed) g += decay * w[i];
    return g;
}

__device__ __forceinline__ void keep(acc* w, real* copy, int64 i, acc value) {
    w[i] = value;
    if (copy) store(copy + i, value);
}

// x to the power n.  CUDA's pow would make this file five times as long to compile.
__device__ double power(double x, int64 n) {
    double y = 1;
    for (; n > 0; n /= 2, x *= x)
        if (n % 2) y *= x;
    return y;
}

__device__ __forceinline__ bool skipped(const int* skip) { return skip && *skip; }

}  // namespace update

// w <- w - rate dw
extern "C" __global__ void sgd_step(
    acc* w, const acc* dw, real* copy, const acc* rate, const acc* scale, const int* skip,
    double factor, acc decay, int64 decayed, int64 n) {
    if (update::skipped(skip)) return;
    acc lr = (acc)(*rate * factor);
    for (int64 i = first_index(); i < n; i += index_step()) {
        acc g = update::gradient(w, dw, i, scale, decay, decayed);
        update::keep(w, copy, i, w[i] - g * lr);
    }
}

// v <- momentum v + dw;  w <- w - rate v, or with Nesterov's look ahead w - rate (dw + momentum v)
extern "C" __global__ void momentum_step(
    acc* w, const acc* dw, acc* v, real* copy, const acc* rate, const acc* scale, const int* skip,
    double factor, acc decay, int64 decayed, acc momentum, int nesterov, int64 n) {
    if (update::skipped(skip)) return;
    acc lr = (acc)(*rate * factor);
    for (int64 i = first_index(); i < n; i += index_step()) {
        acc g = update::gradient(w, dw, i, scale, decay, decayed);
        acc speed = v[i] * momentum + g;
        v[i] = speed;
        update::keep(w, copy, i, w[i] - (nesterov ? g + speed * momentum : speed) * lr);
    }
}

// v <- rho v + (1 - rho) dw^2;  w <- w - rate dw / (sqrt(v) + eps)
extern "C" __global__ void rmsprop_step(
    acc* w, const acc* dw, acc* v, real* copy, const acc* rate, const acc* scale, const int* skip,
    double factor, acc decay, int64 decayed, acc rho, acc rest, acc eps, int64 n) {
    if (update::skipped(skip)) return;
    acc lr = (acc)(*rate * factor);
    for (int64 i = first_index(); i < n; i += index_step()) {
        acc g = update::gradient(w, dw, i, scale, decay, decayed);
        acc size = v[i] * rho + g * g * rest;
        v[i] = size;
        update::keep(w, copy, i, w[i] - g * lr / (sqrt(size) + eps));
    }
}

// m <- beta1 m + (1 - beta1) dw;  v <- beta2 v + (1 - beta2) dw^2
// w <- w - rate (m / (1 - beta1^t)) / (sqrt(v / (1 - beta2^t)) + eps),  t = clock
//
// `shrink` is AdamW's decay, beside the division: the first `shrunk` weights lose the part
// rate * shrink.  1 - beta^t is a small difference of numbers near 1, and is made in double; each
// thread makes it once.
extern "C" __global__ void adam_step(
    acc* w, const acc* dw, acc* m, acc* v, real* copy, const acc* rate, const int64* clock,
    const acc* scale, const int* skip, double factor, acc decay, int64 decayed, double shrink,
    int64 shrunk, double beta1, double beta2, acc eps, int64 n) {
    if (update::skipped(skip)) return;
    double lr = *rate * factor;
    acc step = (acc)(lr / (1 - update::power(beta1, *clock)));
    acc correct = (acc)(1 / (1 - update::power(beta2, *clock)));
    acc keep1 = (acc)beta1, rest1 = (acc)(1 - beta1), keep2 = (acc)beta2, rest2 = (acc)(1 - beta2);
    acc less = (acc)(1 - lr * shrink);
    for (int64 i = first_index(); i < n; i += index_step()) {
        acc g = update::gradient(w, dw, i, scale, decay, decayed);
        acc mean = m[i] * keep1 + g * rest1, size = v[i] * keep2 + g * g * rest2;
        m[i] = mean;
        v[i] = size;
        acc old = i < shrunk ? w[i] * less : w[i];
        update::keep(w, copy, i, old - mean * step / (sqrt(size * correct) + eps));
    }
}

// w <- (1 - amount) w, or with a rate (1 - rate amount) w
extern "C" __global__ void decay_step(
    acc* w, real* copy, const acc* rate, const int* skip, double amount, int64 n) {
    if (update::skipped(skip)) return;
    acc rest = (acc)(1 - (rate ? *rate * amount : amount));
    for (int64 i = first_index(); i < n; i += index_step()) update::keep(w, copy, i, w[i] * rest);
}

// average <- average + (1 - decay) (w - average)
extern "C" __global__ void average_step(
    acc* average, const acc* w, const int* skip, acc rest, int64 n) {
    if (update::skipped(skip)) return;
    for (int64 i = first_index(); i < n; i += index_step())
        average[i] += (w[i] - average[i]) * rest;
}

// Sum of squares, in two launches with a fixed order of additions: each block writes the sum of its
// part, then one block adds those up.  In double: squares of many small numbers beside large ones.
extern "C" __global__ void squares_of_blocks(const acc* x, double* partial, int64 n) {
    double sum = 0;
    for (int64 i = first_index(); i < n; i += index_step()) sum += (double)x[i] * x[i];
    sum = block_sum(sum);
    if (threadIdx.x == 0) partial[blockIdx.x] = sum;
}

// norm = |x| / loss scale, from the sums of the blocks, and what clips it:
//
//     scale = 1 / loss scale, times limit / norm where norm > limit (limit 0: no clipping)
//     skip = 1 where the norm isn't finite; the step is then left out
//
// `loss_scale`, `scale`, `skip` and `norm` may be null.
extern "C" __global__ void finish_norm(
    const double* partial, int blocks, const acc* loss_scale, acc limit, acc* norm, acc* scale,
    int* skip) {
    double sum = 0;
    for (int i = threadIdx.x; i < blocks; i += blockDim.x) sum += partial[i];
    sum = block_sum(sum);
    if (threadIdx.x) return;
    double unscale = loss_scale ? 1 / (double)*loss_scale : 1, length = sqrt(sum) * unscale;
    if (norm) *norm = (acc)length;
    if (scale) *scale = (acc)(limit > 0 && length > limit ? unscale * limit / length : unscale);
    if (skip) *skip = !(length <= 1.7976931348623157e308);  // infinite, or NaN
}

// x <- x / by: a gradient without the loss scale, for who reads it after the step.
extern "C" __global__ void take_back(acc* x, const acc* by, int64 n) {
    acc factor = 1 / *by;
    for (int64 i = first_index(); i < n; i += index_step()) x[i] *= factor;
}

// The clock of training: one step further, and the learning rate of that step.  `rates` is a table of
// the learning rates of the steps first + 1, first + 2, ...; after its end the last one stays.
extern "C" __global__ void tick(
    const acc* rates, int64 count, const int64* first, int64* clock, acc* rate) {
    if (blockIdx.x || threadIdx.x) return;
    int64 step = ++*clock, place = step - 1 - *first;
    *rate = rates[place < 0 ? 0 : place < count ? place : count - 1];
}

// Counters of random numbers go on likewise.
extern "C" __global__ void count_on(int64* counters, int64 n) {
    for (int64 i = first_index(); i < n; i += index_step()) counters[i]++;
}

// The same without a table, for a single step.
extern "C" __global__ void set_step(int64 step, acc lr, int64* clock, acc* rate) {
    if (blockIdx.x || threadIdx.x) return;
    *clock = step;
    *rate = lr;
}

// A loss scale that finds itself (Micikevicius et al. 2018, section 3.2): half of it after a step
// that had to be skipped, twice of it after `patience` steps that had not.
extern "C" __global__ void adjust_loss_scale(
    acc* loss_scale, int64* good, const int* skip, int64 patience, acc least, acc most) {
    if (blockIdx.x || threadIdx.x) return;
    acc scale = *loss_scale;
    if (*skip) {
        *good = 0;
        *loss_scale = scale / 2 < least ? least : scale / 2;
    } else if (++*good >= patience) {
        *good = 0;
        *loss_scale = scale * 2 > most ? most : scale * 2;
    }
}
