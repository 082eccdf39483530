// A token is chosen from a row of logits, as src/runtime/sampler.rs does: what that leaves to floating point, sums of shares, is whole
// numbers here, so that no order of adding changes a result.
#pragma once
#include "common.cuh"

// See docs/cuda.md.
struct Draw {
    u64 unit, top_p;
    float temperature, floor;
    int top_k, filters;
};
constexpr int HAS_TOP_P = 1, HAS_MIN_P = 2;

struct Edit {
    int id, seen;
    float bias;
};

constexpr int SAMPLE_THREADS = 1024;
// Tokens that filters may leave, and numbers that sums are made of.
constexpr int LISTED = 2048;
// Distances from the highest logit, 32 each.
constexpr int BINS = 1024;

KERNEL(256, edit_logits, float *x, const Edit *edits, int count, float repeat, float frequency, float presence) {
    int i = blockIdx.x * 256 + threadIdx.x;
    if (i >= count) return;
    Edit edit = edits[i];
    float l = x[edit.id];
    if (edit.seen > 0) l = (l > 0 ? l / repeat : times(l, repeat)) - (times((float)edit.seen, frequency) + presence);
    x[edit.id] = l + edit.bias;
}

// Ascends with the float.
DEV u32 rank_of(float v) {
    u32 bits = float_to_bits(v);
    return bits >> 31 ? ~bits : bits | 0x80000000u;
}
DEV float of_rank(u32 rank) { return bits_to_float(rank >> 31 ? rank & 0x7fffffffu : ~rank); }

// The share of a token, of 2^40: what is below a 2^40th of the likeliest is nothing.
DEV u64 share_of(float distance) { return (u64)(expf(-distance) * 1099511627776.0f); }

DEV int bin_of(float distance) { return distance * 32 < BINS - 1 ? (int)(distance * 32) : BINS - 1; }

// v[i] := v[0] + ... + v[i]; n a power of two, at most LISTED.
DEV void prefix_sums(u64 *v, int n) {
    int i = threadIdx.x, j = i + SAMPLE_THREADS;
    for (int step = 1; step < n; step *= 2) {
        u64 a = i < n ? v[i] + (i >= step ? v[i - step] : 0) : 0;
        u64 b = j < n ? v[j] + v[j - step] : 0;
        __syncthreads();
        if (i < n) v[i] = a;
        if (j < n) v[j] = b;
        __syncthreads();
    }
}

// Ascending, by Batcher's bitonic network; n a power of two, at most LISTED.
DEV void sort(u64 *v, int n) {
    int tid = threadIdx.x;
    for (int size = 2; size <= n; size *= 2)
        for (int step = size / 2; step > 0; step /= 2) {
            int i = tid / step * 2 * step + tid % step, j = i + step;
            if (tid < n / 2) {
                u64 a = v[i], b = v[j];
                if ((a > b) == ((i & size) == 0)) {
                    v[i] = b;
                    v[j] = a;
                }
            }
            __syncthreads();
        }
}

// The first of n ascending sums that reaches `target`, n where none does. The block agrees through `found`.
DEV int first_to_reach(const u64 *sums, int n, u64 target, int *found) {
    if (threadIdx.x == 0) *found = n;
    __syncthreads();
    for (int i = threadIdx.x; i < n; i += SAMPLE_THREADS)
        if (sums[i] >= target && (i == 0 || sums[i - 1] < target)) *found = i;
    __syncthreads();
    int first = *found;
    __syncthreads();
    return first;
}

// The token of n to which the line of shares is cut at `draw`'s point, the shares being those of all.
DEV int draw_of_all(const float *x, int n, float highest, const Draw &draw, u64 *list, u64 *sums, int *found) {
    int tid = threadIdx.x;
    auto share = [&](int i) { return i < n ? share_of((highest - x[i]) / draw.temperature) : 0; };
    for (int i = tid; i < LISTED; i += SAMPLE_THREADS) sums[i] = 0;
    __syncthreads();
    int tiles = ceil_div(n, SAMPLE_THREADS);
    for (int tile = 0; tile < tiles; tile++) {
        u64 sum = sum_of_whole(share(tile * SAMPLE_THREADS + tid));
        if (tid % 32 == 0 && sum) atomicAdd(sums + tile, sum);
    }
    __syncthreads();
    prefix_sums(sums, LISTED);
    u64 point = high_product(draw.unit, sums[LISTED - 1]);
    int tile = first_to_reach(sums, LISTED, point + 1, found);
    list[tid] = share(tile * SAMPLE_THREADS + tid);
    u64 before = tile ? sums[tile - 1] : 0;
    __syncthreads();
    prefix_sums(list, SAMPLE_THREADS);
    return tile * SAMPLE_THREADS + first_to_reach(list, SAMPLE_THREADS, point + 1 - before, found);
}

KERNEL(1024, sample, const float *x, int n, const Draw *how, int *id) {
    SHARED(u64, list, LISTED);
    SHARED(u64, sums, LISTED);
    SHARED(int, found, 2);
    Draw draw = *how;
    int tid = threadIdx.x;

    // The highest logit, and of equal ones the first; above all of them what is no number that can be sampled from.
    u64 best = 0;
    for (int i = tid; i < n; i += SAMPLE_THREADS) {
        // The sum makes zeros equal.
        float v = x[i] + 0.0f;
        bool bad = !(v < bits_to_float(0x7f800000u));
        u64 key = bad ? ~(u64)0 : (u64)rank_of(v) << 32 | (u32)~i;
        best = best > key ? best : key;
    }
    list[tid] = best;
    __syncthreads();
    for (int step = SAMPLE_THREADS / 2; step > 0; step /= 2) {
        if (tid < step && list[tid + step] > list[tid]) list[tid] = list[tid + step];
        __syncthreads();
    }
    best = list[0];
    __syncthreads();
    float highest = of_rank((u32)(best >> 32));
    // Nothing to choose, or too many tokens: the CPU says what is wrong, or does it.
    bool none = best == ~(u64)0 || highest == bits_to_float(0xff800000u) || n > LISTED * SAMPLE_THREADS;
    if (none || draw.temperature == 0) {
        if (tid == 0) *id = none ? -1 : (int)~(u32)best;
        return;
    }
    if (draw.top_k == 0 && draw.filters == 0) {
        int chosen = draw_of_all(x, n, highest, draw, list, sums, found);
        if (tid == 0) *id = chosen;
        return;
    }

    // Tokens and their shares by distance, to find how far the filters reach.
    bool by_share = draw.top_k == 0 && draw.filters & HAS_TOP_P;
    list[tid] = sums[tid] = 0;
    __syncthreads();
    for (int i = tid; i < n; i += SAMPLE_THREADS) {
        float distance = highest - x[i];
        atomicAdd(list + bin_of(distance), (u64)1);
        u64 share = by_share ? share_of(distance) : 0;
        if (share) atomicAdd(sums + bin_of(distance), share);
    }
    __syncthreads();
    prefix_sums(list, BINS);
    prefix_sums(sums, BINS);
    u64 mass = sums[BINS - 1];
    int last = BINS - 1;
    if (draw.top_k) last = least(last, first_to_reach(list, BINS, (u64)draw.top_k, found));
    if (by_share) last = least(last, first_to_reach(sums, BINS, high_product(draw.top_p, mass), found));
    // One more for what rounding does.
    if (draw.filters & HAS_MIN_P) last = least(last, bin_of(-draw.floor) + 1);
    u64 reached = list[last];
    __syncthreads();
    if (reached > LISTED) {
        if (tid == 0) *id = -1;
        return;
    }
    int count = (int)reached, size = 2;
    while (size < count) size *= 2;

    // Those tokens, the likeliest first, of equal ones the first.
    for (int i = tid; i < LISTED; i += SAMPLE_THREADS) list[i] = ~(u64)0;
    if (tid == 0) found[1] = 0;
    __syncthreads();
    for (int i = tid; i < n; i += SAMPLE_THREADS)
        if (bin_of(highest - x[i]) <= last) list[atomicAdd(found + 1, 1)] = (u64)~rank_of(x[i]) << 32 | (u32)i;
    __syncthreads();
    sort(list, size);
    auto logit = [&](int i) { return of_rank(~(u32)(list[i] >> 32)); };

    // How many of them each filter leaves.
    int keep = draw.top_k ? least(draw.top_k, count) : count;
    if (draw.filters & HAS_TOP_P) {
        for (int i = tid; i < LISTED; i += SAMPLE_THREADS) sums[i] = i < keep ? share_of(highest - logit(i)) : 0;
        __syncthreads();
        prefix_sums(sums, size);
        u64 all = by_share ? mass : sums[keep - 1];
        keep = least(keep, first_to_reach(sums, size, high_product(draw.top_p, all), found) + 1);
    }
    if (draw.filters & HAS_MIN_P) {
        if (tid == 0) *found = keep;
        __syncthreads();
        float floor = highest + draw.floor;
        for (int i = tid; i < keep; i += SAMPLE_THREADS)
            if (logit(i) < floor && (i == 0 || logit(i - 1) >= floor)) *found = i;
        __syncthreads();
        keep = most(*found, 1);
        __syncthreads();
    }

    // The draw goes through them in the order of ids.
    for (int i = tid; i < size; i += SAMPLE_THREADS) list[i] = i < keep ? list[i] << 32 | list[i] >> 32 : ~(u64)0;
    __syncthreads();
    sort(list, size);
    for (int i = tid; i < size; i += SAMPLE_THREADS)
        sums[i] = i < keep ? share_of((highest - of_rank(~(u32)list[i])) / draw.temperature) : 0;
    __syncthreads();
    prefix_sums(sums, size);
    u64 point = high_product(draw.unit, sums[size - 1]);
    int chosen = first_to_reach(sums, size, point + 1, found);
    if (tid == 0) *id = (int)(list[chosen] >> 32);
}
