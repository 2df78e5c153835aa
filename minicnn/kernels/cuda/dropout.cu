// Dropout (functional/dropout.py) by a generator that counts.
//
// Whether element i of layer l is switched off in step t is a function of (seed, l, t, i) and of
// nothing else: no state is kept, no mask is stored, and backward draws the same numbers again,
// which costs less than reading a mask from memory.  The step is read from the device, so that a
// recorded sequence of launches draws anew each time it is replayed.

namespace dropping {

const int GROUP =
    PACK > 4 ? PACK : 4;  // elements a thread does at once: a count gives four numbers

// What four elements are multiplied with: 0 or 1 / (1 - rate).
struct Mask {
    uint32 layer, step_low, step_high;
    uint2 key;
    float rate;
    acc scale;

    __device__ Mask(acc rate_, uint64 seed, int layer_, const int64* clock) {
        uint64 step = (uint64)*clock;
        layer = (uint32)layer_, step_low = (uint32)step, step_high = (uint32)(step >> 32);
        key = make_uint2((uint32)seed, (uint32)(seed >> 32));
        rate = float(rate_), scale = 1 / (1 - rate_);
    }

    __device__ void of(int64 first, acc* factors) const {
        uint4 bits = philox(make_uint4((uint32)(first / 4), layer, step_low, step_high), key);
        factors[0] = uniform(bits.x) >= rate ? scale : acc(0);
        factors[1] = uniform(bits.y) >= rate ? scale : acc(0);
        factors[2] = uniform(bits.z) >= rate ? scale : acc(0);
        factors[3] = uniform(bits.w) >= rate ? scale : acc(0);
    }
};

}  // namespace dropping

// y = x mask / (1 - rate).  Backward is the same with dy and dx.  Elements are fewer than 2^34.
extern "C" __global__ void dropout(const real* x, real* y, acc rate, uint64 seed, int layer,
                                   const int64* clock, int64 n) {
    using namespace dropping;
    Mask mask(rate, seed, layer, clock);
    bool packed = even(x) && even(y);
    for (int64 i = first_index() * GROUP; i < n; i += index_step() * GROUP) {
        acc factors[GROUP], v[GROUP];
#pragma unroll
        for (int k = 0; k < GROUP; k += 4) mask.of(i + k, factors + k);
        if (packed && i + GROUP <= n) {
#pragma unroll
            for (int k = 0; k < GROUP; k += PACK) {
                load_values<PACK>(x + i + k, v);
#pragma unroll
                for (int e = 0; e < PACK; e++) v[e] *= factors[k + e];
                store_values<PACK>(y + i + k, v);
            }
        } else {
            for (int k = 0; k < GROUP && i + k < n; k++)
                store(y + i + k, load(x + i + k) * factors[k]);
        }
    }
}
