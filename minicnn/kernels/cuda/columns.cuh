// Sums over the rows of a matrix (M, C), for each column: what normalization, biases and global
// averages need.
//
// A block of 256 threads lies over the matrix as a tile: `across` threads side by side, V columns
// each, and 256 / across rows.  It walks down through its part of the rows, each thread with sums
// of its own, and adds up the threads at the end.  Two passes: the blocks of many parts leave a
// line of partial sums each, and a second kernel adds those lines.  One pass would need atomic
// additions, whose order, and so whose last bits, differ from run to run.

namespace columns {

const int TILE = 256;  // threads of a block

// Where a thread of a tile stands.
struct Tile {
    int part, parts, across, x, y, rows;
    int64 first, stop;  // the rows of the part

    __device__ Tile(int64 M, int parts_, int across_) {
        parts = parts_, across = across_, rows = TILE / across_;
        part = blockIdx.x % parts_;
        x = threadIdx.x % across_, y = threadIdx.x / across_;
        first = M * part / parts_, stop = M * (part + 1) / parts_;
    }

    // The first column of this thread in a tile of so many columns a thread, which starts the loop
    //     for (int c = start(V); c - x * V < C; c += step(V))
    // over the tiles that are this block's: all threads of a block leave it together.
    __device__ int start(int V) const { return (int(blockIdx.x) / parts * across + x) * V; }
    __device__ int step(int V) const { return int(gridDim.x) / parts * across * V; }
};

// Add up V sums of each thread over the rows of the tile; the threads of row 0 get the result.
// `room`: shared memory of TILE * V values.
template <int V>
__device__ __forceinline__ void sum_tile(const Tile& t, acc* sums, acc* room) {
#pragma unroll
    for (int e = 0; e < V; e++) room[e * TILE + threadIdx.x] = sums[e];
    for (int half = t.rows / 2; half > 0; half /= 2) {
        __syncthreads();
        if (t.y < half) {
#pragma unroll
            for (int e = 0; e < V; e++)
                room[e * TILE + threadIdx.x] += room[e * TILE + threadIdx.x + half * t.across];
        }
    }
    __syncthreads();  // nobody reads any more what others wrote: the room may be used again
#pragma unroll
    for (int e = 0; e < V; e++) sums[e] = room[e * TILE + threadIdx.x];
}

// Columns c to c + V - 1 of a line of numbers in `acc`; `otherwise` where there is no line.
template <int V>
__device__ __forceinline__ void load_columns(const acc* line, int c, int C, acc otherwise, acc* v) {
#pragma unroll
    for (int e = 0; e < V; e++) v[e] = line && c + e < C ? line[c + e] : otherwise;
}

}  // namespace columns
