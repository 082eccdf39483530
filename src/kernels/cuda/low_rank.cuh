// Low-rank updates of many sequences, each with its adapters, in two launches: A x, then B of that.
#pragma once
#include "common.cuh"

// An update of rows first .. last: docs/cuda.md.
struct Segment {
    const void *a, *b;
    const float *mid, *out;
    int first, last, dtype, rank;
    float scale;
    int at;
    i64 zero;
};

DEV float factor(const void *p, size_t i, int dtype) {
    if (dtype == 0) return ((const float *)p)[i];
    u16 bits = ((const u16 *)p)[i];
    return dtype == 1 ? half_to_float(bits) : bits_to_float((u32)bits << 16);
}

// Rows of x that share the loads of a factor.
constexpr int ROWS_AT_ONCE = 8;

// A warp has a row of A and up to 8 rows of x.
KERNEL(128, low_rank_shrink, const Segment *table, const float *x, int k, float *u) {
    Segment s = table[blockIdx.y];
    int r = blockIdx.x * 4 + threadIdx.x / 32, lane = threadIdx.x % 32;
    int row = s.first + blockIdx.z * ROWS_AT_ONCE, rows = least(ROWS_AT_ONCE, s.last - row);
    if (r >= s.rank || rows <= 0) return;
    float sums[ROWS_AT_ONCE] = {};
    for (int c = lane; c < k; c += 32) {
        float a = factor(s.a, (size_t)r * k + c, s.dtype);
#pragma unroll
        for (int t = 0; t < ROWS_AT_ONCE; t++)
            if (t < rows) sums[t] = fused(a, x[(size_t)(row + t) * k + c], sums[t]);
    }
    float by = s.mid ? s.scale * s.mid[r] : s.scale;
#pragma unroll
    for (int t = 0; t < ROWS_AT_ONCE; t++) {
        if (t < rows) {
            float sum = sum_of(sums[t]);
            if (lane == 0) u[s.at + (size_t)(row + t - s.first) * s.rank + r] = by * sum;
        }
    }
}

// A thread has a column of y in 8 rows, and goes through the segments: so their order is always the same.
KERNEL(128, low_rank_expand, const Segment *table, int segments, const float *u, int m, int n, float *y) {
    int column = blockIdx.x * 128 + threadIdx.x, row0 = blockIdx.y * ROWS_AT_ONCE;
    if (column >= n) return;
    for (int i = 0; i < segments; i++) {
        Segment s = table[i];
        int begin = most(s.first, row0), end = least(least(s.last, row0 + ROWS_AT_ONCE), m);
        if (begin >= end) continue;
        float sums[ROWS_AT_ONCE] = {};
        for (int r = 0; r < s.rank; r++) {
            float b = factor(s.b, (size_t)column * s.rank + r, s.dtype);
#pragma unroll
            for (int t = 0; t < ROWS_AT_ONCE; t++)
                if (t < end - begin) sums[t] = fused(b, u[s.at + (size_t)(begin + t - s.first) * s.rank + r], sums[t]);
        }
        float by = s.out ? s.out[column] : 1;
#pragma unroll
        for (int t = 0; t < ROWS_AT_ONCE; t++)
            if (t < end - begin) y[(size_t)(begin + t) * n + column] += by * sums[t];
    }
}
