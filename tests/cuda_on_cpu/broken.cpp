// Kernels that are wrong, each in its way, to see that the shim sees it: `broken NAME` runs one, which must end the process, or give other
// results with another order of threads (then the result is printed).
#include <string>

#include "cuda_shim.h"

namespace kernels {
#include "../../src/kernels/cuda/common.cuh"

KERNEL(64, misaligned, float *x) { x[0] += bits_to_float(load16(x + 1).x[0]); }
KERNEL(64, left_before_barrier, float *) {
    if (threadIdx.x == 3) return;
    __syncthreads();
}
KERNEL(64, waits_for_nobody, float *) {
    if (threadIdx.x != 3) __syncthreads();
    else __syncwarp();
}
KERNEL(64, different_places, float *x) {
    if (threadIdx.x % 2) x[threadIdx.x] = sum_of(x[threadIdx.x], 4);
    else __syncwarp();
}
KERNEL(64, too_much_shared, float *x) {
    SHARED(float, a, 8000);
    SHARED(float, b, 8000);
    x[0] = a[0] + b[0];
}
KERNEL(64, copy_not_waited_for, float *x) {
    SHARED(float, a, 4);
    copy16(a, x, true);
    copies_end();
}
// These give a number that depends on what they should not depend on.
KERNEL(64, race, float *x) {
    SHARED(int, last, 1);
    last[0] = (int)threadIdx.x;
    __syncthreads();
    if (threadIdx.x == 0) x[0] = (float)last[0];
}
KERNEL(64, not_written, float *x) {
    SHARED(float, a, 64);
    if (threadIdx.x < 63) a[threadIdx.x] = 1;
    __syncthreads();
    x[threadIdx.x] = a[threadIdx.x];
    if (threadIdx.x == 63) x[0] = a[63];
}
KERNEL(64, copy_too_early, float *x) {
    SHARED(float, a, 4);
    if (threadIdx.x == 0) {
        copy16(a, x, true);
        copies_end();
        float early = a[0];
        copies_wait<0>();
        x[0] = early;
    }
}
}  // namespace kernels

namespace shim {
void seed(uint64_t with);
}

int main(int, char **argv) {
    for (const shim::Kernel &k : shim::Kernel::all()) {
        if (k.name != argv[1]) continue;
        alignas(16) float x[64] = {1, 2, 3, 4};
        float *p = x;
        void *args[] = {&p};
        shim::seed(strtoull(argv[2], nullptr, 10));
        shim::launch(k, {1, 1, 1}, {64, 1, 1}, args);
        printf("%g\n", x[0]);
        return 0;
    }
    return 2;
}
