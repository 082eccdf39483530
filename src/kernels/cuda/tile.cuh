// What products of many tokens share: a block has a tile of the result, of which each warp has 64 rows and 32 tokens, and goes through the columns in steps.
#pragma once
#include "common.cuh"

constexpr int TILE_ROWS = 128, TILE_TOKENS = 64, STEP = 32;

// A warp's 64 rows from `row` on and 32 tokens from `token` on: 4 x 4 results of tensor cores, times what `scale_of` says of a token.
template <class S>
DEV void put_tile(float *y, int n, int m, int row, int token, const float sum[4][4][4], int add, S scale_of) {
    int lane = threadIdx.x % 32;
#pragma unroll
    for (int j = 0; j < 4; j++) {
#pragma unroll
        for (int h = 0; h < 2; h++) {
            int t = token + 8 * j + lane % 4 * 2 + h;
            if (t >= m) continue;
            float scale = scale_of(t);
#pragma unroll
            for (int i = 0; i < 8; i++) {
                int r = row + 8 * i + lane / 4;
                if (r < n) {
                    float *to = y + (size_t)t * n + r, v = scale * sum[i / 2][j][i % 2 * 2 + h];
                    *to = add ? *to + v : v;
                }
            }
        }
    }
}
