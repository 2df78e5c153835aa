// Stacks, and the way from one to another.
#include "emulation.h"
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <ucontext.h>
#include <vector>

namespace emulation {

static const size_t STACK = 256 << 10;
static const uint64_t CANARY = 0x5afe5afe5afe5afeull;

struct Fiber {
    char* stack;
    size_t number;
    void* place;  // where it stands while another one runs
    ucontext_t* context;
};

static void* scheduler_place;
static Fiber* running;
static std::vector<Fiber*> idle, fibers;
static void work();

#if defined(__x86_64__) && !defined(BY_UCONTEXT)
extern "C" void emulation_switch(void** from, void* to) __attribute__((visibility("hidden")));
asm(R"(
.text
.hidden emulation_switch
.globl emulation_switch
.type emulation_switch, @function
emulation_switch:
    pushq %rbp
    pushq %rbx
    pushq %r12
    pushq %r13
    pushq %r14
    pushq %r15
    movq %rsp, (%rdi)
    movq %rsi, %rsp
    popq %r15
    popq %r14
    popq %r13
    popq %r12
    popq %rbx
    popq %rbp
    ret
)");
static void* prepare(Fiber* fiber) {
    void** top = (void**)(fiber->stack + STACK - fiber->number * 256 % 8192);  // other cache lines
    *--top = nullptr;         // work() never returns; this keeps the stack aligned for it
    *--top = (void*)work;
    for (int i = 0; i < 6; i++) *--top = nullptr;  // the six registers
    return top;
}
#else
static void* prepare(Fiber* fiber) {
    ucontext_t* place = fiber->context ? fiber->context : fiber->context = new ucontext_t;
    getcontext(place);
    place->uc_stack.ss_sp = fiber->stack;
    place->uc_stack.ss_size = STACK;
    place->uc_link = nullptr;
    makecontext(place, work, 0);
    return place;
}
static void emulation_switch(void** from, void* to) {
    if (*from == nullptr) *from = new ucontext_t;  // the scheduler's
    swapcontext((ucontext_t*)*from, (ucontext_t*)to);
}
#endif

static Fiber* new_fiber() {
    Fiber* fiber;
    if (idle.empty()) {
        fiber = new Fiber();
        fiber->number = fibers.size();
        fibers.push_back(fiber);
        fiber->stack = (char*)mmap(nullptr, STACK, PROT_READ | PROT_WRITE,
                                   MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
        if (fiber->stack == MAP_FAILED) abort();
        memcpy(fiber->stack, &CANARY, sizeof CANARY);
    } else {
        fiber = idle.back();
        idle.pop_back();
    }
    fiber->place = prepare(fiber);
    return fiber;
}

static void to_scheduler() { emulation_switch(&running->place, scheduler_place); }

static void to_fiber(Fiber* fiber) {
    running = fiber;
    emulation_switch(&scheduler_place, fiber->place);
}

static void from_fiber_to_fiber(Fiber* fiber) {
    Fiber* own = running;
    running = fiber;
    emulation_switch(&own->place, fiber->place);
}

// A stack that was too small has been written beyond its end, and what lies there is broken, too.
static void check_stacks() {
    for (Fiber* fiber : fibers)
        if (memcmp(fiber->stack, &CANARY, sizeof CANARY)) {
            fprintf(stderr, "emulation: a thread needs more stack than there is\n");
            abort();
        }
}

}  // namespace emulation
