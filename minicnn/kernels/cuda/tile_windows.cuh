// The sizes of a convolution, and the windows that its kernels gather.

namespace conv {

// What every kernel of a convolution is told, in this order; conv.py's `sizes` gives them.
struct Sizes {
    int N, H, W, C, OH, OW, O, KH, KW, SH, SW, DH, DW, top, left;
};
#define SIZES_GIVEN {N, H, W, C, OH, OW, O, KH, KW, SH, SW, DH, DW, top, left}

// One direction, vertical or horizontal, of windows that slide over a picture:
//
//     tap i of the window at place a reads pixel   first + a * step + i * tap
//     and is weighed by the filter's tap           filter + i * filter_step
//     the sum goes to pixel                        out + a * out_step
//
struct Axis {
    int size;    // of the picture that is read
    int places;  // of the window
    int taps;
    int first, step, tap;
    int filter, filter_step;
    int out, out_step;
};

// Forward: y[oh] = sum_i x[oh*S + i*D - margin] w[i].
__device__ __forceinline__ Axis forward_axis(int size, int places, int taps, int S, int D,
                                             int margin) {
    return {size, places, taps, -margin, S, D, 0, 1, 0, 1};
}

// Backward to the input: dx[h] = sum_i dy[(h + margin - i*D) / S] w[i], over the taps i for which
// the division leaves nothing.  Which ones these are depends on h mod S alone: its phase.  The
// pixels of one phase, h = phase + a*S, have every `each`-th tap in common, and the division
// becomes
//
//     (phase + margin - i0*D) / S + a - k * (each*D/S)        for tap i = i0 + k*each
//
// which is once more a window that slides by equal steps.  With stride 1 there is one phase: the
// convolution of dy with turned filters that textbooks have.
__device__ __forceinline__ Axis backward_axis(int size, int out_size, int taps, int S, int D,
                                              int margin, int phase) {
    int each = 1, first = 0;
#pragma unroll 1
    while (each * D % S != 0) each++;  // S / gcd(S, D)
#pragma unroll 1
    while (first < each && (phase + margin - first * D) % S != 0) first++;
    int places = phase < size ? (size - phase + S - 1) / S : 0;
    // No tap of this phase, or none that the filter has: dx is zero.
    int count = first < each && first < taps ? (taps - first + each - 1) / each : 0;
    return {out_size, places, count, (phase + margin - first * D) / S, 1, -(each * D / S),
            first,    each,   phase, S};
}

// Windows of pictures of `channels` values a pixel; value k of a window is channel
// k % channels of tap k / channels.
struct Windows {
    Axis h, w;
    int channels;

    __device__ __forceinline__ int depth() const { return h.taps * w.taps * channels; }
    __device__ __forceinline__ int places() const { return h.places * w.places; }
};

constexpr int NOWHERE = -32768;  // a row so far above that no tap reaches the picture

// Where one window starts.
struct Window {
    const real* start;  // its first pixel, which may be in the margins: beside the picture
    short h, w;         // 16 bits are enough (im2col.py looks after that); registers are scarce

    __device__ __forceinline__ Window() {}
    // Window m of all windows of all pictures; beyond the last one (m >= count) all is margin.
    __device__ __forceinline__ Window(const real* pictures, const Windows& all, Divider places,
                                      Divider per_row, int m, int count) {
        int place = 0, b = 0;
        int n = places.split(m < count ? m : 0, place);
        int a = per_row.split(place, b);
        int row = all.h.first + a * all.h.step, column = all.w.first + b * all.w.step;
        start = pictures +
                (static_cast<int64>(n * all.h.size + row) * all.w.size + column) * all.channels;
        h = static_cast<short>(m < count ? row : NOWHERE);
        w = static_cast<short>(column);
    }
    // Whether there is a pixel so far from the start.  (& instead of &&: no branch.)
    __device__ __forceinline__ bool inside(const Windows& all, int down, int right) const {
        return (static_cast<unsigned>(h + down) < static_cast<unsigned>(all.h.size)) &
               (static_cast<unsigned>(w + right) < static_cast<unsigned>(all.w.size));
    }
};

// Value k of a window: its tap and its channel.
struct Tap {
    int i, j, channel;

    __device__ __forceinline__ Tap(const Windows& all, Divider channels, Divider taps_w, int k) {
        i = taps_w.split(channels.split(k, channel), j);
    }
    // Go on by so many values.
    __device__ __forceinline__ void advance(const Windows& all, int values) {
        for (channel += values; channel >= all.channels; channel -= all.channels)
            if (++j == all.w.taps) j = 0, i++;
    }
    __device__ __forceinline__ bool inside(const Windows& all, const Window& window) const {
        return window.inside(all, i * all.h.tap, j * all.w.tap);
    }
    // How far the value lies behind the start of any window.
    __device__ __forceinline__ int offset(const Windows& all) const {
        return (i * all.h.tap * all.w.size + j * all.w.tap) * all.channels + channel;
    }
    // The row of the filters, (KH*KW*channels, O), that weighs it.
    __device__ __forceinline__ int filter(const Windows& all, int KW) const {
        return ((all.h.filter + i * all.h.filter_step) * KW + all.w.filter +
                j * all.w.filter_step) * all.channels + channel;
    }
};

}  // namespace conv
