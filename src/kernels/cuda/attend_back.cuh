// The way back through attention, in f32: probabilities are made again, 64 rows and 64 keys at a time (Dao et al. 2022, arXiv:2205.14135). With
// P = softmax(s), s = q k^T, dP = do v^T and dS = P (dP - sum(P dP)): dq = dS k, dk = dS^T q, dv = P^T do. Keys and values are f32 here, key j
// in row j. Each number is summed by one thread, in an order that depends on shapes alone.
#pragma once
#include "facts.cuh"

constexpr int SIDE = 64, SIDE_PITCH = SIDE + 4;
// Columns of a head whose sums a block has: the grid's z says which.
constexpr int BACK_COLUMNS = 128;
// Columns, or rows, in shared memory at once.
constexpr int BACK_STEPS = 16;
// Numbers of shared memory: four pieces of SIDE rows; a piece of BACK_STEPS rows.
constexpr int BACK_ROOM = 4 * BACK_STEPS * SIDE_PITCH;

// What all three kernels read.
struct Backward {
    const float *q, *d_out, *k, *v;
    int m, n;
    Facts f;
    DEV const float *row(const float *x, int head, int i) const { return x + ((size_t)least(i, m - 1) * f.heads + head) * f.head_dim; }
    DEV const float *key(const float *x, int kv_head, int i) const { return x + ((size_t)least(i, n - 1) * f.kv_heads + kv_head) * f.head_dim; }
    DEV int kv_head(int head) const { return head / (f.heads / f.kv_heads); }
};

// s = q k^T and d = do v^T, of rows row0 + 4 (tid / 16) .. and keys key0 + 4 (tid % 16) ..; what is behind the last is like the last.
DEV void products(const Backward &b, int head, int row0, int key0, float *room, float s[4][4], float d[4][4]) {
    int tid = threadIdx.x, r = tid / 4, c = tid % 4 * 4, dim = b.f.head_dim, kv_head = b.kv_head(head);
    const float *from[4] = {b.row(b.q, head, row0 + r), b.row(b.d_out, head, row0 + r), b.key(b.k, kv_head, key0 + r), b.key(b.v, kv_head, key0 + r)};
#pragma unroll
    for (int i = 0; i < 4; i++)
#pragma unroll
        for (int j = 0; j < 4; j++) s[i][j] = d[i][j] = 0;
    for (int first = 0; first < dim; first += BACK_STEPS) {
        __syncthreads();
#pragma unroll
        for (int i = 0; i < 4; i++) {
            Quad v = first + c < dim ? load16(from[i] + first + c) : Quad{};
#pragma unroll
            for (int j = 0; j < 4; j++) room[(i * BACK_STEPS + c + j) * SIDE_PITCH + r] = bits_to_float(v.x[j]);
        }
        __syncthreads();
#pragma unroll 4
        for (int e = 0; e < BACK_STEPS; e++) {
            Floats x[4];
#pragma unroll
            for (int i = 0; i < 4; i++)
                x[i] = *(const Floats *)aligned16(room + (i * BACK_STEPS + e) * SIDE_PITCH + (i < 2 ? tid / 16 : tid % 16) * 4);
#pragma unroll
            for (int i = 0; i < 4; i++) {
#pragma unroll
                for (int j = 0; j < 4; j++) {
                    s[i][j] = fused(x[0].x[i], x[2].x[j], s[i][j]);
                    d[i][j] = fused(x[1].x[i], x[3].x[j], d[i][j]);
                }
            }
        }
    }
}

// Scores, or LOWEST where a row does not see a key.
DEV void mask(const Backward &b, int row0, int key0, float s[4][4]) {
#pragma unroll
    for (int i = 0; i < 4; i++) {
        int row = row0 + threadIdx.x / 16 * 4 + i;
        int first = b.f.first(row), last = row < b.m ? b.f.last(row) : 0;
#pragma unroll
        for (int j = 0; j < 4; j++) {
            int key = key0 + threadIdx.x % 16 * 4 + j;
            s[i][j] = key >= first && key < last ? b.f.capped(b.f.scale * s[i][j]) : LOWEST;
        }
    }
}

// P, and in place of dP dS times what s is multiplied by.
DEV void slopes(const Backward &b, const float *rows, int head, int row0, int key0, float s[4][4], float d[4][4]) {
    mask(b, row0, key0, s);
#pragma unroll
    for (int i = 0; i < 4; i++) {
        int row = least(row0 + (int)threadIdx.x / 16 * 4 + i, b.m - 1);
        const float *of = rows + ((size_t)head * b.m + row) * ROW_FACTS;
#pragma unroll
        for (int j = 0; j < 4; j++) {
            float score = s[i][j], cap = b.f.cap, slope = cap > 0 ? 1 - score / cap * (score / cap) : 1;
            bool seen = score != LOWEST;
            s[i][j] = seen ? expf(score - of[0]) * of[1] : 0;
            d[i][j] = seen ? s[i][j] * (d[i][j] - of[2]) * b.f.scale * slope : 0;
        }
    }
}

// sum += tile^T x: 64 rows of the tile are the depth, rows i of x come from `row(i)`. A thread has four rows, and columns c .. and 64 + c .., c =
// 4 (tid % 16).
template <class Row>
DEV void gather(const float *tile, Row row, int column0, int dim, float *room, float sum[4][8]) {
    constexpr int PITCH = BACK_COLUMNS + 4;
    int tid = threadIdx.x, width = least(BACK_COLUMNS, dim - column0), c = tid % 16 * 4;
    for (int first = 0; first < SIDE; first += BACK_STEPS) {
        __syncthreads();
        for (int i = tid; i < BACK_STEPS * width / 4; i += 256) {
            int r = i / (width / 4), at = i % (width / 4) * 4;
            *(Quad *)aligned16(room + r * PITCH + at) = load16(row(first + r) + column0 + at);
        }
        __syncthreads();
#pragma unroll 4
        for (int r = 0; r < BACK_STEPS; r++) {
            Floats a = *(const Floats *)aligned16(tile + (first + r) * SIDE_PITCH + tid / 16 * 4);
#pragma unroll
            for (int h = 0; h < 2; h++) {
                if (64 * h + c >= width) continue;
                Floats x = *(const Floats *)aligned16(room + r * PITCH + 64 * h + c);
#pragma unroll
                for (int i = 0; i < 4; i++)
#pragma unroll
                    for (int j = 0; j < 4; j++) sum[i][4 * h + j] = fused(a.x[i], x.x[j], sum[i][4 * h + j]);
            }
        }
    }
}

// Row i of the thread's four to `to`.
DEV void store(float *to, int column0, int dim, const float sum[8]) {
#pragma unroll
    for (int h = 0; h < 2; h++) {
        int c = column0 + 64 * h + threadIdx.x % 16 * 4;
#pragma unroll
        for (int j = 0; j < 4; j++)
            if (c + j < dim) to[c + j] = sum[4 * h + j];
    }
}

#define BACKWARD const float *q, const float *d_out, const float *k, const float *v, float *rows
#define MAKE_BACKWARD Backward{q, d_out, k, v, m, position(pos_at, pos) + m, MAKE_FACTS}

KERNEL(256, attend_back_rows, BACKWARD, FACTS) {
    SHARED(float, room, BACK_ROOM);
    Backward b = MAKE_BACKWARD;
    int row0 = blockIdx.x * SIDE, head = blockIdx.y, end = b.f.last(least(row0 + SIDE, m) - 1);
    float max[4], total[4], along[4];
#pragma unroll
    for (int i = 0; i < 4; i++) {
        max[i] = LOWEST;
        total[i] = along[i] = 0;
    }
    for (int key0 = b.f.first(row0); key0 < end; key0 += SIDE) {
        float s[4][4], d[4][4];
        products(b, head, row0, key0, room, s, d);
        mask(b, row0, key0, s);
#pragma unroll
        for (int i = 0; i < 4; i++) {
            float now = max[i];
#pragma unroll
            for (int j = 0; j < 4; j++) now = fmaxf(now, s[i][j]);
            now = largest_of(now, 16);
            float from = now == LOWEST ? 0 : now, shrink = max[i] == LOWEST ? 0 : expf(max[i] - from), sum = 0, dots = 0;
#pragma unroll
            for (int j = 0; j < 4; j++) {
                float p = expf(s[i][j] - from);
                sum += p;
                dots += p == 0 ? 0 : p * d[i][j];
            }
            total[i] = total[i] * shrink + sum_of(sum, 16);
            along[i] = along[i] * shrink + sum_of(dots, 16);
            max[i] = now;
        }
    }
#pragma unroll
    for (int i = 0; i < 4; i++) {
        int row = row0 + threadIdx.x / 16 * 4 + i;
        if (threadIdx.x % 16 != 0 || row >= m) continue;
        float *to = rows + ((size_t)head * m + row) * ROW_FACTS;
        to[0] = max[i];
        to[1] = 1 / total[i];
        to[2] = along[i] / total[i];
    }
}

KERNEL(256, attend_back_q, BACKWARD, float *dq, FACTS) {
    SHARED(float, room, BACK_ROOM);
    SHARED(float, tile, SIDE * SIDE_PITCH);
    Backward b = MAKE_BACKWARD;
    int tid = threadIdx.x, head = blockIdx.y, column0 = blockIdx.z * BACK_COLUMNS;
    // Late rows see the most: they begin first.
    int row0 = (int)(gridDim.x - 1 - blockIdx.x) * SIDE, end = b.f.last(least(row0 + SIDE, m) - 1);
    float sum[4][8] = {};
    for (int key0 = b.f.first(row0); key0 < end; key0 += SIDE) {
        float s[4][4], d[4][4];
        products(b, head, row0, key0, room, s, d);
        slopes(b, rows, head, row0, key0, s, d);
#pragma unroll
        for (int j = 0; j < 4; j++)
#pragma unroll
            for (int i = 0; i < 4; i++) tile[(tid % 16 * 4 + j) * SIDE_PITCH + tid / 16 * 4 + i] = d[i][j];
        gather(tile, [&](int i) { return b.key(b.k, b.kv_head(head), key0 + i); }, column0, head_dim, room, sum);
    }
#pragma unroll
    for (int i = 0; i < 4; i++) {
        int row = row0 + tid / 16 * 4 + i;
        if (row < m) store(dq + ((size_t)row * heads + head) * head_dim, column0, head_dim, sum[i]);
    }
}

KERNEL(256, attend_back_kv, BACKWARD, float *dk, float *dv, FACTS) {
    SHARED(float, room, BACK_ROOM);
    SHARED(float, tile, SIDE * SIDE_PITCH);
    Backward b = MAKE_BACKWARD;
    int tid = threadIdx.x, kv_head = blockIdx.y, column0 = blockIdx.z * BACK_COLUMNS, key0 = blockIdx.x * SIDE, group = heads / kv_heads;
    // The rows that see any of these keys.
    int begin = most(key0 - b.f.pos, 0), end = window > 0 ? least(m, key0 + SIDE - 1 + window - b.f.pos) : m;
    float sum_k[4][8] = {}, sum_v[4][8] = {};
    for (int head = kv_head * group; head < (kv_head + 1) * group; head++) {
        for (int row0 = begin; row0 < end; row0 += SIDE) {
            float s[4][4], d[4][4];
            products(b, head, row0, key0, room, s, d);
            slopes(b, rows, head, row0, key0, s, d);
            auto keep = [&](const float v[4][4]) {
#pragma unroll
                for (int i = 0; i < 4; i++)
#pragma unroll
                    for (int j = 0; j < 4; j++) tile[(tid / 16 * 4 + i) * SIDE_PITCH + tid % 16 * 4 + j] = v[i][j];
            };
            keep(s);
            gather(tile, [&](int i) { return b.row(b.d_out, head, row0 + i); }, column0, head_dim, room, sum_v);
            __syncthreads();
            keep(d);
            gather(tile, [&](int i) { return b.row(b.q, head, row0 + i); }, column0, head_dim, room, sum_k);
        }
    }
#pragma unroll
    for (int i = 0; i < 4; i++) {
        int key = key0 + tid / 16 * 4 + i;
        if (key >= b.n) continue;
        size_t at = ((size_t)key * kv_heads + kv_head) * head_dim;
        store(dk + at, column0, head_dim, sum_k[i]);
        store(dv + at, column0, head_dim, sum_v[i]);
    }
}
