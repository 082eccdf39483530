// Kernels on tensor cores, which are not the same in all generations.
#include "attend_back_mma.cuh"
#include "attend_mma.cuh"
#include "matmul_few.cuh"
#include "matmul_h.cuh"
#include "multiply_h.cuh"
