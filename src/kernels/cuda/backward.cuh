// The way back through norms, rotations, gates, the loss, and what adapters do element by element. Nothing here depends on the order of threads.
#pragma once
#include "elementwise.cuh"

// The sum over all threads of the block, and their largest: each gets it. They may be called one after the other.
DEV float whole_sum(float v) {
    SHARED(float, sums, 32);
    v = sum_of(v);
    if (threadIdx.x % 32 == 0) sums[threadIdx.x / 32] = v;
    __syncthreads();
    float sum = 0;
    for (int i = 0; i < (int)blockDim.x / 32; i++) sum += sums[i];
    __syncthreads();
    return sum;
}
DEV float whole_largest(float v) {
    SHARED(float, parts, 32);
    v = largest_of(v);
    if (threadIdx.x % 32 == 0) parts[threadIdx.x / 32] = v;
    __syncthreads();
    for (int i = 0; i < (int)blockDim.x / 32; i++) v = fmaxf(v, parts[i]);
    __syncthreads();
    return v;
}

// Of y = x r w, r = 1 / sqrt(mean(x^2) + eps): dx += r w dy - x r^3 mean(x w dy); r goes to `factors`, if that is there.
KERNEL(1024, rms_norm_back, const float *x, const float *w, float eps, const float *dy, float *dx, int n, float *factors) {
    size_t at = (size_t)blockIdx.x * n;
    float squares = 0, along = 0;
    for (int i = threadIdx.x; i < n; i += blockDim.x) {
        float v = x[at + i];
        squares = fused(v, v, squares);
        along = fused(v, w[i] * dy[at + i], along);
    }
    squares = whole_sum(squares);
    float r = 1 / sqrtf(squares / n + eps);
    along = whole_sum(along) / n * r * r * r;
    for (int i = threadIdx.x; i < n; i += blockDim.x) dx[at + i] += r * (w[i] * dy[at + i]) - x[at + i] * along;
    if (factors && threadIdx.x == 0) factors[blockIdx.x] = r;
}

// out += the sum over rows of x, times y and times a factor of the row where those are there. Each of eight warps has every eighth row.
KERNEL(256, column_sums, const float *x, const float *y, const float *factors, int m, int n, float *out) {
    SHARED(float, parts, 256);
    int lane = threadIdx.x % 32, warp = threadIdx.x / 32, j = blockIdx.x * 32 + lane;
    float sum = 0;
    if (j < n) {
        for (int t = warp; t < m; t += 8) {
            float v = x[(size_t)t * n + j];
            if (y) v *= y[(size_t)t * n + j];
            sum += factors ? v * factors[t] : v;
        }
    }
    parts[threadIdx.x] = sum;
    __syncthreads();
    if (warp == 0 && j < n) {
        for (int i = 1; i < 8; i++) sum += parts[32 * i + lane];
        out[j] += sum;
    }
}

// The rotation back; what multiplies both sine and cosine stays.
KERNEL(256, rope_back, float *dy, int m, int heads, int head_dim, int half, int interleaved, const float *cosines, const float *sines) {
    i64 i = index();
    if (i >= (i64)m * heads * half) return;
    int j = (int)(i % half);
    i64 head = i / half, at = head / heads * half + j;
    float *a = dy + head * head_dim + (interleaved ? 2 * j : j);
    float *b = a + (interleaved ? 1 : half);
    float c = cosines[at], s = sines[at], va = *a, vb = *b;
    *a = va * c + vb * s;
    *b = vb * c - va * s;
}

// The gate's value and its slope.
DEV void silu_back(float x, float &value, float &slope) {
    float s = 1 / (1 + expf(-x));
    value = x * s;
    slope = s * (1 + x * (1 - s));
}
DEV void gelu_back(float x, float &value, float &slope) {
    constexpr float LINEAR = 0.7978845608028654f;
    float t = tanhf(LINEAR * (x + 0.044715f * x * x * x));
    value = 0.5f * x * (1 + t);
    slope = 0.5f * (1 + t) + 0.5f * x * (1 - t * t) * (LINEAR * (1 + 3 * 0.044715f * x * x));
}

#define GATED_BACK(act) \
    KERNEL(256, gated_back_##act, const float *gate, const float *up, const float *dh, float *d_gate, float *d_up, i64 len) { \
        i64 i = index(); \
        if (i >= len) return; \
        float value, slope; \
        act##_back(gate[i], value, slope); \
        d_gate[i] = dh[i] * up[i] * slope; \
        d_up[i] = dh[i] * value; \
    }
GATED_BACK(silu)
GATED_BACK(gelu)

// A row of logits becomes the gradient of its loss, times `by`; the loss goes to `losses`. cap: of the soft cap behind which the logits are, or 0.
KERNEL(512, cross_entropy, float *logits, const int *targets, int n, float cap, float by, float *losses) {
    float *row = logits + (size_t)blockIdx.x * n;
    int target = targets[blockIdx.x];
    float highest = -INFINITY, sum = 0, said = row[target];
    for (int i = threadIdx.x; i < n; i += blockDim.x) highest = fmaxf(highest, row[i]);
    highest = whole_largest(highest);
    // A NaN comes through here.
    for (int i = threadIdx.x; i < n; i += blockDim.x) sum += expf(row[i] - highest);
    // Behind this barrier nobody reads the target's logit any more.
    sum = whole_sum(sum);
    float factor = by / sum;
    for (int i = threadIdx.x; i < n; i += blockDim.x) {
        float v = row[i], slope = cap > 0 ? 1 - v / cap * (v / cap) : 1;
        row[i] = factor * expf(v - highest) * slope - (i == target ? by * slope : 0);
    }
    if (threadIdx.x == 0) losses[blockIdx.x] = logf(sum) + (highest - said);
}

// A row of y that some rows of x are added to, in their order: rows begin .. end of the list.
struct Gathered {
    int to, begin, end;
};

KERNEL(256, scatter_rows, const float *x, int width, const Gathered *groups, const int *rows, float *y) {
    Gathered g = groups[blockIdx.x];
    int j = blockIdx.y * 256 + threadIdx.x;
    if (j >= width) return;
    float *to = y + (size_t)g.to * width + j, sum = *to;
    for (int i = g.begin; i < g.end; i++) sum += x[(size_t)rows[i] * width + j];
    *to = sum;
}

// Columns `of` of y go to out, and leave zeros.
KERNEL(256, take_columns, float *y, int width, const int *of, int m, int n, float *out) {
    i64 i = index();
    if (i >= (i64)m * n) return;
    float *from = y + i / n * width + of[i % n];
    out[i] = *from;
    *from = 0;
}

// d_j += row j of x times row j of y. A warp has a row.
KERNEL(256, row_dots, const float *x, const float *y, int width, int rows, float *d) {
    int row = blockIdx.x * 8 + threadIdx.x / 32;
    if (row >= rows) return;
    float sum = 0;
    for (int i = threadIdx.x % 32; i < width; i += 32) sum = fused(x[(size_t)row * width + i], y[(size_t)row * width + i], sum);
    sum = sum_of(sum);
    if (threadIdx.x % 32 == 0) d[row] += sum;
}

KERNEL(256, floats_of_halves, const u16 *x, float *out, i64 len) {
    i64 i = index();
    if (i < len) out[i] = half_to_float(x[i]);
}

// Of `blocks`: the gradient by the blocks += the sum over rows of what was at a block's row times what comes back to its column.
KERNEL(256, blocks_back, const float *x, const float *dy, int m, int n, int size, const u32 *order, float *d) {
    i64 at = index();
    if (at >= (i64)n * size) return;
    int b = (int)(at % size), p = (int)(at / size), first = p / size * size;
    u32 from = order ? order[p] : p, to = order ? order[first + b] : first + b;
    float sum = 0;
    for (int t = 0; t < m; t++) sum = fused(x[(size_t)t * n + from], dy[(size_t)t * n + to], sum);
    d[at] += sum;
}

// Of `kron`: d [o1][i1] += by times the products of dy [m][o1][o2] with z [m][i1][o2], over tokens and o2. A block has one of them.
KERNEL(256, kron_back, const float *dy, const float *z, int m, int o1, int i1, int o2, float by, float *d) {
    int a = blockIdx.y, c = blockIdx.x;
    float sum = 0;
    for (i64 i = threadIdx.x; i < (i64)m * o2; i += 256) {
        i64 t = i / o2, b = i % o2;
        sum = fused(dy[(t * o1 + a) * o2 + b], z[(t * i1 + c) * o2 + b], sum);
    }
    sum = whole_sum(sum);
    if (threadIdx.x == 0) d[a * i1 + c] += by * sum;
}

// out [rows][count] := columns first .. first + count of x.
KERNEL(256, columns, const float *x, int width, int first, int count, i64 len, float *out) {
    i64 i = index();
    if (i < len) out[i] = x[i / count * width + first + i % count];
}

// The largest magnitude of all, as bits, in 256 parts: one for each block.
KERNEL(256, largest, const float *x, i64 len, u32 *parts) {
    SHARED(u32, warps, 8);
    u32 bits = 0;
    for (i64 i = index(); i < len; i += 256 * 256) {
        u32 v = float_to_bits(x[i]) & 0x7fffffffu;
        bits = bits > v ? bits : v;
    }
    bits = largest_bits_of(bits);
    if (threadIdx.x % 32 == 0) warps[threadIdx.x / 32] = bits;
    __syncthreads();
    for (int i = 0; i < 8; i++) bits = bits > warps[i] ? bits : warps[i];
    if (threadIdx.x == 0) parts[blockIdx.x] = bits;
}

// Numbers as halves. With parts of `largest` times a power of two that puts the largest magnitude into 8 .. 16, whose inverse goes to `by`: NaN
// where one of them is no number. A block has 2048.
KERNEL(256, scaled_halves, const float *x, i64 len, const u32 *parts, u16 *out, float *by) {
    SHARED(u32, warps, 8);
    float up = 1;
    bool bad = false;
    if (parts) {
        u32 bits = largest_bits_of(parts[threadIdx.x]);
        if (threadIdx.x % 32 == 0) warps[threadIdx.x / 32] = bits;
        __syncthreads();
        for (int i = 0; i < 8; i++) bits = bits > warps[i] ? bits : warps[i];
        bad = bits >= 0x7f800000u;
        int e = bits == 0 ? 0 : least(3 - ((int)(bits >> 23) - 127), 126);
        up = bad ? 0 : bits_to_float((u32)(127 + e) << 23);
        if (blockIdx.x == 0 && threadIdx.x == 0) *by = bad ? quiet_nan() : bits_to_float((u32)(127 - e) << 23);
    }
    for (int j = 0; j < 8; j++) {
        i64 i = (i64)blockIdx.x * 2048 + 256 * j + threadIdx.x;
        if (i < len) out[i] = bad ? (u16)0 : float_to_half(x[i] * up);
    }
}
