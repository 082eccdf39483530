// The KV ring, and attention over it: softmax in one pass, the running maximum grows and older sums are scaled down.
#pragma once
#include "acts.cuh"
#include "facts.cuh"

// A ring's number types.
struct Half {
    typedef u16 T;
    static constexpr int KEYS = 32;
    static DEV T of(float v) { return float_to_half(v); }
    static DEV float one(T v) { return half_to_float(v); }
    static DEV void eight(const T *p, float v[8]) {
        Quad q = load16(p);
#pragma unroll
        for (int i = 0; i < 4; i++) {
            v[2 * i] = low_half(q.x[i]);
            v[2 * i + 1] = high_half(q.x[i]);
        }
    }
    static DEV void two(const T *p, float v[2]) {
        u32 q = load4(p);
        v[0] = low_half(q);
        v[1] = high_half(q);
    }
};
struct Single {
    typedef float T;
    static constexpr int KEYS = 16;
    static DEV T of(float v) { return v; }
    static DEV float one(T v) { return v; }
    static DEV void eight(const T *p, float v[8]) {
        Quad q[2] = {load16(p), load16(p + 4)};
#pragma unroll
        for (int i = 0; i < 8; i++) v[i] = bits_to_float(q[i / 4].x[i % 4]);
    }
    static DEV void two(const T *p, float v[2]) {
        Duo q = load8(p);
        v[0] = bits_to_float(q.x[0]);
        v[1] = bits_to_float(q.x[1]);
    }
};

template <class N>
DEV void kv_write(const float *x, int width, int m, int pos, int capacity, typename N::T *kv) {
    i64 i = (i64)blockIdx.x * blockDim.x + threadIdx.x;
    if (i >= (i64)m * width) return;
    int row = (int)(i / width);
    if (row < m - capacity) return;
    kv[(size_t)((pos + row) % capacity) * width + i % width] = N::of(x[i]);
}

constexpr int MOST_DIM = 256;
// Query heads of a kv head that share the loads of keys and values.
constexpr int GROUP = 8;

// Keys of a part when the context is cut in so many.
DEV int part_keys(int seen, int splits) { return ceil_div(ceil_div(seen, splits), 64) * 64; }

// A part of attention for one row and up to GROUP heads: sums, maximum and total.
template <class N>
DEV void attend(const float *q, const typename N::T *k, const typename N::T *v, float *part, const Facts &f, int splits) {
    constexpr int KEYS = 64;
    SHARED(float, qs, GROUP * MOST_DIM);
    SHARED(float, scores, GROUP * KEYS);
    SHARED(float, shrinks, GROUP);
    SHARED(float, parts, 128 * GROUP * 2);
    int tid = threadIdx.x, row = blockIdx.z, split = blockIdx.y, dim = f.head_dim;
    int group = f.heads / f.kv_heads, chunks = ceil_div(group, GROUP);
    int kv_head = blockIdx.x / chunks, head = kv_head * group + blockIdx.x % chunks * GROUP;
    int here = least(GROUP, (kv_head + 1) * group - head);
    for (int i = tid; i < here * dim; i += 128) qs[i] = q[((size_t)row * f.heads + head) * dim + i];

    int first = f.first(row), last = f.last(row), share = part_keys(last - first, splits);
    int begin = least(first + split * share, last), end = least(begin + share, last);
    k += kv_head * dim;
    v += kv_head * dim;

    // In the sums a thread has two columns, and every `slices`-th key.
    int pairs = dim / 2, slices = 128 / pairs, slice = tid / pairs, column = tid % pairs * 2;
    float sums[GROUP][2] = {};
    // Those of heads warp and warp + 4, in every lane.
    float max[2] = {LOWEST, LOWEST}, total[2] = {};
    int warp = tid / 32, lane = tid % 32;
    __syncthreads();

    for (int base = begin; base < end; base += KEYS) {
        // Scores: eight lanes a key, each with eight columns of 64.
        for (int i = tid / 8; i < KEYS; i += 16) {
            int key = base + i;
            float dots[GROUP] = {};
            if (key < end) {
                const typename N::T *from = k + f.slot(key);
                for (int c = tid % 8 * 8; c < dim; c += 64) {
                    float kv[8];
                    N::eight(from + c, kv);
#pragma unroll
                    for (int g = 0; g < GROUP; g++) {
                        if (g < here) {
#pragma unroll
                            for (int j = 0; j < 8; j++) dots[g] = fused(kv[j], qs[g * dim + c + j], dots[g]);
                        }
                    }
                }
            }
#pragma unroll
            for (int g = 0; g < GROUP; g++) {
                if (g < here) {
                    float dot = sum_of(dots[g], 8);
                    if (tid % 8 == 0) scores[g * KEYS + i] = key < end ? f.capped(f.scale * dot) : LOWEST;
                }
            }
        }
        __syncthreads();
        // Weights: a warp has every fourth head.
#pragma unroll
        for (int i = 0; i < 2; i++) {
            int g = warp + 4 * i;
            if (g < here) {
                float *s = scores + g * KEYS;
                float a = s[lane], b = s[lane + 32];
                float now = fmaxf(max[i], largest_of(fmaxf(a, b)));
                // All -inf: nothing is there yet.
                float from = now == LOWEST ? 0 : now;
                float shrink = max[i] == LOWEST ? 0 : expf(max[i] - from);
                a = expf(a - from);
                b = expf(b - from);
                s[lane] = a;
                s[lane + 32] = b;
                total[i] = total[i] * shrink + sum_of(a + b);
                max[i] = now;
                if (lane == 0) shrinks[g] = shrink;
            }
        }
        __syncthreads();
        if (slice < slices) {
#pragma unroll
            for (int g = 0; g < GROUP; g++) {
                if (g < here) {
                    sums[g][0] *= shrinks[g];
                    sums[g][1] *= shrinks[g];
                }
            }
            for (int i = slice; i < least(KEYS, end - base); i += slices) {
                float kv[2];
                N::two(v + f.slot(base + i) + column, kv);
#pragma unroll
                for (int g = 0; g < GROUP; g++) {
                    if (g < here) {
                        float p = scores[g * KEYS + i];
                        sums[g][0] = fused(p, kv[0], sums[g][0]);
                        sums[g][1] = fused(p, kv[1], sums[g][1]);
                    }
                }
            }
        }
        __syncthreads();
    }
    // Slices together, in their order.
    if (slice < slices) {
#pragma unroll
        for (int g = 0; g < GROUP; g++) {
            if (g < here) {
                parts[(slice * GROUP + g) * dim + column] = sums[g][0];
                parts[(slice * GROUP + g) * dim + column + 1] = sums[g][1];
            }
        }
    }
    __syncthreads();
    float *out = part + (((size_t)row * f.heads + head) * splits + split) * (dim + 2);
    size_t stride = (size_t)splits * (dim + 2);
    for (int i = tid; i < here * dim; i += 128) {
        float sum = 0;
        for (int s = 0; s < slices; s++) sum += parts[(s * GROUP + i / dim) * dim + i % dim];
        out[i / dim * stride + i % dim] = sum;
    }
#pragma unroll
    for (int i = 0; i < 2; i++) {
        int g = warp + 4 * i;
        if (g < here && lane == 0) {
            out[g * stride + dim] = max[i];
            out[g * stride + dim + 1] = total[i];
        }
    }
}

KERNEL(128, attend_h, const float *q, const u16 *k, const u16 *v, float *part, FACTS, int splits) {
    attend<Half>(q, k, v, part, MAKE_FACTS, splits);
}
KERNEL(128, attend_f, const float *q, const float *k, const float *v, float *part, FACTS, int splits) {
    attend<Single>(q, k, v, part, MAKE_FACTS, splits);
}

// Puts the parts of a head and a row together, and packs that, if there is where.
DEV void join(const float *part, float *out, int heads, int head_dim, int splits, const Acts *packed) {
    size_t unit = (size_t)blockIdx.y * heads + blockIdx.x;
    int stride = head_dim + 2;
    const float *p = part + unit * splits * stride;
    // Parts without keys have -inf. A NaN stays in the sums.
    float max = LOWEST, total = 0;
    for (int s = 0; s < splits; s++) max = fmaxf(max, p[s * stride + head_dim]);
    auto weight = [&](int s) {
        float here = p[s * stride + head_dim];
        return here == max ? 1 : expf(here - max);
    };
    for (int s = 0; s < splits; s++) total += weight(s) * p[s * stride + head_dim + 1];
    for (int i = threadIdx.x; i < head_dim; i += 64) {
        float sum = 0;
        for (int s = 0; s < splits; s++) sum += weight(s) / total * p[s * stride + i];
        out[unit * head_dim + i] = sum;
        // Heads are whole blocks, so that a warp has one.
        if (packed) pack_block(*packed, (unit * head_dim + i) / 32, sum);
    }
}

KERNEL(64, attend_join, const float *part, float *out, int m, int heads, int head_dim, int splits) {
    join(part, out, heads, head_dim, splits, nullptr);
}
KERNEL(64, attend_join_i, const float *part, float *out, int m, int heads, int head_dim, int splits, void *acts) {
    Acts packed(acts, m, heads * head_dim);
    join(part, out, heads, head_dim, splits, &packed);
}

// Attention of 16 rows of a head: keys and values come to shared memory, KEYS at a time; eight threads have a row.
template <class N>
DEV void attend_tile(const float *q, const typename N::T *k, const typename N::T *v, float *out, int m, const Facts &f) {
    constexpr int ROWS = 16, KEYS = N::KEYS;
    SHARED(float, qs, ROWS * MOST_DIM);
    SHARED(typename N::T, kv, KEYS * MOST_DIM);
    SHARED(float, weights, ROWS * KEYS);
    int tid = threadIdx.x, row0 = blockIdx.x * ROWS, head = blockIdx.y, dim = f.head_dim;
    int r = tid / 8, lane = tid % 8, row = least(row0 + r, m - 1);
    for (int i = tid; i < ROWS * dim; i += 128) {
        int from = least(row0 + i / dim, m - 1);
        qs[i] = q[((size_t)from * f.heads + head) * dim + i % dim];
    }
    size_t kv_head = (size_t)(head / (f.heads / f.kv_heads)) * dim;
    int first = f.first(row), last = f.last(row);
    int end = f.last(least(row0 + ROWS, m) - 1);
    float sums[MOST_DIM / 8] = {};
    float max = LOWEST, total = 0;
    for (int base = f.first(row0); base < end; base += KEYS) {
        int keys = least(KEYS, end - base);
        __syncthreads();
        for (int i = tid; i < keys * dim; i += 128) kv[i] = k[f.slot(base + i / dim) + kv_head + i % dim];
        __syncthreads();
        float scores[KEYS / 8], now = max;
#pragma unroll
        for (int i = 0; i < KEYS / 8; i++) {
            int key = lane + 8 * i;
            float dot = 0;
            if (key < keys && base + key >= first && base + key < last) {
                for (int c = 0; c < dim; c++) dot = fused(N::one(kv[key * dim + c]), qs[r * dim + c], dot);
                scores[i] = f.capped(f.scale * dot);
            } else {
                scores[i] = LOWEST;
            }
            now = fmaxf(now, scores[i]);
        }
        now = largest_of(now, 8);
        float from = now == LOWEST ? 0 : now, shrink = max == LOWEST ? 0 : expf(max - from), sum = 0;
#pragma unroll
        for (int i = 0; i < KEYS / 8; i++) {
            float p = expf(scores[i] - from);
            weights[r * KEYS + lane + 8 * i] = p;
            sum += p;
        }
        total = total * shrink + sum_of(sum, 8);
        max = now;
        __syncthreads();
        for (int i = tid; i < keys * dim; i += 128) kv[i] = v[f.slot(base + i / dim) + kv_head + i % dim];
        __syncthreads();
#pragma unroll
        for (int c = 0; c < MOST_DIM / 8; c++) {
            if (lane + 8 * c < dim) {
                float s = sums[c] * shrink;
                for (int i = 0; i < keys; i++) s = fused(weights[r * KEYS + i], N::one(kv[i * dim + lane + 8 * c]), s);
                sums[c] = s;
            }
        }
    }
    if (row0 + r >= m) return;
#pragma unroll
    for (int c = 0; c < MOST_DIM / 8; c++)
        if (lane + 8 * c < dim) out[((size_t)row * f.heads + head) * dim + lane + 8 * c] = sums[c] / total;
}

KERNEL(128, attend_tile_h, const float *q, const u16 *k, const u16 *v, float *out, FACTS) {
    attend_tile<Half>(q, k, v, out, m, MAKE_FACTS);
}
KERNEL(128, attend_tile_f, const float *q, const float *k, const float *v, float *out, FACTS) {
    attend_tile<Single>(q, k, v, out, m, MAKE_FACTS);
}

KERNEL(256, kv_write_h, const float *x, int width, int m, const int *pos_at, int pos, int capacity, u16 *kv) {
    kv_write<Half>(x, width, m, position(pos_at, pos), capacity, kv);
}
KERNEL(256, kv_write_f, const float *x, int width, int m, const int *pos_at, int pos, int capacity, float *kv) {
    kv_write<Single>(x, width, m, position(pos_at, pos), capacity, kv);
}

// Rotates q, and writes the rotated k, and v, to their rings, all in one pass: a thread has two columns of a head.
template <class N>
DEV void rope_kv(float *q, float *k, const float *v, int m, int heads, int kv_heads, int head_dim, int half, int interleaved,
                 const float *cosines, const float *sines, int pos, int capacity, typename N::T *k_ring, typename N::T *v_ring) {
    int pairs = head_dim / 2, all = heads + 2 * kv_heads;
    i64 i = (i64)blockIdx.x * blockDim.x + threadIdx.x;
    if (i >= (i64)m * all * pairs) return;
    int j = (int)(i % pairs), head = (int)(i / pairs % all), row = (int)(i / pairs / all);
    bool is_q = head < heads, is_k = !is_q && head < heads + kv_heads;
    int kv_head = is_k ? head - heads : head - heads - kv_heads;
    // Behind the rotated columns they go two by two.
    bool turned = (is_q || is_k) && j < half;
    int a = turned && !interleaved ? j : 2 * j, b = turned && !interleaved ? j + half : 2 * j + 1;
    const float *from = is_q ? q + ((size_t)row * heads + head) * head_dim : (is_k ? k : v) + ((size_t)row * kv_heads + kv_head) * head_dim;
    float va = from[a], vb = from[b];
    if (turned) {
        float c = cosines[(size_t)row * half + j], s = sines[(size_t)row * half + j], old = va;
        va = va * c - vb * s;
        vb = old * s + vb * c;
    }
    if (turned) {
        float *to = is_q ? q + ((size_t)row * heads + head) * head_dim : k + ((size_t)row * kv_heads + kv_head) * head_dim;
        to[a] = va;
        to[b] = vb;
    }
    if (!is_q && row >= m - capacity) {
        typename N::T *to = (is_k ? k_ring : v_ring) + ((size_t)((pos + row) % capacity) * kv_heads + kv_head) * head_dim;
        to[a] = N::of(va);
        to[b] = N::of(vb);
    }
}

#define ROPE_KV(name, N) \
    KERNEL(256, rope_kv_##name, float *q, float *k, const float *v, int m, int heads, int kv_heads, int head_dim, int half, \
           int interleaved, const float *cosines, const float *sines, const int *pos_at, int pos, int capacity, N::T *k_ring, N::T *v_ring) { \
        rope_kv<N>(q, k, v, m, heads, kv_heads, head_dim, half, interleaved, cosines, sines, position(pos_at, pos), capacity, k_ring, v_ring); \
    }
ROPE_KV(h, Half)
ROPE_KV(f, Single)
