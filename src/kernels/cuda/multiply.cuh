// Products of matrices as they lie, in f32, and what brings others there: what gradients of adapters and of inputs are made of.
#pragma once
#include "elementwise.cuh"
#include "formats.cuh"

// y = or += x w for w [depth][n]; x is [rows][depth], or [depth][rows] if `turned`. A block has R x C numbers of y, a thread 4 x 4. With several
// parts (gridDim.z) each has a share of the depth, and its sums go to its own [rows][n] of y: `sum_parts` puts them together.
template <int R, int C>
DEV void multiply(const float *x, int turned, const float *w, float *y, int rows, int depth, int n, int add) {
    constexpr int THREADS = R * C / 16, STEPS = 32;
    SHARED(float, xs, STEPS * (R + 4));
    SHARED(float, ws, STEPS * (C + 4));
    int tid = threadIdx.x, row0 = blockIdx.y * R, column0 = blockIdx.x * C, parts = gridDim.z;
    int tr = tid / (C / 4) * 4, tc = tid % (C / 4) * 4;
    int share = ceil_div(ceil_div(depth, parts), STEPS) * STEPS;
    int begin = least(depth, (int)blockIdx.z * share), end = least(depth, begin + share);
    float sum[4][4] = {};
    for (int d = begin; d < end; d += STEPS) {
        for (int i = tid; i < STEPS * R; i += THREADS) {
            int c = turned ? i / R : i % STEPS, r = turned ? i % R : i / STEPS;
            size_t from = turned ? (size_t)(d + c) * rows + row0 + r : (size_t)(row0 + r) * depth + d + c;
            xs[c * (R + 4) + r] = d + c < end && row0 + r < rows ? x[from] : 0;
        }
        for (int i = tid; i < STEPS * C; i += THREADS) {
            int c = i / C, j = i % C;
            ws[c * (C + 4) + j] = d + c < end && column0 + j < n ? w[(size_t)(d + c) * n + column0 + j] : 0;
        }
        __syncthreads();
#pragma unroll 8
        for (int c = 0; c < STEPS; c++) {
            Floats a = *(const Floats *)aligned16(xs + c * (R + 4) + tr), b = *(const Floats *)aligned16(ws + c * (C + 4) + tc);
#pragma unroll
            for (int i = 0; i < 4; i++)
#pragma unroll
                for (int j = 0; j < 4; j++) sum[i][j] = fused(a.x[i], b.x[j], sum[i][j]);
        }
        __syncthreads();
    }
    if (parts > 1) y += (size_t)blockIdx.z * rows * n;
#pragma unroll
    for (int i = 0; i < 4; i++) {
#pragma unroll
        for (int j = 0; j < 4; j++) {
            if (row0 + tr + i >= rows || column0 + tc + j >= n) continue;
            float *to = y + (size_t)(row0 + tr + i) * n + column0 + tc + j;
            *to = add ? *to + sum[i][j] : sum[i][j];
        }
    }
}

#define MULTIPLY(R, C) \
    KERNEL(R * C / 16, multiply_##R##_##C, const float *x, int turned, const float *w, float *y, int rows, int depth, int n, int add) { \
        multiply<R, C>(x, turned, w, y, rows, depth, n, add); \
    }
MULTIPLY(64, 64)
MULTIPLY(128, 16)
MULTIPLY(16, 128)

// y = or += the sum of the parts, in their order.
KERNEL(256, sum_parts, const float *part, int parts, i64 len, float *y, int add) {
    i64 i = index();
    if (i >= len) return;
    float sum = add ? y[i] : 0;
    for (int p = 0; p < parts; p++) sum += part[p * len + i];
    y[i] = sum;
}

// out [cols][rows] := x [rows][cols], turned.
KERNEL(256, turn, const float *x, int rows, int cols, float *out) {
    constexpr int SIDE = 32, PITCH = SIDE + 1;
    SHARED(float, tile, SIDE * PITCH);
    int row0 = blockIdx.y * SIDE, column0 = blockIdx.x * SIDE, a = threadIdx.x % SIDE;
    for (int b = threadIdx.x / SIDE; b < SIDE; b += 8)
        if (row0 + b < rows && column0 + a < cols) tile[b * PITCH + a] = x[(size_t)(row0 + b) * cols + column0 + a];
    __syncthreads();
    for (int b = threadIdx.x / SIDE; b < SIDE; b += 8)
        if (column0 + b < cols && row0 + a < rows) out[(size_t)(column0 + b) * rows + row0 + a] = tile[a * PITCH + b];
}

// Rows first .. first + count of a matrix as halves, `padded(k)` of each, zeros behind the row: what `multiply_h` reads.
template <class F>
DEV void unpack_h(const void *weights, int rows, int k, int first, int count, u16 *out) {
    int groups = padded(k) / 32;
    i64 i = index();
    if (i >= (i64)count * groups) return;
    int b = (int)(i % groups);
    float v[32] = {};
    if (b * 32 < k) Matrix<F>(weights, rows, k).values(first + (int)(i / groups), b, v);
#pragma unroll
    for (int j = 0; j < 4; j++) {
        Quad q;
#pragma unroll
        for (int h = 0; h < 4; h++) q.x[h] = pack_halves(v[8 * j + 2 * h], v[8 * j + 2 * h + 1]);
        *(Quad *)aligned16(out + i * 32 + 8 * j) = q;
    }
}

#define UNPACK_H(name, F) \
    KERNEL(256, unpack_h_##name, const void *w, int rows, int k, int first, int count, u16 *out) { unpack_h<F>(w, rows, k, first, count, out); }
PACKED_FORMATS(UNPACK_H)
UNPACK_H(f16, F16)
