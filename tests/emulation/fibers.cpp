// The threads of a block as fibers: each can stand aside in the middle of its work.
//
// A fiber is a stack.  It takes one thread after the other from those that haven't begun; when a
// thread has to wait, its fiber waits with it, and another fiber goes on.  A kernel without barriers
// so runs in one fiber, as a loop.
#include "stacks.h"
#include <stdarg.h>

namespace emulation {

uint3 threadIdx, blockIdx, blockDim, gridDim;

// Errors: the first one is kept, and the launch ends.

static char* message;
static size_t message_size;
static bool failed;

void fail(const char* format, ...) {
    if (!failed) {
        va_list values;
        va_start(values, format);
        int n = vsnprintf(message, message_size, format, values);
        va_end(values);
        if (n >= 0 && (size_t)n < message_size)
            snprintf(message + n, message_size - n, " (block %u,%u,%u, thread %u,%u,%u)",
                     blockIdx.x, blockIdx.y, blockIdx.z, threadIdx.x, threadIdx.y, threadIdx.z);
    }
    failed = true;
    to_scheduler();  // and never come back
    abort();
}

// Threads.

enum State { NEW, RUNS, AT_BLOCK, AT_WARP, DONE };
struct Copy { void* to; const void* from; int bytes, filled; };

struct Thread {
    State state;
    uint3 index;
    Fiber* fiber;
    const char* file;  // where it waits
    int line;
    void* data;  // what it brings to its warp
    Together together;
    unsigned mask;
    const char* name;
    std::vector<std::vector<Copy>> copies;  // groups on their way (cp.async); the last one is open
};

static std::vector<Thread> threads;
static std::vector<int> order, ready;  // who can run: the last one comes next
static std::vector<unsigned> arrived;  // of each warp: the lanes that wait for others
static size_t begun, done, at_block;
static int current, count;
static bool backwards;
static void (*body)(void** arguments);
static void** arguments;

static void step_in(int t) {
    current = t;
    threadIdx = threads[t].index;
    threads[t].state = RUNS;
}

// Go on with a thread that can run, or with a new one, or let the scheduler see who waits for what.
static void go_on() {
    if (!ready.empty()) {
        int t = ready.back();
        ready.pop_back();
        step_in(t);
        from_fiber_to_fiber(threads[t].fiber);
    } else if (begun < (size_t)count) {
        from_fiber_to_fiber(new_fiber());
    } else {
        to_scheduler();
    }
}

static void work() {  // what a fiber does
    for (;;) {
        while (begun < (size_t)count && ready.empty()) {
            int t = order[begun++];
            threads[t].fiber = running;
            step_in(t);
            body(arguments);
            threads[current].state = DONE;
            done++;
        }
        idle.push_back(running);
        go_on();  // not by a new fiber, which might be this one: nobody is left to begin
    }
}

static void stand_aside(State state, const char* file, int line) {
    Thread& thread = threads[current];
    thread.state = state;
    thread.file = file;
    thread.line = line;
    go_on();
}

void wait_for_block(const char* file, int line) {
    at_block++;
    stand_aside(AT_BLOCK, file, line);
}

static int linear(uint3 i) { return i.x + blockDim.x * (i.y + blockDim.y * i.z); }
int lane() { return linear(threadIdx) & 31; }

// All lanes of the mask meet here; the last one to come does the work for all.
void collective(
    unsigned mask, void* data, Together together, const char* name, const char* file, int line) {
    int own = current, first = own & ~31;
    Thread& thread = threads[own];
    if (!(mask >> (own & 31) & 1)) fail("%s:%d: %s without its own lane in the mask", file, line, name);
    thread.data = data, thread.together = together, thread.mask = mask, thread.name = name;
    thread.file = file, thread.line = line, thread.state = AT_WARP;
    unsigned& here = arrived[own / 32];
    here |= 1u << (own & 31);
    if ((here & mask) != mask) {  // someone is still to come
        if (first + 32 > count && mask >> (count & 31))
            fail("%s:%d: %s wants lane %d, but the block has only %d threads", file, line, name,
                 31 - __builtin_clz(mask), count);
        return go_on();
    }
    void* lanes[32];
    for (int i = 0; i < 32; i++) {
        if (!(mask >> i & 1)) continue;
        Thread& other = threads[first + i];
        if (other.line != line || other.mask != mask || strcmp(other.name, name))
            fail("%s:%d: lanes of one warp are in %s here and in %s in line %d", file, line, name,
                 other.name, other.line);
        lanes[i] = other.data;
    }
    together(lanes, mask);
    for (int k = 0; k < 32; k++) {  // they come before all other warps: one runs ahead
        int i = backwards ? k : 31 - k;
        if (mask >> i & 1 && first + i != own) ready.push_back(first + i), threads[first + i].state = RUNS;
    }
    thread.state = RUNS;
    here &= ~mask;
}

// Nobody can run: the barrier is complete, or somebody waits in vain.
static bool release() {
    int waits = -1;
    for (int t : order) {
        if (threads[t].state == AT_WARP) {
            threadIdx = threads[t].index;
            return snprintf(message, message_size, "%s:%d: %s waits for lanes that never come (thread %d)",
                            threads[t].file, threads[t].line, threads[t].name, t), false;
        }
        if (threads[t].state != AT_BLOCK) continue;
        if (waits >= 0 && threads[waits].line != threads[t].line)
            return snprintf(message, message_size, "threads wait in __syncthreads at %s:%d and at %s:%d",
                            threads[waits].file, threads[waits].line, threads[t].file, threads[t].line), false;
        waits = t;
    }
    if (at_block < (size_t)count)
        return snprintf(message, message_size, "%s:%d: %d threads wait in __syncthreads, but %d have left",
                        threads[waits].file, threads[waits].line, (int)at_block, (int)done), false;
    at_block = 0;
    ready.assign(order.rbegin(), order.rend());
    return true;
}

static bool run_block() {
    for (int t = 0; t < count; t++) {
        threads[t].state = NEW;
        threads[t].copies.clear();
    }
    begun = done = at_block = 0;
    ready.clear();
    to_fiber(new_fiber());  // they come back when nobody can run
    while (!failed && done < (size_t)count) {
        if (!release()) return false;
        int t = ready.back();
        ready.pop_back();
        step_in(t);
        to_fiber(threads[t].fiber);
    }
    return !failed;
}

// Shared memory.

static const size_t MARGIN = 256;
static std::vector<char> dynamic;
static std::vector<void*> known;  // the variables that this block has come by
char* dynamic_shared;

// All bits set are a NaN in every type of floats: what is read before it was written shows.
void shared(void* variable, size_t size) {
    for (void* other : known)
        if (other == variable) return;
    known.push_back(variable);
    memset(variable, 0xff, size);
}

static bool overrun(size_t shared) {
    for (size_t i = 0; i < MARGIN; i++)
        if (dynamic_shared[shared + i] != (char)0xff) {
            snprintf(message, message_size, "writes past its %zu bytes of dynamic shared memory", shared);
            return true;
        }
    return false;
}

int run(void (*kernel)(void**), void** from, const Launch& launch, char* text, size_t size) {
    message = text, message_size = size, failed = false, backwards = launch.backwards, body = kernel, arguments = from;
    blockDim = {launch.block[0], launch.block[1], launch.block[2]};
    gridDim = {launch.grid[0], launch.grid[1], launch.grid[2]};
    count = blockDim.x * blockDim.y * blockDim.z;
    idle = fibers;
    threads.resize(count);
    arrived.assign((count + 31) / 32, 0);
    order.resize(count);
    for (int t = 0; t < count; t++) {
        order[t] = launch.backwards ? count - 1 - t : t;
        threads[t].index = {t % blockDim.x, t / blockDim.x % blockDim.y, t / (blockDim.x * blockDim.y)};
    }
    dynamic.resize(launch.shared + MARGIN + 1024);
    dynamic_shared = (char*)(((uintptr_t)dynamic.data() + 1023) & ~(uintptr_t)1023);
    size_t blocks = (size_t)gridDim.x * gridDim.y * gridDim.z;
    for (size_t i = 0; i < blocks; i++) {
        size_t b = launch.backwards ? blocks - 1 - i : i;
        blockIdx = {(unsigned)(b % gridDim.x), (unsigned)(b / gridDim.x % gridDim.y),
                    (unsigned)(b / gridDim.x / gridDim.y)};
        known.clear();
        memset(dynamic_shared, 0xff, launch.shared + MARGIN);
        if (!run_block() || overrun(launch.shared)) return 1;
    }
    check_stacks();
    return 0;
}

}  // namespace emulation

// g++ -fsanitize=bounds,alignment calls these; its own library isn't needed.
struct EmulatedPlace { const char* file; uint32_t line, column; };
extern "C" void __ubsan_handle_out_of_bounds(void* data, void* index) {
    EmulatedPlace* place = (EmulatedPlace*)data;
    emulation::fail("%s:%u: index %lld is beyond the array", place->file, place->line, (long long)(intptr_t)index);
}
extern "C" void __ubsan_handle_type_mismatch_v1(void* data, void* pointer) {
    EmulatedPlace* place = (EmulatedPlace*)data;
    emulation::fail("%s:%u: address %p isn't aligned for its type", place->file, place->line, pointer);
}
