// The matrix instructions and asynchronous copies of tensor.h.
#include "fibers.cpp"
#include "cuda.h"

namespace emulation {

struct Fragments { float* d; const unsigned *a, *b; };

template <class Element> void multiply(void** lanes, int K, Element element) {
    for (int m = 0; m < 16; m++)
        for (int n = 0; n < 8; n++) {
            float* d = ((Fragments*)lanes[(m & 7) * 4 + n / 2])->d + (m / 8 * 2 + n % 2);
            double sum = *d;
            for (int k = 0; k < K; k++) sum += element(lanes, true, m, k) * element(lanes, false, n, k);
            *d = (float)sum;
        }
}

// Element (row, k) of A or (k, row) of B, of two 16-bit numbers in each register.
template <float (*to_float)(unsigned short)>
double of_16_bits(void** lanes, bool is_a, int row, int k) {
    const Fragments* f = (Fragments*)lanes[(row & 7) * 4 + k % 8 / 2];
    unsigned pair = is_a ? f->a[row / 8 + k / 8 * 2] : f->b[k / 8];
    return to_float((unsigned short)(k % 2 ? pair >> 16 : pair));
}

static double of_tf32(void** lanes, bool is_a, int row, int k) {
    const Fragments* f = (Fragments*)lanes[(row & 7) * 4 + k % 4];
    unsigned bits = is_a ? f->a[row / 8 + k / 4 * 2] : f->b[k / 4];
    return __uint_as_float(bits & 0xffffe000u);  // the tensor cores don't look at the rest
}

struct Rows { unsigned* r; const void* row; int count; bool transposed; };

static void load_matrices(void** lanes, unsigned) {
    int count = ((Rows*)lanes[0])->count;
    bool transposed = ((Rows*)lanes[0])->transposed;
    for (int i = 0; i < 8 * count; i++)
        if ((uintptr_t)((Rows*)lanes[i])->row & 15) fail("ldmatrix: the row of lane %d isn't aligned", i);
    for (int lane = 0; lane < 32; lane++)
        for (int m = 0; m < count; m++) {
            unsigned short pair[2];
            for (int e = 0; e < 2; e++) {
                int row = lane / 4, column = lane % 4 * 2 + e;
                if (transposed) { int swapped = row; row = column; column = swapped; }
                pair[e] = ((const unsigned short*)((Rows*)lanes[m * 8 + row])->row)[column];
            }
            ((Rows*)lanes[lane])->r[m] = pair[0] | (unsigned)pair[1] << 16;
        }
}

}  // namespace emulation

void emulated_mma_bf16(float* d, const unsigned* a, const unsigned* b, const char* file, int line) {
    emulation::Fragments f{d, a, b};
    emulation::collective(~0u, &f, [](void** lanes, unsigned) {
        emulation::multiply(lanes, 16, emulation::of_16_bits<emulated_bfloat_to_float>);
    }, "mma_bf16", file, line);
}
void emulated_mma_f16(float* d, const unsigned* a, const unsigned* b, const char* file, int line) {
    emulation::Fragments f{d, a, b};
    emulation::collective(~0u, &f, [](void** lanes, unsigned) {
        emulation::multiply(lanes, 16, emulation::of_16_bits<emulated_half_to_float>);
    }, "mma_f16", file, line);
}
void emulated_mma_tf32(float* d, const unsigned* a, const unsigned* b, const char* file, int line) {
    emulation::Fragments f{d, a, b};
    emulation::collective(~0u, &f, [](void** lanes, unsigned) {
        emulation::multiply(lanes, 8, emulation::of_tf32);
    }, "mma_tf32", file, line);
}
void emulated_ldmatrix(unsigned* r, int count, const void* row, bool transposed, const char* file, int line) {
    emulation::Rows rows{r, row, count, transposed};
    emulation::collective(~0u, &rows, emulation::load_matrices, "ldmatrix", file, line);
}

// A copy is done only when it is waited for; until then NaN stands there.
void emulated_cp_async(void* to, const void* from, int bytes, int filled) {
    if (((uintptr_t)to | (filled == 0 ? 0 : (uintptr_t)from)) & (bytes - 1))
        emulation::fail("cp.async of %d bytes from %p to %p: not aligned", bytes, from, to);
    auto& copies = emulation::threads[emulation::current].copies;
    if (copies.empty()) copies.emplace_back();
    memset(to, 0xff, bytes);
    copies.back().push_back({to, from, bytes, filled < 0 ? bytes : filled});
}
void emulated_cp_async_commit() {
    auto& copies = emulation::threads[emulation::current].copies;
    if (copies.empty()) copies.emplace_back();
    copies.emplace_back();
}
void emulated_cp_async_wait(int left) {
    auto& copies = emulation::threads[emulation::current].copies;
    while ((int)copies.size() > left + 1) {
        for (auto& copy : copies.front()) {
            memcpy(copy.to, copy.from, copy.filled);
            memset((char*)copy.to + copy.filled, 0, copy.bytes - copy.filled);
        }
        copies.erase(copies.begin());
    }
}
