// Windows that slide over pictures (N, H, W, C): which values a thread makes.

namespace pooling {

struct Window {
    int H, W, C, OH, OW, KH, KW, SH, SW, top, left;
};

// Channels c to c + V - 1 of a pixel of picture n.
struct Place {
    int64 n;
    int row, column, c;
};

// The k-th place of pictures with so many rows and columns.  Divisions of 64 bits are slow: they
// are made only where 32 bits don't do.
template <class Whole>
__device__ __forceinline__ Place take_apart(Whole k, int rows, int columns, int packs) {
    Place p;
    p.c = int(k % packs);
    k /= packs;
    p.column = int(k % columns);
    k /= columns;
    p.row = int(k % rows);
    p.n = (int64)(k / rows);
    return p;
}

template <int V>
__device__ __forceinline__ Place place_of(int64 k, int rows, int columns, int C) {
    Place p = k < 0x7fffffff ? take_apart<uint32>((uint32)k, rows, columns, C / V)
                             : take_apart<int64>(k, rows, columns, C / V);
    p.c *= V;
    return p;
}

__device__ __forceinline__ int64 offset_of(int64 n, int row, int column, int rows, int columns,
                                           int C) {
    return ((n * rows + row) * columns + column) * C;
}

}  // namespace pooling
