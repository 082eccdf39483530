// Products of a few tokens: each weight is read once, and that is what takes the time.
#pragma once
#include "acts.cuh"
#include "formats.cuh"

// Up to three matrices that read the same input, one after the other in the grid.
struct To {
    const void *w;
    float *y;
    int n;
};

// Lanes that share a row: no more than it has blocks for.
CONST int lanes_of(int k) { return k >= 768 ? 32 : k >= 384 ? 16 : 8; }
// Rows of a group of lanes at once: they share the loads of activations.
constexpr int TOGETHER = 2;

// The matrix of this block of threads, and the first row of the caller's group of lanes.
DEV To pick(To a, To b, To c, int lanes, int &row) {
    int rows = 4 * TOGETHER * 32 / lanes;
    int index = blockIdx.x, in_a = ceil_div(a.n, rows), in_b = ceil_div(b.n, rows);
    To to = a;
    if (index >= in_a) {
        index -= in_a;
        to = b;
        if (index >= in_b) {
            index -= in_b;
            to = c;
        }
    }
    row = index * rows + (int)threadIdx.x / lanes * TOGETHER;
    return to;
}

DEV void put(float *y, float v, float scale, int add) { *y = add ? *y + scale * v : scale * v; }

template <class F, int M>
DEV void matvec_i(To w0, To w1, To w2, int k, int m, const void *packed, float scale, int add) {
    int lanes = lanes_of(k), row;
    To to = pick(w0, w1, w2, lanes, row);
    Matrix<F> w(to.w, to.n, k);
    Acts x(packed, m, k);
    float sum[TOGETHER][M] = {};
    int groups = k / 32;
    // The next blocks are on their way while these are multiplied; behind the last they are the last again.
    typename F::Raw next[TOGETHER];
    auto load = [&](int b) {
#pragma unroll
        for (int r = 0; r < TOGETHER; r++) next[r] = w.load(least(row + r, to.n - 1), least(b, groups - 1));
    };
    load(threadIdx.x % lanes);
    for (int b = threadIdx.x % lanes; b < groups; b += lanes) {
        Codes c[TOGETHER];
#pragma unroll
        for (int r = 0; r < TOGETHER; r++) c[r] = F::codes(next[r], b % 8);
        load(b + lanes);
#pragma unroll
        for (int t = 0; t < M; t++) {
            // Tokens that are not there are computed like the last, and not written.
            size_t at = (size_t)least(t, m - 1) * groups + b;
            Quad hi[2] = {load16(x.hi + at * 16), load16(x.hi + x.half + at * 16)};
            Quad lo[2] = {load16(x.lo + at * 16), load16(x.lo + x.half + at * 16)};
            float d = x.d[at];
            Duo sums = load8(x.sums + at * 2);
#pragma unroll
            for (int r = 0; r < TOGETHER; r++) {
                int q[2];
#pragma unroll
                for (int h = 0; h < 2; h++) {
                    int high = 0, low = 0;
#pragma unroll
                    for (int i = 0; i < 4; i++) {
                        high = dot4(c[r].q[4 * h + i], hi[h].x[i], high);
                        low = dot4(c[r].q[4 * h + i], lo[h].x[i], low);
                    }
                    q[h] = 256 * high + low;
                }
                float s = sum[r][t];
                if (F::HALVES) {
                    s = fused(d, fused(c[r].d[0], (float)q[0], times(c[r].d[1], (float)q[1])), s);
                    s = fused(c[r].m[0], bits_to_float(sums.x[0]), s);
                    s = fused(c[r].m[1], bits_to_float(sums.x[1]), s);
                } else {
                    s = fused(times(d, c[r].d[0]), (float)(q[0] + q[1]), s);
                    if (F::MINS) s = fused(c[r].m[0], bits_to_float(sums.x[0]) + bits_to_float(sums.x[1]), s);
                }
                sum[r][t] = s;
            }
        }
    }
#pragma unroll
    for (int r = 0; r < TOGETHER; r++) {
#pragma unroll
        for (int t = 0; t < M; t++) {
            float v = sum_of(sum[r][t], lanes);
            if (threadIdx.x % lanes == 0 && t < m && row + r < to.n) put(to.y + (size_t)t * to.n + row + r, v, scale, add);
        }
    }
}

template <class F>
DEV void matvec_f(To w0, To w1, To w2, int k, int m, const float *x, float scale, int add) {
    constexpr int M = 4;
    int lanes = lanes_of(k), row;
    To to = pick(w0, w1, w2, lanes, row);
    Matrix<F> w(to.w, to.n, k);
    bool whole = k % 4 == 0;
    for (int r = row; r < row + TOGETHER; r++) {
        float sum[M] = {};
        for (int b = threadIdx.x % lanes; b * 32 < k; b += lanes) {
            float v[32];
            w.values(least(r, to.n - 1), b, v);
#pragma unroll
            for (int t = 0; t < M; t++) {
                const float *from = x + (size_t)least(t, m - 1) * k + b * 32;
                // Four at a time; the last may be fewer.
#pragma unroll
                for (int i = 0; i < 32; i += 4) {
                    if (whole && b * 32 + i < k) {
                        Floats four = *(const Floats *)aligned16(from + i);
#pragma unroll
                        for (int j = 0; j < 4; j++) sum[t] = fused(v[i + j], four.x[j], sum[t]);
                    } else {
                        for (int j = i; j < least(i + 4, k - b * 32); j++) sum[t] = fused(v[j], from[j], sum[t]);
                    }
                }
            }
        }
#pragma unroll
        for (int t = 0; t < M; t++) {
            float v = sum_of(sum[t], lanes);
            if (threadIdx.x % lanes == 0 && t < m && r < to.n) put(to.y + (size_t)t * to.n + r, v, scale, add);
        }
    }
}

#define PRODUCTS const void *w0, float *y0, int n0, const void *w1, float *y1, int n1, const void *w2, float *y2, int n2, int k, int m
#define MATVEC_I(name, F, M) \
    KERNEL(128, matvec_i_##name##_##M, PRODUCTS, const void *acts, float scale, int add) { \
        matvec_i<F, M>(To{w0, y0, n0}, To{w1, y1, n1}, To{w2, y2, n2}, k, m, acts, scale, add); \
    }
#define MATVECS_I(name, F) MATVEC_I(name, F, 1) MATVEC_I(name, F, 2) MATVEC_I(name, F, 4) MATVEC_I(name, F, 8)
PACKED_FORMATS(MATVECS_I)

#define MATVEC_F(name, F) \
    KERNEL(128, matvec_f_##name, PRODUCTS, const float *x, float scale, int add) { \
        matvec_f<F>(To{w0, y0, n0}, To{w1, y1, n1}, To{w2, y2, n2}, k, m, x, scale, add); \
    }
FORMATS(MATVEC_F)
