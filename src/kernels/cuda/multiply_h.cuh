// Gradients of inputs on the tensor cores: y (+)= x w for x as `pack_h` packs it and w as `unpack_h` leaves it.
#pragma once
#include "acts.cuh"

// A block has 64 tokens and 128 columns: four warps, two halves of each. Depth `depth` of x begins at column `first`, a multiple of 64.
KERNEL(128, multiply_h, const u16 *w, float *y, int k, int n, int first, int depth, int m, const void *acts, int add) {
    constexpr int TOKENS = 64, COLUMNS = 128, STEPS = 32, X_PITCH = STEPS + 8, W_PITCH = COLUMNS + 8;
    SHARED(u16, xs, 2 * TOKENS * X_PITCH);
    SHARED(u16, ws, 2 * STEPS * W_PITCH);
    int np = padded(n), kp = padded(k), steps = ceil_div(depth, STEPS);
    const u16 *x = (const u16 *)acts;
    const float *scales = (const float *)(x + (size_t)m * np);
    int tid = threadIdx.x, lane = tid % 32, warp = tid / 32;
    int column0 = blockIdx.x * COLUMNS, token0 = blockIdx.y * TOKENS;

    auto copy = [&](int s, int buffer) {
#pragma unroll
        for (int i = 0; i < 2; i++) {
            int piece = tid + 128 * i, t = piece / 4, c = piece % 4 * 8;
            // Behind the depth the rows of w are zeros; x has zeros up to a multiple of 64.
            const u16 *from = x + (size_t)least(token0 + t, m - 1) * np + first + s * STEPS + c;
            copy16(xs + (buffer * TOKENS + t) * X_PITCH + c, from, token0 + t < m);
        }
#pragma unroll
        for (int i = 0; i < 4; i++) {
            int piece = tid + 128 * i, r = piece / 16, c = piece % 16 * 8;
            bool there = s * STEPS + r < depth && column0 + c < kp;
            copy16(ws + (buffer * STEPS + r) * W_PITCH + c, there ? w + (size_t)(s * STEPS + r) * kp + column0 + c : w, there);
        }
        copies_end();
    };
    copy(0, 0);
    float sum[2][8][4] = {};
    int token = warp / 2 * 32, column = warp % 2 * 64;
    for (int s = 0; s < steps; s++) {
        int buffer = s % 2;
        copies_wait<0>();
        __syncthreads();
        if (s + 1 < steps) copy(s + 1, 1 - buffer);
#pragma unroll
        for (int c = 0; c < STEPS; c += 16) {
            u32 a[2][4];
#pragma unroll
            for (int i = 0; i < 2; i++) load_matrices(a[i], xs + (buffer * TOKENS + token + 16 * i + lane % 16) * X_PITCH + c + lane / 16 * 8);
#pragma unroll
            for (int j = 0; j < 8; j += 2) {
                u32 b[4];
                load_matrices_turned(b, ws + (buffer * STEPS + c + lane / 8 % 2 * 8 + lane % 8) * W_PITCH + column + 8 * j + lane / 16 * 8);
#pragma unroll
                for (int i = 0; i < 2; i++) {
                    mma_halves(sum[i][j], a[i], b);
                    mma_halves(sum[i][j + 1], a[i], b + 2);
                }
            }
        }
    }
#pragma unroll
    for (int i = 0; i < 2; i++) {
#pragma unroll
        for (int h = 0; h < 2; h++) {
            int t = token0 + token + 16 * i + 8 * h + lane / 4;
            if (t >= m) continue;
            float scale = scales[t];
#pragma unroll
            for (int j = 0; j < 8; j++) {
#pragma unroll
                for (int e = 0; e < 2; e++) {
                    int at = column0 + column + 8 * j + lane % 4 * 2 + e;
                    if (at >= k) continue;
                    float *to = y + (size_t)t * k + at, v = scale * sum[i][j][2 * h + e];
                    *to = add ? *to + v : v;
                }
            }
        }
    }
}
