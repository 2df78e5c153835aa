// Sixteen bytes at once: what the kernels of layers share.
//
// Memory is fast when a thread asks for 16 bytes at a time: 4 floats, 2 doubles, or 8 values of 16
// bits.  That needs addresses that are multiples of 16.  So a kernel has one body for V values a
// thread, and runs it with V = PACK where the addresses and sizes allow and with V = 1 elsewhere.
// All threads ask the same question and get the same answer: it costs nothing.

const int PACK = Pack::size;

// Whether packs can be read at p.  Null pointers, of what is absent, disturb nobody.
__device__ __forceinline__ bool even(const void* p) { return ((uint64)p & 15) == 0; }

template <int V>
__device__ __forceinline__ void load_values(const real* p, acc* v) {
    if constexpr (V == 1) {
        v[0] = load(p);
    } else {
        Pack pack = load_pack(p);
#pragma unroll
        for (int i = 0; i < V; i++) v[i] = widen(pack.of[i]);
    }
}

template <int V>
__device__ __forceinline__ void store_values(real* p, const acc* v) {
    if constexpr (V == 1) {
        store(p, v[0]);
    } else {
        Pack pack;
#pragma unroll
        for (int i = 0; i < V; i++) pack.of[i] = narrow(v[i]);
        store_pack(p, pack);
    }
}

// V small numbers as V bytes, in one store.
template <int V>
__device__ __forceinline__ void store_bytes(uint8* p, const int* values) {
    uint64 all = 0;
#pragma unroll
    for (int e = 0; e < V; e++) all |= (uint64)values[e] << (8 * e);
    if (V == 8) *(uint64*)p = all;
    if (V == 4) *(uint32*)p = (uint32)all;
    if (V == 2) *(uint16*)p = (uint16)all;
    if (V == 1) *p = (uint8)all;
}

template <int V>
__device__ __forceinline__ void load_bytes(const uint8* p, int* values) {
    uint64 all = V == 8   ? *(const uint64*)p
                 : V == 4 ? *(const uint32*)p
                 : V == 2 ? *(const uint16*)p
                          : *p;
#pragma unroll
    for (int e = 0; e < V; e++) values[e] = int(all >> (8 * e) & 255);
}

// y[i] = f(x[i]): packs first, and what is left of n value by value.  y may be x.
template <class F>
__device__ __forceinline__ void map(const real* x, real* y, int64 n, F f) {
    int64 packs = even(x) && even(y) ? n / PACK : 0;
    for (int64 k = first_index(); k < packs; k += index_step()) {
        acc v[PACK];
        load_values<PACK>(x + k * PACK, v);
#pragma unroll
        for (int i = 0; i < PACK; i++) v[i] = f(v[i]);
        store_values<PACK>(y + k * PACK, v);
    }
    for (int64 k = packs * PACK + first_index(); k < n; k += index_step())
        store(y + k, f(load(x + k)));
}

// y[i] = f(a[i], b[i]): the same with two.
template <class F>
__device__ __forceinline__ void map(const real* a, const real* b, real* y, int64 n, F f) {
    int64 packs = even(a) && even(b) && even(y) ? n / PACK : 0;
    for (int64 k = first_index(); k < packs; k += index_step()) {
        acc v[PACK], w[PACK];
        load_values<PACK>(a + k * PACK, v);
        load_values<PACK>(b + k * PACK, w);
#pragma unroll
        for (int i = 0; i < PACK; i++) v[i] = f(v[i], w[i]);
        store_values<PACK>(y + k * PACK, v);
    }
    for (int64 k = packs * PACK + first_index(); k < n; k += index_step())
        store(y + k, f(load(a + k), load(b + k)));
}
