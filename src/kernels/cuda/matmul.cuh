// Products of many tokens in f32, and rows of embeddings: weights dequantized exactly.
#pragma once
#include "formats.cuh"
#include "matvec.cuh"

// y of 64 rows and 64 tokens, 4 x 4 for each thread.
template <class F>
DEV void matmul_f(const void *weights, float *y, int n, int k, int m, const float *x, float scale, int add) {
    constexpr int TILE = 64, PITCH = TILE + 4;
    // Column by column, so that a thread reads its four of a column at once.
    SHARED(float, ws, 32 * PITCH);
    SHARED(float, xs, 32 * PITCH);
    Matrix<F> w(weights, n, k);
    int tid = threadIdx.x, row0 = blockIdx.x * TILE, token0 = blockIdx.y * TILE;
    int tr = tid % 16 * 4, tt = tid / 16 * 4;
    float sum[4][4] = {};
    for (int b = 0; b * 32 < k; b++) {
        if (tid < TILE) {
            float v[32] = {};
            if (row0 + tid < n) w.values(row0 + tid, b, v);
#pragma unroll
            for (int i = 0; i < 32; i++) ws[i * PITCH + tid] = v[i];
        } else {
            for (int i = tid - TILE; i < 32 * TILE; i += 256 - TILE) {
                int c = i % 32, t = i / 32;
                xs[c * PITCH + t] = b * 32 + c < k && token0 + t < m ? x[(size_t)(token0 + t) * k + b * 32 + c] : 0;
            }
        }
        __syncthreads();
#pragma unroll 8
        for (int c = 0; c < 32; c++) {
            Floats wv = *(const Floats *)aligned16(ws + c * PITCH + tr), xv = *(const Floats *)aligned16(xs + c * PITCH + tt);
#pragma unroll
            for (int i = 0; i < 4; i++)
#pragma unroll
                for (int j = 0; j < 4; j++) sum[i][j] = fused(wv.x[i], xv.x[j], sum[i][j]);
        }
        __syncthreads();
    }
#pragma unroll
    for (int j = 0; j < 4; j++)
#pragma unroll
        for (int i = 0; i < 4; i++)
            if (row0 + tr + i < n && token0 + tt + j < m) put(y + (size_t)(token0 + tt + j) * n + row0 + tr + i, sum[i][j], scale, add);
}

template <class F>
DEV void embed(const void *weights, int rows, int cols, const int *ids, float scale, float *out) {
    Matrix<F> w(weights, rows, cols);
    int id = ids[blockIdx.x];
    if (id < 0) return;
    float *to = out + (size_t)blockIdx.x * cols;
    for (int b = threadIdx.x; b * 32 < cols; b += blockDim.x) {
        float v[32];
        if (id < rows) w.values(id, b, v);
        for (int i = 0; i < 32 && b * 32 + i < cols; i++) to[b * 32 + i] = id < rows ? v[i] * scale : quiet_nan();
    }
}

#define MATMUL_F(name, F) \
    KERNEL(256, matmul_f_##name, const void *w, float *y, int n, int k, int m, const float *x, float scale, int add) { \
        matmul_f<F>(w, y, n, k, m, x, scale, add); \
    } \
    KERNEL(128, embed_##name, const void *w, int rows, int cols, const int *ids, int m, float scale, float *out) { \
        embed<F>(w, rows, cols, ids, scale, out); \
    }
FORMATS(MATMUL_F)
