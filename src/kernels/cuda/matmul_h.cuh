// Products of many tokens on the tensor cores: weights are dequantized to halves, 32 columns at a time.
#pragma once
#include "acts.cuh"
#include "formats.cuh"
#include "tile.cuh"

// Halves of a row in shared memory: an odd number of 16 bytes, so that eight rows lie in different banks.
constexpr int PITCH = STEP + 8;

// 32 weights of a row on their way to shared memory: loaded before a product is computed, stored behind it.
template <class F>
struct Ahead {
    typename F::Raw raw;
    int sub;
    DEV void load(const Matrix<F> &w, int row, int b) {
        raw = w.load(row, b);
        sub = b % 8;
    }
    DEV void store(u16 *to) const {
        float v[32];
        values_of<F>(F::codes(raw, sub), v);
#pragma unroll
        for (int i = 0; i < 4; i++) {
            Quad q;
#pragma unroll
            for (int j = 0; j < 4; j++) q.x[j] = pack_halves(v[8 * i + 2 * j], v[8 * i + 2 * j + 1]);
            *(Quad *)aligned16(to + 8 * i) = q;
        }
    }
};
template <>
struct Ahead<F16> {
    Quad q[4];
    DEV void load(const Matrix<F16> &w, int row, int b) {
        const u8 *p = w.w + ((size_t)row * w.k + b * STEP) * 2;
        if (w.whole && (b + 1) * STEP <= w.k) {
#pragma unroll
            for (int i = 0; i < 4; i++) q[i] = stream16(p + 16 * i);
        } else {
#pragma unroll
            for (int i = 0; i < 16; i++) {
                int c = b * STEP + 2 * i;
                u32 low = c < w.k ? load2(p + 4 * i) : 0, high = c + 1 < w.k ? load2(p + 4 * i + 2) : 0;
                q[i / 4].x[i % 4] = low | high << 16;
            }
        }
    }
    DEV void store(u16 *to) const {
#pragma unroll
        for (int i = 0; i < 4; i++) *(Quad *)aligned16(to + 8 * i) = q[i];
    }
};

// Four warps: two halves of the rows, two of the tokens.
template <class F>
DEV void matmul_h(const void *weights, float *y, int n, int k, int m, const void *acts, float by, int add) {
    SHARED(u16, ws, 2 * TILE_ROWS * PITCH);
    SHARED(u16, xs, 2 * TILE_TOKENS * PITCH);
    Matrix<F> w(weights, n, k);
    int kp = padded(k), groups = ceil_div(k, STEP);
    const u16 *x = (const u16 *)acts;
    const float *scales = (const float *)(x + (size_t)m * kp);
    int tid = threadIdx.x, lane = tid % 32, warp = tid / 32;
    int row0 = blockIdx.x * TILE_ROWS, token0 = blockIdx.y * TILE_TOKENS;
    // Rows behind the last are computed like it, and not written.
    int my_row = least(row0 + tid, n - 1);
    Ahead<F> ahead;

    auto copy_x = [&](int b, int buffer) {
#pragma unroll
        for (int i = 0; i < 2; i++) {
            int piece = tid + 128 * i, t = piece / 4, c = piece % 4 * 8;
            const u16 *from = x + (size_t)least(token0 + t, m - 1) * kp + b * STEP + c;
            copy16(xs + (buffer * TILE_TOKENS + t) * PITCH + c, from, token0 + t < m);
        }
        copies_end();
    };
    copy_x(0, 0);
    ahead.load(w, my_row, 0);
    ahead.store(ws + tid * PITCH);

    float sum[4][4][4] = {};
    int row = warp / 2 * 64, token = warp % 2 * 32;
    for (int b = 0; b < groups; b++) {
        int buffer = b % 2;
        copies_wait<0>();
        __syncthreads();
        if (b + 1 < groups) {
            copy_x(b + 1, 1 - buffer);
            ahead.load(w, my_row, b + 1);
        }
#pragma unroll
        for (int c = 0; c < STEP; c += 16) {
            u32 a[4][4], bs[2][4];
#pragma unroll
            for (int i = 0; i < 4; i++) load_matrices(a[i], ws + (buffer * TILE_ROWS + row + 16 * i + lane % 16) * PITCH + c + lane / 16 * 8);
#pragma unroll
            for (int j = 0; j < 2; j++)
                load_matrices(bs[j], xs + (buffer * TILE_TOKENS + token + 16 * j + lane / 16 * 8 + lane % 8) * PITCH + c + lane / 8 % 2 * 8);
#pragma unroll
            for (int i = 0; i < 4; i++)
#pragma unroll
                for (int j = 0; j < 4; j++) mma_halves(sum[i][j], a[i], bs[j / 2] + j % 2 * 2);
        }
        if (b + 1 < groups) ahead.store(ws + ((1 - buffer) * TILE_ROWS + tid) * PITCH);
    }

    put_tile(y, n, m, row0 + row, token0 + token, sum, add, [&](int t) { return by * scales[t]; });
}

#define MATMUL_H(name, F) \
    KERNEL(128, matmul_h_##name, const void *w, float *y, int n, int k, int m, const void *acts, float scale, int add) { \
        matmul_h<F>(w, y, n, k, m, acts, scale, add); \
    }
PACKED_FORMATS(MATMUL_H)
MATMUL_H(f16, F16)
