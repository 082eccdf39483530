// The way back through attention on the tensor cores, as in attend_back.cuh: a block has 64 rows (or 64 keys), four warps 16 each, and goes
// through R keys (or rows) at a time. All that is multiplied is halves; what comes back is so by one power of two for all rows.
#pragma once
#include "facts.cuh"

// Two matrices of halves with rows at multiples of `stride`: q and do of a head, or keys and values.
struct Sides {
    const u16 *a, *b;
    int stride, count;
};

template <int D>
DEV void copy_sides(u16 *a, u16 *b, const Sides &from, int first, int rows, int dim) {
    for (int i = threadIdx.x; i < rows * (D / 8); i += 128) {
        int r = i / (D / 8), c = i % (D / 8) * 8;
        bool there = first + r < from.count && c < dim;
        size_t at = there ? (size_t)(first + r) * from.stride + c : 0;
        copy16(a + r * (D + 8) + c, from.a + at, there);
        copy16(b + r * (D + 8) + c, from.b + at, there);
    }
    copies_end();
}

// s = a a'^T and d = b b'^T, of the warp's 16 rows of a and b and R rows of a' and b'.
template <int D, int R>
DEV void sides_products(const u16 *a, const u16 *b, const u16 *a2, const u16 *b2, float s[R / 8][4], float d[R / 8][4]) {
    constexpr int PITCH = D + 8;
    int lane = threadIdx.x % 32, warp = threadIdx.x / 32;
#pragma unroll
    for (int j = 0; j < R / 8; j++)
#pragma unroll
        for (int i = 0; i < 4; i++) s[j][i] = d[j][i] = 0;
#pragma unroll
    for (int c = 0; c < D; c += 16) {
        u32 x[2][4];
        int mine = (warp * 16 + lane % 16) * PITCH + c + lane / 16 * 8;
        load_matrices(x[0], a + mine);
        load_matrices(x[1], b + mine);
#pragma unroll
        for (int j = 0; j < R; j += 16) {
            u32 y[4];
            int other = (j + lane / 16 * 8 + lane % 8) * PITCH + c + lane / 8 % 2 * 8;
            load_matrices(y, a2 + other);
            mma_halves(s[j / 8], x[0], y);
            mma_halves(s[j / 8 + 1], x[0], y + 2);
            load_matrices(y, b2 + other);
            mma_halves(d[j / 8], x[1], y);
            mma_halves(d[j / 8 + 1], x[1], y + 2);
        }
    }
}

// sum [16][D] += p [16][R] y for y [R][D].
template <int D, int R>
DEV void gather_halves(const u32 p[R / 16][4], const u16 *y, float sum[D / 8][4]) {
    int lane = threadIdx.x % 32;
#pragma unroll
    for (int c = 0; c < D; c += 16) {
#pragma unroll
        for (int j = 0; j < R; j += 16) {
            u32 b[4];
            load_matrices_turned(b, y + (j + lane / 8 % 2 * 8 + lane % 8) * (D + 8) + c + lane / 16 * 8);
            mma_halves(sum[c / 8], p[j / 16], b);
            mma_halves(sum[c / 8 + 1], p[j / 16], b + 2);
        }
    }
}

// s becomes P, or LOWEST's: 0; d becomes dS times what s is multiplied by. `of`: the row's facts.
DEV void slope(const Facts &f, const float *of, bool seen, float &s, float &d) {
    float score = f.capped(f.scale * s), bend = f.cap > 0 ? 1 - score / f.cap * (score / f.cap) : 1;
    s = seen ? expf(score - of[0]) * of[1] : 0;
    d = seen ? s * (d - of[2]) * f.scale * bend : 0;
}

// The warp's rows of sums, times `by`, to rows of `to`.
template <int D>
DEV void store_halves(float *to, int first, int count, size_t stride, int dim, const float sum[D / 8][4], float by) {
    int lane = threadIdx.x % 32;
#pragma unroll
    for (int h = 0; h < 2; h++) {
        int row = first + (int)threadIdx.x / 32 * 16 + lane / 4 + 8 * h;
        if (row >= count) continue;
#pragma unroll
        for (int c = 0; c < D / 8; c++) {
            int column = 8 * c + lane % 4 * 2;
            if (column < dim) {
                to[row * stride + column] = by * sum[c][2 * h];
                to[row * stride + column + 1] = by * sum[c][2 * h + 1];
            }
        }
    }
}

// What all of them read: halves, and what makes numbers of `d_out`'s.
struct BackwardHalves {
    const u16 *q, *d_out, *k, *v;
    int m, n;
    Facts f;
    DEV Sides rows(int head) const { return {q + head * f.head_dim, d_out + head * f.head_dim, f.heads * f.head_dim, m}; }
    DEV Sides keys(int kv_head) const { return {k + kv_head * f.head_dim, v + kv_head * f.head_dim, f.kv_heads * f.head_dim, n}; }
};

// Goes through rows begin .. end of `streamed`, R at a time: `each(first, a, b)`.
template <int D, int R, int BUFFERS, class Each>
DEV void stream(const Sides &streamed, int begin, int end, int dim, u16 *room, Each each) {
    constexpr int LEN = R * (D + 8);
    auto copy = [&](int first, int buffer) { copy_sides<D>(room + 2 * buffer * LEN, room + (2 * buffer + 1) * LEN, streamed, first, R, dim); };
    __syncthreads();
    copy(begin, 0);
    int buffer = 0;
    for (int first = begin; first < end; first += R) {
        copies_wait<0>();
        __syncthreads();
        int next = BUFFERS - 1 - buffer;
        if (BUFFERS > 1 && first + R < end) copy(first + R, next);
        each(first, room + 2 * buffer * LEN, room + (2 * buffer + 1) * LEN);
        if (BUFFERS == 1) {
            __syncthreads();
            if (first + R < end) copy(first + R, 0);
        }
        buffer = next;
    }
    copies_wait<0>();
}

template <int D, int R, int BUFFERS>
DEV void back_rows(const BackwardHalves &b, float *facts) {
    SHARED(u16, own, 2 * 64 * (D + 8));
    SHARED(u16, room, 2 * BUFFERS * R * (D + 8));
    u16 *qs = own, *ds = own + 64 * (D + 8);
    int lane = threadIdx.x % 32, warp = threadIdx.x / 32, head = blockIdx.y;
    int row0 = (int)(gridDim.x - 1 - blockIdx.x) * 64;
    copy_sides<D>(qs, ds, b.rows(head), row0, 64, b.f.head_dim);
    float max[2] = {LOWEST, LOWEST}, total[2] = {}, along[2] = {};
    int end = b.f.last(least(row0 + 64, b.m) - 1), kv_head = head / (b.f.heads / b.f.kv_heads);
    stream<D, R, BUFFERS>(b.keys(kv_head), b.f.first(row0), end, b.f.head_dim, room, [&](int base, const u16 *ks, const u16 *vs) {
        float s[R / 8][4], d[R / 8][4];
        sides_products<D, R>(qs, ds, ks, vs, s, d);
#pragma unroll
        for (int h = 0; h < 2; h++) {
            int row = least(row0 + warp * 16 + lane / 4 + 8 * h, b.m - 1), first = b.f.first(row), last = b.f.last(row);
            float now = max[h];
#pragma unroll
            for (int j = 0; j < R / 8; j++) {
#pragma unroll
                for (int i = 0; i < 2; i++) {
                    int key = base + 8 * j + lane % 4 * 2 + i;
                    float &score = s[j][2 * h + i];
                    score = key >= first && key < last ? b.f.capped(b.f.scale * score) : LOWEST;
                    now = fmaxf(now, score);
                }
            }
            now = largest_of(now, 4);
            float from = now == LOWEST ? 0 : now, shrink = max[h] == LOWEST ? 0 : expf(max[h] - from), sum = 0, dots = 0;
            max[h] = now;
#pragma unroll
            for (int j = 0; j < R / 8; j++) {
#pragma unroll
                for (int i = 0; i < 2; i++) {
                    float p = expf(s[j][2 * h + i] - from);
                    sum += p;
                    dots += p == 0 ? 0 : p * d[j][2 * h + i];
                }
            }
            total[h] = total[h] * shrink + sum_of(sum, 4);
            along[h] = along[h] * shrink + sum_of(dots, 4);
        }
    });
#pragma unroll
    for (int h = 0; h < 2; h++) {
        int row = row0 + warp * 16 + lane / 4 + 8 * h;
        if (row >= b.m || lane % 4 != 0) continue;
        float *to = facts + ((size_t)head * b.m + row) * ROW_FACTS;
        to[0] = max[h];
        to[1] = 1 / total[h];
        to[2] = along[h] / total[h];
    }
}

template <int D, int R, int BUFFERS>
DEV void back_q(const BackwardHalves &b, const float *facts, float by, float *dq) {
    SHARED(u16, own, 2 * 64 * (D + 8));
    SHARED(u16, room, 2 * BUFFERS * R * (D + 8));
    u16 *qs = own, *ds = own + 64 * (D + 8);
    int lane = threadIdx.x % 32, warp = threadIdx.x / 32, head = blockIdx.y, dim = b.f.head_dim;
    int row0 = (int)(gridDim.x - 1 - blockIdx.x) * 64;
    copy_sides<D>(qs, ds, b.rows(head), row0, 64, dim);
    float sum[D / 8][4] = {};
    int end = b.f.last(least(row0 + 64, b.m) - 1), kv_head = head / (b.f.heads / b.f.kv_heads);
    stream<D, R, BUFFERS>(b.keys(kv_head), b.f.first(row0), end, dim, room, [&](int base, const u16 *ks, const u16 *vs) {
        float s[R / 8][4], d[R / 8][4];
        sides_products<D, R>(qs, ds, ks, vs, s, d);
        u32 p[R / 16][4];
#pragma unroll
        for (int h = 0; h < 2; h++) {
            int row = least(row0 + warp * 16 + lane / 4 + 8 * h, b.m - 1), first = b.f.first(row), last = b.f.last(row);
            const float *of = facts + ((size_t)head * b.m + row) * ROW_FACTS;
#pragma unroll
            for (int j = 0; j < R / 8; j++) {
#pragma unroll
                for (int i = 0; i < 2; i++) {
                    int key = base + 8 * j + lane % 4 * 2 + i;
                    slope(b.f, of, key >= first && key < last, s[j][2 * h + i], d[j][2 * h + i]);
                }
                p[j / 2][h + j % 2 * 2] = pack_halves(d[j][2 * h], d[j][2 * h + 1]);
            }
        }
        gather_halves<D, R>(p, ks, sum);
    });
    store_halves<D>(dq + head * dim, row0, b.m, (size_t)b.f.heads * dim, dim, sum, by);
}

template <int D, int R, int BUFFERS>
DEV void back_kv(const BackwardHalves &b, const float *facts, float by, float *dk, float *dv) {
    SHARED(u16, own, 2 * 64 * (D + 8));
    SHARED(u16, room, 2 * BUFFERS * R * (D + 8));
    u16 *ks = own, *vs = own + 64 * (D + 8);
    int lane = threadIdx.x % 32, warp = threadIdx.x / 32, kv_head = blockIdx.y, dim = b.f.head_dim, key0 = blockIdx.x * 64;
    int group = b.f.heads / b.f.kv_heads, window = b.f.window;
    copy_sides<D>(ks, vs, b.keys(kv_head), key0, 64, dim);
    // The rows that see any of these keys.
    int begin = most(key0 - b.f.pos, 0), end = window > 0 ? least(b.m, key0 + 63 + window - b.f.pos) : b.m;
    float sum_k[D / 8][4] = {}, sum_v[D / 8][4] = {};
    for (int head = kv_head * group; head < (kv_head + 1) * group; head++) {
        stream<D, R, BUFFERS>(b.rows(head), begin, end, dim, room, [&](int base, const u16 *qs, const u16 *ds) {
            float s[R / 8][4], d[R / 8][4];
            sides_products<D, R>(ks, vs, qs, ds, s, d);
            u32 p[R / 16][4], g[R / 16][4];
#pragma unroll
            for (int j = 0; j < R / 8; j++) {
#pragma unroll
                for (int i = 0; i < 2; i++) {
                    int row = base + 8 * j + lane % 4 * 2 + i, known = least(row, b.m - 1);
                    int first = b.f.first(known), last = row < b.m ? b.f.last(known) : 0;
                    const float *of = facts + ((size_t)head * b.m + known) * ROW_FACTS;
#pragma unroll
                    for (int h = 0; h < 2; h++) {
                        int key = key0 + warp * 16 + lane / 4 + 8 * h;
                        slope(b.f, of, key >= first && key < last, s[j][2 * h + i], d[j][2 * h + i]);
                    }
                }
#pragma unroll
                for (int h = 0; h < 2; h++) {
                    p[j / 2][h + j % 2 * 2] = pack_halves(s[j][2 * h], s[j][2 * h + 1]);
                    g[j / 2][h + j % 2 * 2] = pack_halves(d[j][2 * h], d[j][2 * h + 1]);
                }
            }
            gather_halves<D, R>(p, ds, sum_v);
            gather_halves<D, R>(g, qs, sum_k);
        });
    }
    size_t stride = (size_t)b.f.kv_heads * dim;
    store_halves<D>(dk + kv_head * dim, key0, b.n, stride, dim, sum_k, by);
    store_halves<D>(dv + kv_head * dim, key0, b.n, stride, dim, sum_v, by);
}

#define HALVES_BACK const u16 *q, const u16 *d_out, const u16 *k, const u16 *v, float *rows
#define MAKE_HALVES_BACK BackwardHalves{q, d_out, k, v, m, position(pos_at, pos) + m, MAKE_FACTS}
#define ATTEND_BACK(D, R, BUFFERS) \
    KERNEL(128, attend_back_rows_##D, HALVES_BACK, FACTS) { back_rows<D, R, BUFFERS>(MAKE_HALVES_BACK, rows); } \
    KERNEL(128, attend_back_q_##D, HALVES_BACK, const float *by, float *dq, FACTS) { \
        back_q<D, R, BUFFERS>(MAKE_HALVES_BACK, rows, *by, dq); \
    } \
    KERNEL(128, attend_back_kv_##D, HALVES_BACK, const float *by, float *dk, float *dv, FACTS) { \
        back_kv<D, R, BUFFERS>(MAKE_HALVES_BACK, rows, *by, dk, dv); \
    }
ATTEND_BACK(64, 32, 2)
ATTEND_BACK(128, 16, 1)
