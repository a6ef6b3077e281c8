// Enough of CUDA to run the kernels of SOURCE on a CPU, one block after the other. A thread of the block is a fiber: it
// runs until it waits for others, and then the next one does. So what is read without waiting for who writes it is wrong
// every time, not now and then: the fibers take turns from the first to the last, and in the next round from the last.

#include <math.h>
#include <setjmp.h>
#include <string.h>
#include <ucontext.h>

#include <vector>

#define __global__
#define __device__
#define __shared__ static
#define __forceinline__ inline
#define __noinline__
#define __restrict__
#define __launch_bounds__(...)

static struct { unsigned int x; } threadIdx, blockIdx, gridDim;

static const int MOST_THREADS = 1024, WARP = 32;
static const size_t STACK = 1 << 16;

// Threads that wait for each other: so many are there, and so often all were.
struct Barrier {
    int n_here, n_passed;
};

struct Fiber {
    ucontext_t start;
    jmp_buf place;
    std::vector<char> stack;
    bool is_new, is_done;
};

static Fiber fibers[MOST_THREADS];
static jmp_buf scheduler;
static Barrier of_block, of_groups[MOST_THREADS];
static double slots[MOST_THREADS];
static unsigned int n_threads;
static int n_true, all_true;
static bool moved;
static void (*body)();

static void yield() {
    const unsigned int self = threadIdx.x;
    if (!_setjmp(fibers[self].place)) _longjmp(scheduler, 1);
    threadIdx.x = self;
}

static void wait(Barrier& barrier, int n) {
    const int before = barrier.n_passed;
    if (++barrier.n_here == n) {
        barrier.n_here = 0;
        ++barrier.n_passed;
        moved = true;
    }
    while (barrier.n_passed == before) yield();
}

static inline void __syncthreads() { wait(of_block, (int)n_threads); }

template <class T>
static T __shfl_xor_sync(unsigned int mask, T x, int other) {
    const unsigned int self = threadIdx.x;
    Barrier& group = of_groups[self / WARP * WARP + __builtin_ctz(mask)];
    slots[self] = x;
    wait(group, __builtin_popcount(mask));
    const T theirs = (T)slots[self ^ (unsigned int)other];
    wait(group, __builtin_popcount(mask));
    return theirs;
}

static inline void atomicAdd(unsigned int* at, unsigned int n) { *at += n; }

template <class T>
static inline T __ldg(const T* at) { return *at; }

static inline float half_to_float(unsigned short bits) {
    _Float16 x;
    memcpy(&x, &bits, sizeof x);
    return x;
}

static inline unsigned short float_to_half(float x) {
    const _Float16 half = x;
    unsigned short bits;
    memcpy(&bits, &half, sizeof bits);
    return bits;
}

#include SOURCE

static void run_fiber() {
    body();
    fibers[threadIdx.x].is_done = moved = true;
    _longjmp(scheduler, 1);
}

static void resume(unsigned int i) {
    Fiber& fiber = fibers[i];
    threadIdx.x = i;
    if (_setjmp(scheduler)) return;
    if (!fiber.is_new) _longjmp(fiber.place, 1);
    fiber.is_new = false;
    fiber.stack.resize(STACK);
    getcontext(&fiber.start);
    fiber.start.uc_stack.ss_sp = fiber.stack.data();
    fiber.start.uc_stack.ss_size = STACK;
    makecontext(&fiber.start, run_fiber, 0);
    setcontext(&fiber.start);
}

// Run one block; false if some threads wait for others that never come.
static bool run_block() {
    for (unsigned int i = 0; i < n_threads; ++i) fibers[i].is_new = true, fibers[i].is_done = false;
    unsigned int n_left = n_threads;
    for (bool up = true; n_left; up = !up) {
        moved = false;
        n_left = 0;
        for (unsigned int i = 0; i < n_threads; ++i) {
            const unsigned int fiber = up ? i : n_threads - 1 - i;
            if (!fibers[fiber].is_done) resume(fiber);
            n_left += !fibers[fiber].is_done;
        }
        if (n_left && !moved) return false;
    }
    return true;
}

static void (*kernel)(Task);
static const Task* task;

static void run_kernel() { kernel(*task); }

// 0: done; 1: a block hangs.
extern "C" int launch(void (*a_kernel)(Task), unsigned int blocks, unsigned int threads, const Task* a_task) {
    kernel = a_kernel, task = a_task, body = run_kernel;
    n_threads = threads, gridDim.x = blocks;
    of_block = Barrier();
    for (Barrier& group : of_groups) group = Barrier();
    for (unsigned int i = 0; i < blocks; ++i) {
        blockIdx.x = i;
        if (!run_block()) return 1;
    }
    return 0;
}
