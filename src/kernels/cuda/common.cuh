// What all kernels stand on: numbers, loads, a warp's sums, tensor cores.
//
// This is plain C++: nvcc compiles it for GPUs; with tests/cuda_on_cpu/cuda_shim.h, which has the same names, any compiler does for the CPU.
// Halves are kept as their bits. Inline PTX stands in this file alone.
#pragma once
#include "words.cuh"

#ifdef __CUDACC__
#define DEV __device__ __forceinline__
#define CONST static constexpr __host__ __device__
// A kernel of blocks of at most `threads`. The 1: the assembler may take as many registers as it likes, rather than spill a few for one more
// block on a multiprocessor.
#define KERNEL(threads, name, ...) extern "C" __global__ void __launch_bounds__(threads, 1) name(__VA_ARGS__)
// `len` elements that the threads of a block share, at a multiple of 16 bytes; not yet written.
#define SHARED(type, name, len) __shared__ __align__(16) type name[len]
#else
#include "cuda_shim.h"
#endif

typedef signed char i8;
typedef unsigned char u8;
typedef unsigned short u16;
typedef unsigned int u32;
typedef long long i64;
typedef unsigned long long u64;

constexpr u32 ALL = 0xffffffffu;

CONST int least(int a, int b) { return a < b ? a : b; }
CONST int most(int a, int b) { return a > b ? a : b; }
CONST int ceil_div(int a, int b) { return (a + b - 1) / b; }

// ---- Numbers

#ifdef __CUDACC__
DEV float half_to_float(u16 h) {
    float f;
    asm("cvt.f32.f16 %0, %1;" : "=f"(f) : "h"(h));
    return f;
}
// The nearest half, ties to even.
DEV u16 float_to_half(float f) {
    u16 h;
    asm("cvt.rn.f16.f32 %0, %1;" : "=h"(h) : "f"(f));
    return h;
}
DEV float bits_to_float(u32 bits) { return __uint_as_float(bits); }
DEV u32 float_to_bits(float f) { return __float_as_uint(f); }
// Bytes of (a, b), a's are 0 to 3, each chosen by a nibble of `which`.
DEV u32 bytes_of(u32 a, u32 b, u32 which) { return __byte_perm(a, b, which); }
// sum + the products of four signed bytes.
DEV int dot4(u32 a, u32 b, int sum) { return __dp4a((int)a, (int)b, sum); }
// a b + c, rounded once.
DEV float fused(float a, float b, float c) { return __fmaf_rn(a, b, c); }
// The product, which no fused operation may hide.
DEV float times(float a, float b) { return __fmul_rn(a, b); }
DEV float quiet_nan() { return __uint_as_float(0x7fc00000u); }
// a b / 2^64, rounded down.
DEV u64 high_product(u64 a, u64 b) { return __umul64hi(a, b); }
#endif

DEV u32 pack_halves(float lo, float hi) { return (u32)float_to_half(lo) | (u32)float_to_half(hi) << 16; }
DEV float low_half(u32 v) { return half_to_float((u16)v); }
DEV float high_half(u32 v) { return half_to_float((u16)(v >> 16)); }

// ---- Loads

#ifdef __CUDACC__
// Of what is read once: it does not push out what the first cache has.
DEV Quad stream16(const void *p) {
    Quad v;
    asm("ld.global.nc.L1::no_allocate.v4.u32 {%0, %1, %2, %3}, [%4];"
        : "=r"(v.x[0]), "=r"(v.x[1]), "=r"(v.x[2]), "=r"(v.x[3])
        : "l"(p));
    return v;
}
DEV Quad load16(const void *p) { return *(const Quad *)p; }
DEV Duo load8(const void *p) { return *(const Duo *)p; }
DEV u32 load4(const void *p) { return *(const u32 *)p; }
DEV u16 load2(const void *p) { return *(const u16 *)p; }
// The pointer, which is at a multiple of 16.
template <class T>
DEV T *aligned16(T *p) {
    return p;
}
#endif

DEV float load_half(const void *p) { return half_to_float(load2(p)); }

// ---- Sums and largest of a warp, or of groups of `lanes` (a power of two) of it; every lane gets it.

DEV float sum_of(float v, int lanes = 32) {
    for (int i = lanes / 2; i > 0; i /= 2) v += __shfl_xor_sync(ALL, v, i);
    return v;
}

DEV float largest_of(float v, int lanes = 32) {
    for (int i = lanes / 2; i > 0; i /= 2) v = fmaxf(v, __shfl_xor_sync(ALL, v, i));
    return v;
}

// The largest magnitude as bits: those of a NaN are the largest of all.
DEV u32 largest_bits_of(u32 v, int lanes = 32) {
    for (int i = lanes / 2; i > 0; i /= 2) {
        u32 other = __shfl_xor_sync(ALL, v, i);
        v = v > other ? v : other;
    }
    return v;
}

DEV u64 sum_of_whole(u64 v) {
    for (int i = 16; i > 0; i /= 2) v += (u64)__shfl_xor_sync(ALL, (u32)(v >> 32), i) << 32 | __shfl_xor_sync(ALL, (u32)v, i);
    return v;
}

// The position of a kernel's first row: see docs/cuda.md.
DEV int position(const int *pos_at, int pos) { return pos + (pos_at ? *pos_at : 0); }

// ---- Tensor cores. g = lane / 4, t = lane % 4; layouts as the PTX manual has them:
// A, 16 x 16 halves: a[0] row g, columns 2t, 2t+1; a[1] row g+8; a[2], a[3] the same, columns 2t+8, 2t+9.
// B, 16 x 8: b[0] rows 2t, 2t+1 of column g; b[1] rows 2t+8, 2t+9. C, 16 x 8: c[0], c[1] row g, columns 2t, 2t+1; c[2], c[3] row g+8.
// Of bytes there are twice as many columns of A and rows of B, four of them where two halves are: `load_matrices` loads them too.

#ifdef __CUDACC__
DEV void mma_halves(float c[4], const u32 a[4], const u32 b[2]) {
#if __CUDA_ARCH__ >= 800
    asm("mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, {%0, %1, %2, %3};"
        : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])
        : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
#else
    for (int i = 0; i < 2; i++)
        asm("mma.sync.aligned.m16n8k8.row.col.f32.f16.f16.f32 {%0, %1, %2, %3}, {%4, %5}, {%6}, {%0, %1, %2, %3};"
            : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])
            : "r"(a[2 * i]), "r"(a[2 * i + 1]), "r"(b[i]));
#endif
}
// The sums of 32 products of signed bytes, each begun with `from`. For sm_80 and later.
DEV void mma_bytes(int c[4], const u32 a[4], const u32 b[2], int from) {
    asm("mma.sync.aligned.m16n8k32.row.col.s32.s8.s8.s32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, {%10, %10, %10, %10};"
        : "=r"(c[0]), "=r"(c[1]), "=r"(c[2]), "=r"(c[3])
        : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]), "r"(from));
}
// Four 8 x 8 matrices of halves from shared memory: lane i has the address of row i % 8 of matrix i / 8; r[j] is row g of matrix j, columns 2t, 2t+1.
DEV void load_matrices(u32 r[4], const void *row) {
    u32 at = (u32)__cvta_generic_to_shared(row);
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0, %1, %2, %3}, [%4];"
                 : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3])
                 : "r"(at)
                 : "memory");
}
// The same, each matrix transposed: r[j] is rows 2t, 2t+1 of column g.
DEV void load_matrices_turned(u32 r[4], const void *row) {
    u32 at = (u32)__cvta_generic_to_shared(row);
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0, %1, %2, %3}, [%4];"
                 : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3])
                 : "r"(at)
                 : "memory");
}
// Begins a copy of 16 bytes to shared memory, zeros if not `there`: it is there behind `copies_wait` and a barrier.
DEV void copy16(void *to, const void *from, bool there) {
#if __CUDA_ARCH__ >= 800
    u32 at = (u32)__cvta_generic_to_shared(to);
    int bytes = there ? 16 : 0;
    asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;" ::"r"(at), "l"(from), "r"(bytes) : "memory");
#else
    *(Quad *)to = there ? *(const Quad *)from : Quad{};
#endif
}
// Ends a group of copies.
DEV void copies_end() {
#if __CUDA_ARCH__ >= 800
    asm volatile("cp.async.commit_group;" ::: "memory");
#endif
}
// Waits for all groups of copies but the last `but`.
template <int but>
DEV void copies_wait() {
#if __CUDA_ARCH__ >= 800
    asm volatile("cp.async.wait_group %0;" ::"n"(but) : "memory");
#endif
}
#endif
