// Losses (functional/loss.py): a number for the batch, and the gradient with which the way back
// begins.

namespace losses {

// Whether score a at place i comes before b at place j in the order of argmax: the largest, of
// equals the first, and what isn't a number before all others, as in NumPy.
__device__ __forceinline__ bool comes_first(acc a, int i, acc b, int j) {
    bool odd = a != a, other = b != b;
    if (odd != other) return odd;
    if (!odd && a != b) return a > b;
    return i < j;
}

// The place of the first largest of K values, which `value` gives by their place, found by a warp.
template <class F>
__device__ __forceinline__ int argmax_by_warp(int K, F value) {
    int lane = threadIdx.x % 32, place = lane < K ? lane : 0;
    acc best = value(place);
    for (int k = lane + 32; k < K; k += 32) {
        acc other = value(k);
        if (comes_first(other, k, best, place)) best = other, place = k;
    }
    for (int step = 16; step > 0; step /= 2) {
        acc other = __shfl_xor_sync(0xffffffffu, best, step);
        int there = __shfl_xor_sync(0xffffffffu, place, step);
        if (comes_first(other, there, best, place)) best = other, place = there;
    }
    return place;
}

// What a row of labels says: a class id, or a distribution.  One of the two pointers is null.
struct Labels {
    const int64* ids;
    const acc* shares;
    int K;
    acc smoothing;

    // The target of class k in picture n: (1 - e) t + e / K.
    __device__ acc target(int64 n, int k) const {
        acc t = ids ? acc(ids[n] == k) : shares[n * K + k];
        return smoothing != 0 ? t * (1 - smoothing) + smoothing / K : t;
    }

    __device__ int class_of(int64 n) const {  // by the whole warp
        const acc* row = shares + n * K;
        return ids ? int(ids[n]) : argmax_by_warp(K, [=](int k) { return row[k]; });
    }
};

}  // namespace losses

// Softmax cross-entropy, a warp for each picture: its loss, its gradient, and whether its largest
// score is the right one.  All three results may be left out, as null.
//
//     dlogits = upstream weight / N (p sum(t) - t)
//
// The logits come from memory once; the later readings of the row find them in the cache.
extern "C" __global__ void cross_entropy_rows(const real* logits, const int64* ids,
                                              const acc* shares, const acc* class_weight,
                                              acc smoothing, const acc* upstream, acc* losses,
                                              int* right, real* dlogits, int64 N, int K) {
    using namespace losses;
    int lane = threadIdx.x % 32;
    Labels labels = {ids, shares, K, smoothing};
    for (int64 n = first_index() / 32; n < N; n += index_step() / 32) {
        const real* row = logits + n * K;
        acc most = load(row);
        for (int k = lane; k < K; k += 32) most = load(row + k) > most ? load(row + k) : most;
        most = warp_max(most);
        acc total = 0, targets = 0, weight = 0;
        for (int k = lane; k < K; k += 32) {
            total += exp(load(row + k) - most);
            targets += labels.target(n, k);
            if (class_weight)
                weight += class_weight[k] * (ids ? acc(ids[n] == k) : shares[n * K + k]);
        }
        acc log_total = log(warp_sum(total));
        targets = warp_sum(targets);
        weight = class_weight ? warp_sum(weight) : acc(1);
        acc scale = weight / acc(N) * (upstream ? *upstream : acc(1)), loss = 0;
        for (int k = lane; k < K; k += 32) {
            acc t = labels.target(n, k), log_p = load(row + k) - most - log_total;
            if (t != 0) loss -= t * log_p;  // an impossible class that isn't meant: 0, not NaN
            if (dlogits) store(dlogits + n * K + k, (exp(log_p) * targets - t) * scale);
        }
        loss = warp_sum(loss) * weight;
        if (losses && lane == 0) losses[n] = loss;
        if (right) {
            int same =
                argmax_by_warp(K, [=](int k) { return load(row + k); }) == labels.class_of(n);
            if (lane == 0) right[n] = same;
        }
    }
}

// The same question by itself: is the largest score of each row that of the label?
extern "C" __global__ void right_rows(const real* logits, const int64* ids, const acc* shares,
                                      int* right, int64 N, int K) {
    using namespace losses;
    int lane = threadIdx.x % 32;
    Labels labels = {ids, shares, K, 0};
    for (int64 n = first_index() / 32; n < N; n += index_step() / 32) {
        const real* row = logits + n * K;
        int same = argmax_by_warp(K, [=](int k) { return load(row + k); }) == labels.class_of(n);
        if (lane == 0) right[n] = same;
    }
}

// loss = factor * the sum of `losses`, by one block; then the meter's counters take it in:
// loss_sum += loss * N, correct += the sum of `right`.  Without `losses` the loss is read.
extern "C" __global__ void loss_finish(const acc* losses, int64 count, double factor, acc* loss,
                                       const int* right, double* loss_sum, int64* correct,
                                       int64 N) {
    if (losses) {
        double total = 0;
        for (int64 k = threadIdx.x; k < count; k += blockDim.x) total += double(losses[k]);
        total = block_reduce<Add>(total) * factor;
        if (threadIdx.x == 0) *loss = acc(total);
    }
    if (right) {
        int64 hits = 0;
        for (int64 n = threadIdx.x; n < N; n += blockDim.x) hits += right[n];
        hits = block_reduce<Add>(hits);
        if (threadIdx.x == 0) *correct += hits;
    }
    if (loss_sum && threadIdx.x == 0) *loss_sum += double(*loss) * double(N);
}

// (y - target)^2 summed by each block, and dy = upstream 2 / size (y - target).  The target is an
// array like y, or one in `acc`, or class ids, of which each is a 1 among K - 1 zeros.
extern "C" __global__ void squared_errors(const real* y, const real* target, const acc* shares,
                                          const int64* ids, const acc* upstream, acc* sums,
                                          real* dy, int64 size, int K) {
    acc sum = 0, scale = acc(2) / acc(size) * (upstream ? *upstream : acc(1));
    for (int64 k = first_index(); k < size; k += index_step()) {
        acc wanted = target ? load(target + k) : shares ? shares[k] : acc(ids[k / K] == k % K);
        acc difference = load(y + k) - wanted;
        sum += difference * difference;
        if (dy) store(dy + k, difference * scale);
    }
    if (!sums) return;
    sum = block_reduce<Add>(sum);
    if (threadIdx.x == 0) sums[blockIdx.x] = sum;
}

// l1 |w| + l2 w^2 summed by each block.
extern "C" __global__ void penalties(const real* w, acc l1, acc l2, acc* sums, int64 size) {
    acc sum = 0;
    for (int64 k = first_index(); k < size; k += index_step()) {
        acc v = load(w + k);
        sum += l1 * fabs(v) + l2 * v * v;
    }
    sum = block_reduce<Add>(sum);
    if (threadIdx.x == 0) sums[blockIdx.x] = sum;
}

// dw = upstream (l1 sign(w) + 2 l2 w); upstream null is 1.
extern "C" __global__ void penalty_backward(const real* w, acc l1, acc l2, const acc* upstream,
                                            real* dw, int64 size) {
    acc scale = upstream ? *upstream : acc(1);
    map(w, dw, size, [=](acc v) {
        acc sign = v > 0 ? acc(1) : v < 0 ? acc(-1) : v;  // of 0 it is 0, of NaN NaN
        return (sign * l1 + v * (2 * l2)) * scale;
    });
}
