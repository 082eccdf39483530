// Products of prompts on the tensor cores' integers: weights are the codes that they are, activations the 15 bits of `pack_i` in two bytes.
// Sums of 32 columns are exact; they become f32 and get their scales there. So this rounds as `matvec_i` does, and not as halves do.
// For formats with a scale for 32: where there are two, scales take more time than halves.
#pragma once
#include "acts.cuh"
#include "formats.cuh"
#include "tile.cuh"

// Bytes of a row in shared memory, an odd number of 16: of weights 32 columns, of activations twice that, so that a copy takes whole sectors.
constexpr int CODES_PITCH = STEP + 16, PAIR = 2 * STEP, PAIR_PITCH = PAIR + 16;

// 32 signed codes of a row on their way to shared memory, as `Ahead`: what lies around a middle is moved there, so that it has no minimum.
template <class F>
struct CodesAhead {
    static constexpr bool MINS = F::MINS && F::MIDDLE == 0;
    typename F::Raw raw;
    int sub;
    DEV void load(const Matrix<F> &w, int row, int b) {
        raw = w.load(row, b);
        sub = b % 8;
    }
    DEV void store(u8 *to, float *d, float *m) const {
        Codes c = F::codes(raw, sub);
#pragma unroll
        for (int i = 0; i < 2; i++) {
            Quad q;
#pragma unroll
            // No byte borrows: all are below 128, and so is the middle.
            for (int j = 0; j < 4; j++) q.x[j] = F::MIDDLE ? ((c.q[4 * i + j] | 0x80808080u) - F::MIDDLE * ONES) ^ 0x80808080u : c.q[4 * i + j];
            *(Quad *)aligned16(to + 16 * i) = q;
        }
        *d = c.d[0];
        if (MINS) *m = c.m[0];
    }
};

// An integer below 2^22 added to these bits of 1.5 * 2^23 makes the bits of the sum: sums of products begin with it, and need no conversion.
constexpr int FROM = 0x4b400000;
constexpr float FROM_VALUE = 12582912;
// 256 hi + lo of two such, rounded once: the first step is exact.
DEV float joined(int hi, int lo) { return fused(bits_to_float((u32)hi), 256, -257 * FROM_VALUE) + bits_to_float((u32)lo); }

// Four warps: two halves of the rows, two of the tokens.
template <class F>
DEV void matmul_i(const void *weights, float *y, int n, int k, int m, const void *acts, float by, int add) {
    constexpr bool MINS = CodesAhead<F>::MINS;
    // Of weights two steps; of activations two pairs of steps, high bytes and low ones.
    SHARED(u8, ws, 2 * TILE_ROWS * CODES_PITCH);
    SHARED(float, w_scales, 2 * TILE_ROWS);
    SHARED(float, w_mins, MINS ? 2 * TILE_ROWS : 4);
    SHARED(u8, xs, 2 * 2 * TILE_TOKENS * PAIR_PITCH);
    SHARED(float, x_scales, 2 * 2 * TILE_TOKENS);
    SHARED(float, x_sums, MINS ? 2 * 2 * TILE_TOKENS : 4);
    Matrix<F> w(weights, n, k);
    Acts x(acts, m, k);
    int groups = k / STEP, tid = threadIdx.x, lane = tid % 32, warp = tid / 32;
    int row0 = blockIdx.x * TILE_ROWS, token0 = blockIdx.y * TILE_TOKENS;
    // Rows behind the last are computed like it, and not written.
    int my_row = least(row0 + tid, n - 1);
    CodesAhead<F> ahead;
    auto store_w = [&](int buffer) {
        int at = buffer * TILE_ROWS + tid;
        ahead.store(ws + at * CODES_PITCH, w_scales + at, w_mins + (MINS ? at : 0));
    };

    // A thread's token, and which step of a pair. Behind the last of both all is zero.
    int my_token = tid / 2, my_step = tid % 2;
    size_t x_row = (size_t)least(token0 + my_token, m - 1) * groups;
    float x_scale = 0, x_sum = 0;
    auto load_x = [&](int b, int buffer) {
        bool there = token0 + my_token < m && b + my_step < groups;
        size_t at = there ? x_row + b + my_step : 0;
#pragma unroll
        for (int i = 0; i < 4; i++) {
            // High bytes of both halves, then low ones.
            const u8 *from = x.hi + i * x.half + at * 16;
            copy16(xs + ((buffer * 2 + i / 2) * TILE_TOKENS + my_token) * PAIR_PITCH + my_step * STEP + i % 2 * 16, from, there);
        }
        copies_end();
        x_scale = there ? x.d[at] : 0;
        if (MINS) {
            Duo sums = load8(x.sums + at * 2);
            x_sum = there ? bits_to_float(sums.x[0]) + bits_to_float(sums.x[1]) : 0;
        }
    };
    auto store_x = [&](int buffer) {
        int at = (buffer * 2 + my_step) * TILE_TOKENS + my_token;
        x_scales[at] = x_scale;
        if (MINS) x_sums[at] = x_sum;
    };
    load_x(0, 0);
    ahead.load(w, my_row, 0);
    store_x(0);
    store_w(0);

    float sum[4][4][4] = {};
    int row = warp / 2 * 64, token = warp % 2 * 32;
#pragma unroll 1
    for (int b = 0; b < groups; b++) {
        int buffer = b % 2, pair = b / 2 % 2, step = b % 2;
        bool more_x = step == 0 && b + 2 < groups, more_w = b + 1 < groups;
        if (step == 0) copies_wait<0>();
        __syncthreads();
        if (more_x) load_x(b + 2, 1 - pair);
        if (more_w) ahead.load(w, my_row, b + 1);

        u32 hi[2][4], lo[2][4];
#pragma unroll
        for (int j = 0; j < 2; j++) {
            const u8 *from = xs + (pair * 2 * TILE_TOKENS + token + 16 * j + lane / 16 * 8 + lane % 8) * PAIR_PITCH + step * STEP + lane / 8 % 2 * 16;
            load_matrices(hi[j], from);
            load_matrices(lo[j], from + TILE_TOKENS * PAIR_PITCH);
        }
        float xd[4][2], xm[4][2];
#pragma unroll
        for (int j = 0; j < 4; j++)
#pragma unroll
            for (int t = 0; t < 2; t++) {
                int at = (pair * 2 + step) * TILE_TOKENS + token + 8 * j + lane % 4 * 2 + t;
                xd[j][t] = x_scales[at];
                if (MINS) xm[j][t] = x_sums[at];
            }
#pragma unroll
        for (int i = 0; i < 4; i++) {
            u32 a[4];
            load_matrices(a, ws + (buffer * TILE_ROWS + row + 16 * i + lane % 16) * CODES_PITCH + lane / 16 * 16);
            float wd[2], wm[2];
#pragma unroll
            for (int r = 0; r < 2; r++) {
                int at = buffer * TILE_ROWS + row + 16 * i + 8 * r + lane / 4;
                wd[r] = w_scales[at];
                if (MINS) wm[r] = w_mins[at];
            }
#pragma unroll
            for (int j = 0; j < 4; j++) {
                int high[4], low[4];
                mma_bytes(high, a, hi[j / 2] + j % 2 * 2, FROM);
                mma_bytes(low, a, lo[j / 2] + j % 2 * 2, FROM);
#pragma unroll
                for (int e = 0; e < 4; e++) {
                    int r = e / 2, t = e % 2;
                    float &s = sum[i][j][e];
                    s = fused(times(xd[j][t], wd[r]), joined(high[e], low[e]), s);
                    if (MINS) s = fused(wm[r], xm[j][t], s);
                }
            }
        }
        if (more_x) store_x(1 - pair);
        if (more_w) store_w(1 - buffer);
    }
    put_tile(y, n, m, row0 + row, token0 + token, sum, add, [&](int) { return by; });
}

#define MATMUL_I(name, F) \
    KERNEL(128, matmul_i_##name, const void *w, float *y, int n, int k, int m, const void *acts, float scale, int add) { \
        matmul_i<F>(w, y, n, k, m, acts, scale, add); \
    }
FORMATS_OF_32(MATMUL_I)
