// The kernels, compiled for the CPU; each enters the shim's table by its name.
#include "cuda_shim.h"

namespace kernels {
#include "../../src/kernels/cuda/base.cu"
#include "../../src/kernels/cuda/tensor.cu"
#include "../../src/kernels/cuda/ints.cu"
}  // namespace kernels
