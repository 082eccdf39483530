// The threads of a block as fibers: see cuda_shim.h.
#include "cuda_shim.h"

#include <sys/mman.h>
#if !defined(__x86_64__)
#include <ucontext.h>
#endif
#if defined(__SANITIZE_ADDRESS__)
#define FIBERS_ASAN 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer)
#define FIBERS_ASAN 1
#endif
#endif
#ifdef FIBERS_ASAN
#include <sanitizer/asan_interface.h>
#include <sanitizer/common_interface_defs.h>
#endif

#include <map>
#include <memory>

namespace shim {

Place place;
Thread *me;

namespace {

constexpr size_t STACK = 128 << 10;

// ---- Switching stacks

#if defined(__x86_64__)
extern "C" void fibers_switch(void **from, void *to);
asm(R"(
    .text
    .globl fibers_switch
    .hidden fibers_switch
    .type fibers_switch, @function
fibers_switch:
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
    .size fibers_switch, .-fibers_switch
)");
#endif

struct Fiber {
    char *stack;
#if defined(__x86_64__)
    void *sp = nullptr;
#else
    ucontext_t context;
#endif
    void *asan = nullptr;
    Thread thread;
    bool done = false;

    Fiber() : stack((char *)mmap(nullptr, STACK, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0)) {
        if (stack == MAP_FAILED) die("no memory for stacks");
    }
};

// The scheduler's own stack.
#if defined(__x86_64__)
void *home;
#else
ucontext_t home;
#endif
#ifdef FIBERS_ASAN
void *home_asan;
const void *home_stack;
size_t home_size;
#endif

void leave_to(Fiber *fiber, bool for_good);
void run(Fiber &fiber);

// ---- A block

struct Warp {
    unsigned here = 0;
    int meeting = 0;
    const char *what = nullptr;
    size_t bytes = 0;
    alignas(16) unsigned char slots[2][32 * SLOT];
    std::vector<Fiber *> waiting;
};

struct Array {
    void *at;
    size_t bytes;
    bool used;
};

std::vector<std::unique_ptr<Fiber>> fibers;
std::vector<Warp> warps;
std::vector<Fiber *> ready, at_barrier;
std::map<const void *, Array> arrays;
Fiber *current;
int threads, left;
uint64_t random_state = 1;
const Kernel *kernel;
void *const *arguments;

// SplitMix64.
uint64_t draw() {
    uint64_t z = random_state += 0x9e3779b97f4a7c15ull;
    z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9ull;
    z = (z ^ z >> 27) * 0x94d049bb133111ebull;
    return z ^ z >> 31;
}

void body() {
#ifdef FIBERS_ASAN
    __sanitizer_finish_switch_fiber(nullptr, &home_stack, &home_size);
#endif
    kernel->call(kernel->function, arguments);
    if (!me->copies.empty()) die("a thread ends with copies to shared memory under way");
    current->done = true;
    leave_to(current, true);
    die("a thread that has ended goes on");
}

void begin(Fiber &f) {
    f.done = false;
#ifdef FIBERS_ASAN
    // The last thread on it has left its frames there.
    __asan_unpoison_memory_region(f.stack, STACK);
#endif
#if defined(__x86_64__)
    // Six registers and the address that the switch returns to; there the stack is 8 off a multiple of 16, as after a call.
    void **top = (void **)(f.stack + STACK - 64);
    *--top = nullptr;
    *--top = (void *)&body;
    for (int i = 0; i < 6; i++) *--top = nullptr;
    f.sp = top;
#else
    getcontext(&f.context);
    f.context.uc_stack.ss_sp = f.stack;
    f.context.uc_stack.ss_size = STACK;
    f.context.uc_link = nullptr;
    makecontext(&f.context, body, 0);
#endif
}

void leave_to(Fiber *fiber, bool for_good) {
#ifdef FIBERS_ASAN
    __sanitizer_start_switch_fiber(for_good ? nullptr : &fiber->asan, home_stack, home_size);
#endif
    (void)for_good;
#if defined(__x86_64__)
    fibers_switch(&fiber->sp, home);
#else
    swapcontext(&fiber->context, &home);
#endif
#ifdef FIBERS_ASAN
    __sanitizer_finish_switch_fiber(fiber->asan, &home_stack, &home_size);
#endif
}

void run(Fiber &f) {
    current = &f;
    me = &f.thread;
#ifdef FIBERS_ASAN
    __sanitizer_start_switch_fiber(&home_asan, f.stack, STACK);
#endif
#if defined(__x86_64__)
    fibers_switch(&home, f.sp);
#else
    swapcontext(&home, &f.context);
#endif
#ifdef FIBERS_ASAN
    __sanitizer_finish_switch_fiber(home_asan, nullptr, nullptr);
#endif
    me = nullptr;
}

void run_block() {
    for (auto &[site, array] : arrays) {
        (void)site;
        array.used = false;
    }
    ready.clear();
    at_barrier.clear();
    warps.resize((threads + 31) / 32);
    for (Warp &warp : warps) {
        warp.here = 0;
        warp.waiting.clear();
    }
    for (int i = 0; i < threads; i++) {
        if ((size_t)i == fibers.size()) fibers.push_back(std::make_unique<Fiber>());
        Fiber &f = *fibers[i];
        Dim d = place.threads;
        f.thread = Thread{Dim{i % d.x, i / d.x % d.y, i / d.x / d.y}, i / 32, i % 32, {}, 0};
        begin(f);
        ready.push_back(&f);
    }
    left = 0;
    while (!ready.empty()) {
        size_t i = draw() % ready.size();
        Fiber *f = ready[i];
        ready[i] = ready.back();
        ready.pop_back();
        run(*f);
        if (f->done) left++;
    }
    if (left == threads) return;
    for (const Warp &warp : warps) {
        if (!warp.waiting.empty()) {
            me = &warp.waiting[0]->thread;
            die(std::string("waits in ") + warp.what + " for lanes of its warp that are elsewhere");
        }
    }
    me = &at_barrier[0]->thread;
    die("waits at a barrier for threads that are elsewhere");
}

void wait() {
    Fiber *f = current;
    leave_to(f, false);
    current = f;
    me = &f->thread;
}

}  // namespace

void seed(uint64_t with) { random_state = with; }

void *shared(const void *site, size_t bytes) {
    Array &array = arrays[site];
    if (!array.at) {
        array.bytes = bytes;
        if (posix_memalign(&array.at, 16, bytes)) die("no memory for shared memory");
    }
    if (!array.used) {
        array.used = true;
        memset(array.at, 255, bytes);
        size_t all = 0;
        for (auto &[_, a] : arrays) all += a.used ? a.bytes : 0;
        if (all > 48 << 10) die(std::to_string(all) + " bytes of shared memory; a block has 49152");
    }
    return array.at;
}

void barrier() {
    if (left) die("a barrier behind which threads have left");
    if (at_barrier.size() + 1 == (size_t)threads) {
        ready.insert(ready.end(), at_barrier.begin(), at_barrier.end());
        at_barrier.clear();
        return;
    }
    at_barrier.push_back(current);
    wait();
}

const unsigned char *meet(const char *what, unsigned mask, const void *mine, size_t bytes) {
    Warp &warp = warps[me->warp];
    if (mask != 0xffffffffu) die("the shim knows whole warps only");
    if (bytes > SLOT) die("too much to meet with");
    if (!warp.here) {
        warp.what = what;
        warp.bytes = bytes;
    }
    if (warp.what != what || warp.bytes != bytes)
        die(std::string("is in ") + what + " while other lanes of its warp are in " + warp.what);
    unsigned char *slots = warp.slots[warp.meeting % 2];
    if (bytes) memcpy(slots + me->lane * SLOT, mine, bytes);
    warp.here |= 1u << me->lane;
    if (warp.here == mask) {
        warp.here = 0;
        warp.meeting++;
        ready.insert(ready.end(), warp.waiting.begin(), warp.waiting.end());
        warp.waiting.clear();
    } else {
        warp.waiting.push_back(current);
        wait();
    }
    return slots;
}

void launch(const Kernel &k, Dim grid, Dim block, void *const *args) {
    kernel = &k;
    arguments = args;
    threads = (int)(block.x * block.y * block.z);
    if (threads % 32) die(k.name + ": " + std::to_string(threads) + " threads are no whole warps");
    place.grid = grid;
    place.threads = block;
    for (unsigned z = 0; z < grid.z; z++)
        for (unsigned y = 0; y < grid.y; y++)
            for (unsigned x = 0; x < grid.x; x++) {
                place.block = Dim{x, y, z};
                run_block();
            }
    // Another kernel has other arrays.
    for (auto &[_, array] : arrays) free(array.at);
    arrays.clear();
}

}  // namespace shim
