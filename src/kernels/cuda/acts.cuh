// Packed activations: docs/cuda.md has the layouts.
#pragma once
#include "common.cuh"

// Where `pack_i` puts what: see docs/cuda.md. Halves of blocks lie apart: lanes that have neighbouring blocks read neighbouring 16 bytes.
struct Acts {
    const u8 *hi, *lo;
    const float *sums, *d;
    // From the first halves to the second.
    size_t half;
    DEV Acts(const void *acts, int m, int k) {
        size_t len = (size_t)m * k;
        half = len / 2;
        hi = (const u8 *)acts;
        lo = hi + len;
        sums = (const float *)(lo + len);
        d = sums + len / 16;
    }
};

// The largest integer: its high byte is 127.
constexpr float TOP = 32512;
// Blocks whose largest magnitude is below this are taken as zero: TOP / largest would overflow.
constexpr float TINY = 1e-30f;

// A warp packs block b, of which each lane has an element.
DEV void pack_block(const Acts &to, size_t b, float v) {
    int lane = threadIdx.x % 32;
    u32 bits = largest_bits_of(float_to_bits(v) & 0x7fffffffu);
    float largest = bits_to_float(bits), d = largest / TOP;
    int q = 0;
    if (bits >= 0x7f800000u)
        d = quiet_nan();
    else if (largest < TINY)
        d = 0;
    else
        q = (int)rintf(v * (TOP / largest));
    int hi = (q + 128) >> 8;
    size_t at = lane / 16 * to.half + b * 16 + lane % 16;
    ((i8 *)to.hi)[at] = (i8)hi;
    ((i8 *)to.lo)[at] = (i8)(q - 256 * hi);
    // Below 2^24: exact.
    float sum = sum_of((float)q, 16);
    if (lane % 16 == 0) ((float *)to.sums)[b * 2 + lane / 16] = d * sum;
    if (lane == 0) ((float *)to.d)[b] = d;
}

// Columns of `pack_h`.
CONST int padded(int k) { return (k + 63) / 64 * 64; }
