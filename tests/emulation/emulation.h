// What the kernels, as C++, and the fibers that run them know of each other.
#pragma once
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <type_traits>
#include <utility>

struct uint3 { unsigned x, y, z; };

namespace emulation {

extern uint3 threadIdx, blockIdx, blockDim, gridDim;
extern char* dynamic_shared;

// End the launch with an error.
void fail(const char* format, ...) __attribute__((noreturn));

// All lanes of the mask meet; `together` is called once with what each of them brings.
typedef void (*Together)(void** lanes, unsigned mask);
void collective(
    unsigned mask, void* data, Together together, const char* name, const char* file, int line);
void wait_for_block(const char* file, int line);
int lane();

struct Launch { unsigned grid[3], block[3], shared, backwards; };
int run(void (*kernel)(void**), void** from, const Launch& launch, char* text, size_t size);

// Stands behind every variable in shared memory: it is spoiled when a block first comes by.
void shared(void* variable, size_t size);

// A kernel's call, from the addresses of its arguments; and the sizes of its parameters.

template <auto kernel, class... A, size_t... I>
void call(void** from, void (*)(A...), std::index_sequence<I...>) {
    kernel(*(A*)from[I]...);
}
template <class... A> std::index_sequence_for<A...> places(void (*)(A...));
template <auto kernel> void body_of(void** from) {
    call<kernel>(from, kernel, decltype(places(kernel))());
}

template <class T> void describe(char*& out) {  // "p4 " a pointer to 4 bytes, "i8 ", "f4 "
    using V = std::remove_cv_t<std::remove_pointer_t<T>>;
    size_t size;
    if constexpr (std::is_void_v<V>) size = 0; else size = sizeof(V);
    char kind = std::is_pointer_v<T> ? 'p' : std::is_floating_point_v<T> ? 'f' : std::is_integral_v<T> ? 'i' : 's';
    *out++ = kind;
    if (size > 9) *out++ = '0' + size / 10;
    *out++ = '0' + size % 10;
    *out++ = ' ';
    *out = 0;
}
template <class... A> void signature(void (*)(A...), char* out) { *out = 0; (describe<A>(out), ...); }

}  // namespace emulation

#define EMULATED_KERNEL(name)                                                                    \
    extern "C" __attribute__((visibility("default"))) int launch_##name(                        \
        void** arguments, const emulation::Launch* how, char* text, size_t size) {               \
        return emulation::run(emulation::body_of<name>, arguments, *how, text, size);            \
    }                                                                                            \
    extern "C" __attribute__((visibility("default"))) void signature_##name(char* out) {        \
        emulation::signature(name, out);                                                         \
    }
