// Attention of many rows on the tensor cores: a warp has 16 rows of a head; keys and values come to shared memory, KEYS at a time.
#pragma once
#include "facts.cuh"

// D: columns of a head, rounded up.
template <int D, int WARPS, int KEYS>
DEV void attend_mma(const float *q, const u16 *k, const u16 *v, float *out, int m, const Facts &f) {
    constexpr int ROWS = 16 * WARPS, THREADS = 32 * WARPS, PITCH = D + 8;
    SHARED(u16, qs, ROWS * PITCH);
    SHARED(u16, ks, KEYS * PITCH);
    SHARED(u16, vs, KEYS * PITCH);
    int tid = threadIdx.x, lane = tid % 32, warp = tid / 32, dim = f.head_dim, head = blockIdx.y;
    // Late rows see the most: they begin first.
    int row0 = (int)(gridDim.x - 1 - blockIdx.x) * ROWS;
    size_t kv_head = (size_t)(head / (f.heads / f.kv_heads)) * dim;
    for (int i = tid; i < ROWS * D / 2; i += THREADS) {
        int r = i / (D / 2), c = i % (D / 2) * 2;
        const float *from = q + ((size_t)least(row0 + r, m - 1) * f.heads + head) * dim + c;
        *(u32 *)(qs + r * PITCH + c) = c < dim ? pack_halves(from[0], from[1]) : 0;
    }
    int begin = f.first(row0), end = f.last(least(row0 + ROWS, m) - 1);
    auto copy = [&](u16 *to, const u16 *from, int base) {
        for (int i = tid; i < KEYS * D / 8; i += THREADS) {
            int key = i / (D / 8), c = i % (D / 8) * 8;
            bool there = base + key < end && c < dim;
            copy16(to + key * PITCH + c, from + f.slot(there ? base + key : begin) + kv_head + (there ? c : 0), there);
        }
        copies_end();
    };
    // The thread's rows: g and g + 8 of the warp's. Rows behind the last see what it sees.
    int first[2], last[2];
    float max[2] = {LOWEST, LOWEST}, total[2] = {};
#pragma unroll
    for (int h = 0; h < 2; h++) {
        int row = least(row0 + warp * 16 + lane / 4 + 8 * h, m - 1);
        first[h] = f.first(row);
        last[h] = f.last(row);
    }
    float sums[D / 8][4] = {};
    copy(ks, k, begin);
    for (int base = begin; base < end; base += KEYS) {
        copies_wait<0>();
        __syncthreads();
        copy(vs, v, base);
        float s[KEYS / 8][4] = {};
#pragma unroll
        for (int c = 0; c < D; c += 16) {
            u32 a[4];
            load_matrices(a, qs + (warp * 16 + lane % 16) * PITCH + c + lane / 16 * 8);
#pragma unroll
            for (int j = 0; j < KEYS; j += 16) {
                u32 b[4];
                load_matrices(b, ks + (j + lane / 16 * 8 + lane % 8) * PITCH + c + lane / 8 % 2 * 8);
                mma_halves(s[j / 8], a, b);
                mma_halves(s[j / 8 + 1], a, b + 2);
            }
        }
        u32 p[KEYS / 16][4];
#pragma unroll
        for (int h = 0; h < 2; h++) {
            float now = max[h];
#pragma unroll
            for (int j = 0; j < KEYS / 8; j++) {
#pragma unroll
                for (int i = 0; i < 2; i++) {
                    int key = base + 8 * j + lane % 4 * 2 + i;
                    float &score = s[j][2 * h + i];
                    score = key >= first[h] && key < last[h] ? f.capped(f.scale * score) : LOWEST;
                    now = fmaxf(now, score);
                }
            }
            now = largest_of(now, 4);
            float from = now == LOWEST ? 0 : now, shrink = max[h] == LOWEST ? 0 : expf(max[h] - from), sum = 0;
            max[h] = now;
#pragma unroll
            for (int j = 0; j < KEYS / 8; j++) {
                float a = expf(s[j][2 * h] - from), b = expf(s[j][2 * h + 1] - from);
                sum += a + b;
                p[j / 2][h + j % 2 * 2] = pack_halves(a, b);
            }
            total[h] = total[h] * shrink + sum_of(sum, 4);
#pragma unroll
            for (int c = 0; c < D / 8; c++) {
                sums[c][2 * h] *= shrink;
                sums[c][2 * h + 1] *= shrink;
            }
        }
        copies_wait<0>();
        __syncthreads();
        if (base + KEYS < end) copy(ks, k, base + KEYS);
#pragma unroll
        for (int c = 0; c < D; c += 16) {
#pragma unroll
            for (int j = 0; j < KEYS; j += 16) {
                u32 b[4];
                load_matrices_turned(b, vs + (j + lane / 8 % 2 * 8 + lane % 8) * PITCH + c + lane / 16 * 8);
                mma_halves(sums[c / 8], p[j / 16], b);
                mma_halves(sums[c / 8 + 1], p[j / 16], b + 2);
            }
        }
    }
#pragma unroll
    for (int h = 0; h < 2; h++) {
        int row = row0 + warp * 16 + lane / 4 + 8 * h;
        if (row >= m) continue;
        float *to = out + ((size_t)row * f.heads + head) * dim;
#pragma unroll
        for (int c = 0; c < D / 8; c++) {
            int column = 8 * c + lane % 4 * 2;
            if (column < dim) {
                to[column] = sums[c][2 * h] / total[h];
                to[column + 1] = sums[c][2 * h + 1] / total[h];
            }
        }
    }
}

#define ATTEND_MMA(D, WARPS, KEYS) \
    KERNEL(32 * WARPS, attend_mma_##D, const float *q, const u16 *k, const u16 *v, float *out, FACTS) { \
        attend_mma<D, WARPS, KEYS>(q, k, v, out, m, MAKE_FACTS); \
    }
ATTEND_MMA(64, 4, 64)
ATTEND_MMA(128, 4, 32)
ATTEND_MMA(256, 2, 16)
