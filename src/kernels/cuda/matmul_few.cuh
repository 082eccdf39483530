// Products of up to 16 tokens on the tensor cores: too many for `matvec`, too few to fill the tiles of `matmul_h`. Weights are read once: each warp has
// its own columns, and waits for no other until the sums are put together.
#pragma once
#include "matmul_h.cuh"

constexpr int FEW_ROWS = 32, FEW_TOKENS = 16, FEW_STEP = 64, FEW_PITCH = FEW_STEP + 8;

// A warp has every fourth 64 columns, a lane a row of them.
template <class F>
DEV void matmul_few(const void *weights, float *y, int n, int k, int m, const void *acts, float by, int add) {
    SHARED(u16, ws, 4 * FEW_ROWS * FEW_PITCH);
    SHARED(u16, xs, 4 * FEW_TOKENS * FEW_PITCH);
    SHARED(float, parts, 4 * FEW_ROWS * FEW_TOKENS);
    Matrix<F> w(weights, n, k);
    int kp = padded(k), groups = ceil_div(k, STEP), steps = kp / FEW_STEP;
    const u16 *x = (const u16 *)acts;
    const float *scales = (const float *)(x + (size_t)m * kp);
    int tid = threadIdx.x, lane = tid % 32, warp = tid / 32, row0 = blockIdx.x * FEW_ROWS;
    int my_row = least(row0 + lane, n - 1);
    u16 *my_ws = ws + warp * FEW_ROWS * FEW_PITCH, *my_xs = xs + warp * FEW_TOKENS * FEW_PITCH;
    Ahead<F> ahead[2];
    auto load = [&](int step) {
#pragma unroll
        for (int i = 0; i < 2; i++) ahead[i].load(w, my_row, least(2 * step + i, groups - 1));
    };
    if (warp < steps) load(warp);

    float sum[2][2][4] = {};
    for (int step = warp; step < steps; step += 4) {
        // Behind the last column weights are whatever they were, and activations zero.
#pragma unroll
        for (int i = 0; i < 2; i++) ahead[i].store(my_ws + lane * FEW_PITCH + i * STEP);
#pragma unroll
        for (int i = 0; i < 4; i++) {
            int piece = lane + 32 * i, t = piece / 8, c = piece % 8 * 8;
            copy16(my_xs + t * FEW_PITCH + c, x + (size_t)least(t, m - 1) * kp + step * FEW_STEP + c, t < m);
        }
        copies_end();
        if (step + 4 < steps) load(step + 4);
        copies_wait<0>();
        __syncwarp();
#pragma unroll
        for (int c = 0; c < FEW_STEP; c += 16) {
            u32 a[2][4], b[4];
            load_matrices(b, my_xs + (lane / 16 * 8 + lane % 8) * FEW_PITCH + c + lane / 8 % 2 * 8);
#pragma unroll
            for (int i = 0; i < 2; i++) {
                load_matrices(a[i], my_ws + (16 * i + lane % 16) * FEW_PITCH + c + lane / 16 * 8);
                mma_halves(sum[i][0], a[i], b);
                mma_halves(sum[i][1], a[i], b + 2);
            }
        }
        __syncwarp();
    }
#pragma unroll
    for (int i = 0; i < 2; i++)
#pragma unroll
        for (int j = 0; j < 2; j++)
#pragma unroll
            for (int h = 0; h < 4; h++)
                parts[((warp * FEW_TOKENS) + 8 * j + lane % 4 * 2 + h % 2) * FEW_ROWS + 16 * i + lane / 4 + h / 2 * 8] = sum[i][j][h];
    __syncthreads();
#pragma unroll
    for (int i = 0; i < 4; i++) {
        int t = warp + 4 * i, r = row0 + lane;
        if (t >= m || r >= n) continue;
        float v = 0;
        for (int s = 0; s < 4; s++) v += parts[(s * FEW_TOKENS + t) * FEW_ROWS + lane];
        v *= by * scales[t];
        float *to = y + (size_t)t * n + r;
        *to = add ? *to + v : v;
    }
}

#define MATMUL_FEW(name, F) \
    KERNEL(128, matmul_few_##name, const void *w, float *y, int n, int k, int m, const void *acts, float scale, int add) { \
        matmul_few<F>(w, y, n, k, m, acts, scale, add); \
    }
PACKED_FORMATS(MATMUL_FEW)
MATMUL_FEW(f16, F16)
