// Batches: pictures that lie on the GPU as bytes, gathered in the order of the epoch, varied, and
// handed on as bytes or as normalized numbers, in one pass.
//
// What happens to a picture (data/augment.py: RandomFlip, RandomCrop, Cutout, in this order) is a
// function of (seed, its place in the epoch, step); which ones are mirrored may be given instead
// (AlternatingFlip).  All threads of its block draw the same numbers: that is cheaper than to draw
// once and to wait for each other.

namespace batches {

// Where dropout has its layer's number, which is smaller: no layer draws what a picture draws.
const uint32 FIRST_DRAW = 0x80000000u;

struct Options {
    int flip;               // 0 or 1: by chance
    const uint8* mirrored;  // null, or 0 or 1 for each picture of the data set: not by chance
    int crop, cutout;       // pixels of shift either way; side of the square, 0: none
};

// What is done to one picture.
struct Change {
    bool flip;
    int down, right;      // the shift
    int top, left, size;  // of the square that is covered
};

// A number from 0 to n - 1: the upper half of bits * n.
__device__ __forceinline__ int below(int n, uint32 bits) { return (int)__umulhi(bits, (uint32)n); }

__device__ __forceinline__ Change draw(const Options& options, uint64 seed, int64 step, int64 place,
                                       int64 from, int H, int W) {
    uint2 key = make_uint2((uint32)seed, (uint32)(seed >> 32));
    uint32 low = (uint32)step, high = (uint32)((uint64)step >> 32);
    uint4 a = philox(make_uint4((uint32)place, FIRST_DRAW, low, high), key);
    uint4 b = philox(make_uint4((uint32)place, FIRST_DRAW + 1, low, high), key);
    Change change;
    change.flip = options.mirrored ? options.mirrored[from] : options.flip && below(2, a.x);
    change.down = below(2 * options.crop + 1, a.y) - options.crop;
    change.right = below(2 * options.crop + 1, a.z) - options.crop;
    change.top = below(H, b.x) - options.cutout / 2;
    change.left = below(W, b.y) - options.cutout / 2;
    change.size = options.cutout;
    return change;
}

// Fold a place back into 0 ... size - 1, as mirrors at the first and last pixel would.
__device__ __forceinline__ int mirror(int place, int size) {
    int last = size - 1, folded = last - abs(last - abs(place));
    return folded < 0 ? 0 : folded;
}

// Do `put(number of the first byte, its channel, values, count)` for all bytes of a block's
// pictures, up to four neighbours at a time.
template <class Put>
__device__ __forceinline__ void gather(const uint8* pictures, const uint32* labels,
                                       const int64* order, const int64* where, int64 first,
                                       int64 count, uint32* y, int words, int N, int H, int W,
                                       int C, const Options& options, int fill, uint64 seed,
                                       const int64* clock, int64 step, Put put) {
    int bytes = H * W * C;
    if (where) first = *where;
    if (clock) step = *clock;
    for (int n = blockIdx.x; n < N; n += gridDim.x) {
        int64 place = first + n, from = order ? order[place % count] : place % count;
        const uint8* picture = pictures + from * bytes;
        if (labels)
            for (int k = threadIdx.x; k < words; k += blockDim.x)
                y[(int64)n * words + k] = labels[from * words + k];
        Change change = draw(options, seed, step, place, from, H, W);
        for (int k = threadIdx.x * 4; k < bytes; k += blockDim.x * 4) {
            int channel = k % C, column = k / C % W, row = k / C / W, values[4];
            int count = min(4, bytes - k), first_channel = channel;
            for (int e = 0; e < count; e++) {
                int down = row - change.top, right = column - change.left;
                bool hidden = down >= 0 && down < change.size && right >= 0 && right < change.size;
                int from_row = mirror(row + change.down, H);
                int from_column = mirror(column + change.right, W);
                if (change.flip) from_column = W - 1 - from_column;
                int64 at = ((int64)from_row * W + from_column) * C + channel;
                values[e] = hidden ? fill : (int)picture[at];
                if (++channel == C) {  // the next byte is of the next pixel, maybe of the next row
                    channel = 0;
                    if (++column == W) column = 0, row++;
                }
            }
            put((int64)n * bytes + k, first_channel, values, count);
        }
    }
}

}  // namespace batches

// x: bytes.  order: may be null, for "as they lie".  where, clock: may be null; else what they hold
// on the device counts instead of first and step.  labels: rows of 32-bit words, or null.
extern "C" __global__ void gather_bytes(const uint8* pictures, const void* labels,
                                        const int64* order, const int64* where, int64 first,
                                        int64 count, uint8* x, void* y, int words, int N, int H,
                                        int W, int C, int flip, const uint8* mirrored, int crop,
                                        int cutout, int fill, uint64 seed, const int64* clock,
                                        int64 step) {
    batches::gather(pictures, (const uint32*)labels, order, where, first, count, (uint32*)y, words,
                    N, H, W, C, batches::Options{flip, mirrored, crop, cutout}, fill, seed, clock,
                    step,
                    [=](int64 at, int, const int* values, int many) {
                        if (many == 4 && ((uint64)(x + at) & 3) == 0)
                            store_bytes<4>(x + at, values);
                        else
                            for (int e = 0; e < many; e++) x[at + e] = (uint8)values[e];
                    });
}

// x = (byte scale - mean) / std, as normalize_bytes does it (normalize.cu).
extern "C" __global__ void gather_normalized(const uint8* pictures, const void* labels,
                                             const int64* order, const int64* where, int64 first,
                                             int64 count, real* x, void* y, int words, int N, int H,
                                             int W, int C, int flip, const uint8* mirrored, int crop,
                                             int cutout, int fill, uint64 seed,
                                             const int64* clock, int64 step,
                                             const acc* mean, const acc* std, acc scale) {
    batches::gather(pictures, (const uint32*)labels, order, where, first, count, (uint32*)y, words,
                    N, H, W, C, batches::Options{flip, mirrored, crop, cutout}, fill, seed, clock,
                    step,
                    [=](int64 at, int c, const int* values, int many) {
                        for (int e = 0; e < many; e++) {
                            acc value = acc(values[e]) * (scale / std[c]) - mean[c] / std[c];
                            store(x + at + e, value);
                            c = c + 1 == C ? 0 : c + 1;
                        }
                    });
}
