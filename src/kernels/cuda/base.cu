// All kernels that need nothing newer than compute_75, and gain nothing from it.
#include "attention.cuh"
#include "elementwise.cuh"
#include "low_rank.cuh"
#include "matmul.cuh"
#include "matvec.cuh"
#include "pack.cuh"
