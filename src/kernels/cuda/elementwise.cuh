// Norms, rotations, gates, and what adapters do element by element.
#pragma once
#include "acts.cuh"

DEV i64 index() { return (i64)blockIdx.x * blockDim.x + threadIdx.x; }

// The sum over all threads of the block: each gets it.
DEV float block_sum(float v) {
    SHARED(float, parts, 32);
    v = sum_of(v);
    if (threadIdx.x % 32 == 0) parts[threadIdx.x / 32] = v;
    __syncthreads();
    float sum = 0;
    for (int i = 0; i < (int)blockDim.x / 32; i++) sum += parts[i];
    return sum;
}

// x := x + y, if there is y; out := x / sqrt(mean(x^2) + eps) * w, packed too if there is where. A thread writes only what it alone reads: out
// may be x.
DEV void norm(float *x, const float *y, const float *w, float eps, float *out, int n, const Acts *packed) {
    size_t at = (size_t)blockIdx.x * n;
    float sum = 0;
    for (int i = threadIdx.x; i < n; i += blockDim.x) {
        float v = x[at + i];
        if (y) x[at + i] = v += y[at + i];
        sum = fused(v, v, sum);
    }
    float scale = 1 / sqrtf(block_sum(sum) / n + eps);
    for (int i = threadIdx.x; i < n; i += blockDim.x) {
        float v = x[at + i] * scale * w[i];
        out[at + i] = v;
        // Rows are whole blocks, so that a warp has one.
        if (packed) pack_block(*packed, (at + i) / 32, v);
    }
}

KERNEL(1024, rms_norm, float *x, const float *w, float eps, float *out, int n) { norm(x, nullptr, w, eps, out, n, nullptr); }
KERNEL(1024, add_rms_norm, float *x, const float *y, const float *w, float eps, float *out, int n) { norm(x, y, w, eps, out, n, nullptr); }
KERNEL(1024, norm_pack_i, float *x, const float *w, float eps, float *out, int n, int m, void *acts) {
    Acts packed(acts, m, n);
    norm(x, nullptr, w, eps, out, n, &packed);
}
KERNEL(1024, add_norm_pack_i, float *x, const float *y, const float *w, float eps, float *out, int n, int m, void *acts) {
    Acts packed(acts, m, n);
    norm(x, y, w, eps, out, n, &packed);
}

KERNEL(256, rope_table, const float *inv_freq, int half, float magnitude, const int *pos_at, int pos, int m, float *cosines, float *sines) {
    i64 i = index();
    if (i >= (i64)m * half) return;
    // The angle is rounded before its sine is taken, as on the CPU.
    float angle = times((float)(position(pos_at, pos) + (int)(i / half)), inv_freq[i % half]);
    cosines[i] = cosf(angle) * magnitude;
    sines[i] = sinf(angle) * magnitude;
}

KERNEL(256, rope, float *x, int m, int heads, int head_dim, int half, int interleaved, const float *cosines, const float *sines) {
    i64 i = index();
    if (i >= (i64)m * heads * half) return;
    int j = (int)(i % half);
    i64 head = i / half, at = head / heads * half + j;
    float *a = x + head * head_dim + (interleaved ? 2 * j : j);
    float *b = a + (interleaved ? 1 : half);
    float c = cosines[at], s = sines[at], va = *a, vb = *b;
    *a = va * c - vb * s;
    *b = va * s + vb * c;
}

DEV float silu(float x) { return x / (1 + expf(-x)); }
DEV float gelu(float x) {
    float inner = 0.7978845608028654f * (x + 0.044715f * x * x * x);
    return 0.5f * x * (1 + tanhf(inner));
}

#define GATED(act) \
    KERNEL(256, gated_##act, float *gate, const float *up, i64 len) { \
        i64 i = index(); \
        if (i < len) gate[i] = act(gate[i]) * up[i]; \
    } \
    KERNEL(256, gated_pack_i_##act, float *gate, const float *up, int m, int k, void *acts) { \
        i64 i = index(); \
        if (i >= (i64)m * k) return; \
        float v = act(gate[i]) * up[i]; \
        gate[i] = v; \
        pack_block(Acts(acts, m, k), i / 32, v); \
    }
GATED(silu)
GATED(gelu)

KERNEL(256, add, float *y, const float *x, i64 len) {
    i64 i = index();
    if (i < len) y[i] += x[i];
}

KERNEL(256, scale, float *x, float by, i64 len) {
    i64 i = index();
    if (i < len) x[i] *= by;
}

KERNEL(256, softcap, float *x, float cap, i64 len) {
    i64 i = index();
    if (i < len) x[i] = cap * tanhf(x[i] / cap);
}

KERNEL(256, add_bias, float *y, const float *bias, float by, int m, int n) {
    i64 i = index();
    if (i < (i64)m * n) y[i] += by * bias[i % n];
}

KERNEL(256, finish, float *y, int m, int n, const float *bias, const float *factors, const float *shift) {
    i64 i = index();
    if (i >= (i64)m * n) return;
    int j = (int)(i % n);
    float v = y[i];
    if (bias) v += bias[j];
    if (factors) v *= factors[j];
    if (shift) v += shift[j];
    y[i] = v;
}

KERNEL(256, pairs, const float *x, float *y, int m, int n, const float *f, const float *h, const u32 *partner) {
    i64 i = index();
    if (i >= (i64)m * n) return;
    int j = (int)(i % n);
    y[i] = f[j] * x[i] + h[j] * x[i - j + partner[j]];
}

KERNEL(256, blocks, const float *x, float *y, int m, int n, int size, const float *matrices, const u32 *order) {
    i64 i = index();
    if (i >= (i64)m * n) return;
    // p: the place in the order of the blocks.
    int p = (int)(i % n), first = p / size * size;
    i64 row = i - p;
    const float *block = matrices + (i64)first * size + p % size;
    float sum = 0;
    for (int j = 0; j < size; j++) sum += x[row + (order ? order[first + j] : first + j)] * block[(i64)j * size];
    y[row + (order ? order[p] : p)] = sum;
}

KERNEL(256, kron, const float *w1, const float *z, int m, int o1, int i1, int o2, float by, float *y) {
    i64 i = index();
    if (i >= (i64)m * o1 * o2) return;
    int b = (int)(i % o2), a = (int)(i / o2 % o1);
    const float *from = z + i / o2 / o1 * i1 * o2 + b;
    float sum = 0;
    for (int c = 0; c < i1; c++) sum += by * w1[a * i1 + c] * from[(i64)c * o2];
    y[i] += sum;
}

KERNEL(256, scatter_columns, const float *z, const int *of, int m, int n, int width, float *y) {
    i64 i = index();
    if (i < (i64)m * n) y[i / n * width + of[i % n]] = z[i];
}

// SplitMix64's output for one state (Steele, Lea and Flood 2014).
DEV u64 mixed(u64 state) {
    u64 z = state + 0x9e3779b97f4a7c15ull;
    z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9ull;
    z = (z ^ z >> 27) * 0x94d049bb133111ebull;
    return z ^ z >> 31;
}

// As Dropout::row of src/model/dropout.rs: a hash for four numbers.
KERNEL(256, drop_out, float *x, int m, int cols, u64 key, int lost, float by) {
    int fours = ceil_div(cols, 4);
    i64 i = index();
    if (i >= (i64)m * fours) return;
    int at = (int)(i % fours);
    u64 row_key = mixed(key ^ mixed((u64)(i / fours)));
    u64 hash = mixed(row_key + (u64)at);
    float *row = x + i / fours * cols;
    for (int lane = 0; lane < 4 && 4 * at + lane < cols; lane++) {
        bool is_lost = (int)(hash >> 16 * lane & 0xffff) < lost;
        row[4 * at + lane] = is_lost ? 0 : row[4 * at + lane] * by;
    }
}
