// Passes that treat each element by itself: copies, sums, multiples, casts.
//
// They do nothing but read and write memory, and memory is fastest in pieces of 16 bytes (`Pack`).
// The last elements, fewer than a pack, are done one by one; and so are all, where an array begins
// elsewhere than at a multiple of 16.

namespace elementwise {

__device__ bool aligned(const void* p) { return (uint64)p % sizeof(Pack) == 0; }

// Do something to n elements: of_pack(i) to those from i on, of_one(i) to one.
template <class OfPack, class OfOne>
__device__ void each(int64 n, bool in_packs, OfPack of_pack, OfOne of_one) {
    int64 packs = in_packs ? n / Pack::size : 0;
    for (int64 i = first_index(); i < packs; i += index_step()) of_pack(i * Pack::size);
    for (int64 i = packs * Pack::size + first_index(); i < n; i += index_step()) of_one(i);
}

}  // namespace elementwise

// y = x
extern "C" __global__ void copy_elements(const real* x, real* y, int64 n) {
    elementwise::each(
        n, elementwise::aligned(x) && elementwise::aligned(y),
        [=](int64 i) { store_pack(y + i, load_pack(x + i)); }, [=](int64 i) { y[i] = x[i]; });
}

// y = a + b
extern "C" __global__ void add_elements(const real* a, const real* b, real* y, int64 n) {
    elementwise::each(
        n, elementwise::aligned(a) && elementwise::aligned(b) && elementwise::aligned(y),
        [=](int64 i) {
            Pack left = load_pack(a + i), right = load_pack(b + i);
            for (int k = 0; k < Pack::size; k++)
                left.of[k] = narrow(widen(left.of[k]) + widen(right.of[k]));
            store_pack(y + i, left);
        },
        [=](int64 i) { store(y + i, load(a + i) + load(b + i)); });
}

// y = factor x
extern "C" __global__ void scale_elements(const real* x, acc factor, real* y, int64 n) {
    elementwise::each(
        n, elementwise::aligned(x) && elementwise::aligned(y),
        [=](int64 i) {
            Pack pack = load_pack(x + i);
            for (int k = 0; k < Pack::size; k++) pack.of[k] = narrow(factor * widen(pack.of[k]));
            store_pack(y + i, pack);
        },
        [=](int64 i) { store(y + i, factor * load(x + i)); });
}

// y = value
extern "C" __global__ void fill_elements(real* y, acc value, int64 n) {
    for (int64 i = first_index(); i < n; i += index_step()) store(y + i, value);
}
extern "C" __global__ void fill_sums(acc* y, acc value, int64 n) {
    for (int64 i = first_index(); i < n; i += index_step()) y[i] = value;
}

// The copy of the parameters that products read: rounded to the storage type.
extern "C" __global__ void round_elements(const acc* master, real* copy, int64 n) {
    for (int64 i = first_index(); i < n; i += index_step()) store(copy + i, master[i]);
}
extern "C" __global__ void widen_elements(const real* x, acc* y, int64 n) {
    for (int64 i = first_index(); i < n; i += index_step()) y[i] = load(x + i);
}

// Some channels of pictures, (rows, width), and a piece of their channels, (rows, piece) from
// channel `first` on: into them, out of them, or added to what is there (gradients of branches).
extern "C" __global__ void insert_channels(
    const real* part, real* whole, int64 rows, int piece, int width, int first) {
    for (int64 i = first_index(); i < rows * piece; i += index_step())
        whole[i / piece * width + first + i % piece] = part[i];
}
extern "C" __global__ void extract_channels(
    const real* whole, real* part, int64 rows, int piece, int width, int first) {
    for (int64 i = first_index(); i < rows * piece; i += index_step())
        part[i] = whole[i / piece * width + first + i % piece];
}
