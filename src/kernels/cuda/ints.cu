// Kernels on the integers of tensor cores, for generations that have 16 x 8 products of them.
#include "matmul_i.cuh"
