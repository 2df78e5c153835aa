// Convolutions whose channels are cut into groups that don't see each other, depthwise ones above
// all: a thread for each result, and loops.  A group's products are too small for tiles.
//
// w: (KH, KW, C/G, O).  The filters of group k, O/G of them, see its C/G channels.

extern "C" __global__ void conv_groups_forward(
    const real* x, const real* w, const acc* b, real* y, int N, int H, int W, int C, int OH, int OW,
    int O, int KH, int KW, int SH, int SW, int DH, int DW, int top, int left, int groups, int relu) {
    int64 size = static_cast<int64>(N) * OH * OW * O;
    int inner = C / groups;
    for (int64 at = first_index(); at < size; at += index_step()) {
        int o = static_cast<int>(at % O), ow = static_cast<int>(at / O % OW);
        int oh = static_cast<int>(at / O / OW % OH);
        int64 n = at / O / OW / OH;
        int group = o / (O / groups);
        acc sum = 0;
        for (int i = 0; i < KH; i++) {
            int h = oh * SH + i * DH - top;
            if (h < 0 || h >= H) continue;
            for (int j = 0; j < KW; j++) {
                int v = ow * SW + j * DW - left;
                if (v < 0 || v >= W) continue;
                const real* pixel = x + ((n * H + h) * W + v) * C + group * inner;
                const real* filter = w + static_cast<int64>(i * KW + j) * inner * O + o;
                for (int c = 0; c < inner; c++) sum += load(pixel + c) * load(filter + c * O);
            }
        }
        if (b != nullptr) sum += b[o];
        store(y + at, relu && sum < 0 ? acc(0) : sum);
    }
}

// dx[h] = the sum over taps i of dy[(h + top - i*DH) / SH] w[i], where the division leaves nothing.
extern "C" __global__ void conv_groups_inputs(
    const real* dy, const real* w, real* dx, int N, int H, int W, int C, int OH, int OW, int O,
    int KH, int KW, int SH, int SW, int DH, int DW, int top, int left, int groups) {
    int64 size = static_cast<int64>(N) * H * W * C;
    int inner = C / groups, filters = O / groups;
    for (int64 at = first_index(); at < size; at += index_step()) {
        int c = static_cast<int>(at % C), v = static_cast<int>(at / C % W);
        int h = static_cast<int>(at / C / W % H);
        int64 n = at / C / W / H;
        int group = c / inner;
        acc sum = 0;
        for (int i = 0; i < KH; i++) {
            int down = h + top - i * DH;
            if (down < 0 || down % SH != 0 || down / SH >= OH) continue;
            for (int j = 0; j < KW; j++) {
                int right = v + left - j * DW;
                if (right < 0 || right % SW != 0 || right / SW >= OW) continue;
                const real* slope =
                    dy + ((n * OH + down / SH) * OW + right / SW) * O + group * filters;
                const real* filter = w + (static_cast<int64>(i * KW + j) * inner + c % inner) * O +
                                     group * filters;
                for (int o = 0; o < filters; o++) sum += load(slope + o) * load(filter + o);
            }
        }
        store(dx + at, sum);
    }
}

// parts: (count, KH, KW, C/G, O), each of `share` pixels of y, which conv_sum adds up.
extern "C" __global__ void conv_groups_weights(
    const real* x, const real* dy, acc* parts, int N, int H, int W, int C, int OH, int OW, int O,
    int KH, int KW, int SH, int SW, int DH, int DW, int top, int left, int groups, int share,
    int count) {
    int inner = C / groups, pixels = N * OH * OW;
    int64 size = static_cast<int64>(KH) * KW * inner * O;
    for (int64 at = first_index(); at < size * count; at += index_step()) {
        int part = static_cast<int>(at / size), o = static_cast<int>(at % O);
        int k = static_cast<int>(at % size / O);
        int c = k % inner + o / (O / groups) * inner, i = k / inner / KW, j = k / inner % KW;
        int end = min((part + 1) * share, pixels);
        acc sum = 0;
        for (int p = part * share; p < end; p++) {
            int h = p / OW % OH * SH + i * DH - top, v = p % OW * SW + j * DW - left;
            if (h < 0 || h >= H || v < 0 || v >= W) continue;
            sum += load(x + ((static_cast<int64>(p / OW / OH) * H + h) * W + v) * C + c) *
                   load(dy + static_cast<int64>(p) * O + o);
        }
        parts[at] = sum;
    }
}
