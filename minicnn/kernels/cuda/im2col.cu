// The windows of pictures written out as a matrix, and a matrix of windows added up to pictures.
//
//     cols[n, oh, ow, i*KW + j, c] = x[n, oh*SH + i*DH - top, ow*SW + j*DW - left, c]
//
// Both move values and hardly compute, so they go along the channels in units of 16 bytes where
// the channels are a multiple of that (`units`), and value by value where they aren't.  The grid's
// y counts pictures; inside of one, 32 bits are enough for every index.

namespace conv {

template <int WIDTH>
struct Values {
    real of[WIDTH];
};
template <>
struct Values<VEC> : Pack {};

template <int WIDTH>
__device__ __forceinline__ void write_windows(const real* x, real* cols, const Sizes& s) {
    int across = s.C / WIDTH, taps = s.KH * s.KW, per_picture = s.OH * s.OW * taps * across;
    Divider of_across(across), of_taps(taps), of_KW(s.KW), of_OW(s.OW);
    for (int n = blockIdx.y; n < s.N; n += gridDim.y) {
        const real* picture = x + static_cast<int64>(n) * s.H * s.W * s.C;
        real* to = cols + static_cast<int64>(n) * per_picture * WIDTH;
        for (int i = blockIdx.x * blockDim.x + threadIdx.x; i < per_picture;
             i += gridDim.x * blockDim.x) {
            int unit = 0, tap = 0, column = 0, ow = 0;
            int place = of_taps.split(of_across.split(i, unit), tap);
            int row = of_KW.split(tap, column), oh = of_OW.split(place, ow);
            int h = oh * s.SH + row * s.DH - s.top, w = ow * s.SW + column * s.DW - s.left;
            Values<WIDTH> values = {};
            if (h >= 0 && h < s.H && w >= 0 && w < s.W)
                values = *(const Values<WIDTH>*)(picture + (h * s.W + w) * s.C + unit * WIDTH);
            *(Values<WIDTH>*)(to + static_cast<int64>(i) * WIDTH) = values;
        }
    }
}

// Every pixel gathers the windows that it is in, tap by tap: the order of the sum is fixed, and no
// two threads write to one place.
template <int WIDTH>
__device__ __forceinline__ void add_windows(const real* cols, real* x, const Sizes& s) {
    int across = s.C / WIDTH, per_picture = s.H * s.W * across;
    Divider of_across(across), of_W(s.W), of_SH(s.SH), of_SW(s.SW);
    for (int n = blockIdx.y; n < s.N; n += gridDim.y) {
        const real* windows = cols + static_cast<int64>(n) * s.OH * s.OW * s.KH * s.KW * s.C;
        real* picture = x + static_cast<int64>(n) * s.H * s.W * s.C;
        for (int i = blockIdx.x * blockDim.x + threadIdx.x; i < per_picture;
             i += gridDim.x * blockDim.x) {
            int unit = 0, w = 0;
            int h = of_W.split(of_across.split(i, unit), w);
            acc sum[WIDTH] = {};
            for (int a = 0; a < s.KH; a++) {
                int down = h + s.top - a * s.DH, past = 0;
                int oh = of_SH.split(max(down, 0), past);
                if (down < 0 || past != 0 || oh >= s.OH) continue;
                for (int b = 0; b < s.KW; b++) {
                    int right = w + s.left - b * s.DW;
                    int ow = of_SW.split(max(right, 0), past);
                    if (right < 0 || past != 0 || ow >= s.OW) continue;
                    int64 tap = static_cast<int64>(oh * s.OW + ow) * s.KH * s.KW + a * s.KW + b;
                    Values<WIDTH> values =
                        *(const Values<WIDTH>*)(windows + tap * s.C + unit * WIDTH);
                    for (int e = 0; e < WIDTH; e++) sum[e] += widen(values.of[e]);
                }
            }
            Values<WIDTH> result;
            for (int e = 0; e < WIDTH; e++) result.of[e] = narrow(sum[e]);
            *(Values<WIDTH>*)(picture + static_cast<int64>(i) * WIDTH) = result;
        }
    }
}

}  // namespace conv

extern "C" __global__ void im2col(
    const real* x, real* cols, int N, int H, int W, int C, int OH, int OW, int O, int KH, int KW,
    int SH, int SW, int DH, int DW, int top, int left, int units) {
    if (units)
        conv::write_windows<conv::VEC>(x, cols, SIZES_GIVEN);
    else
        conv::write_windows<1>(x, cols, SIZES_GIVEN);
}

extern "C" __global__ void col2im(
    const real* cols, real* x, int N, int H, int W, int C, int OH, int OW, int O, int KH, int KW,
    int SH, int SW, int DH, int DW, int top, int left, int units) {
    if (units)
        conv::add_windows<conv::VEC>(cols, x, SIZES_GIVEN);
    else
        conv::add_windows<1>(cols, x, SIZES_GIVEN);
}
