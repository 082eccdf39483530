// What an attention kernel is told.
#pragma once
#include "common.cuh"

// What an attention call is about: docs/cuda.md.
struct Facts {
    int heads, kv_heads, head_dim;
    float scale, cap;
    int window, capacity, pos;
    // Keys first .. last that a row sees.
    DEV int last(int row) const { return pos + row + 1; }
    DEV int first(int row) const { return window > 0 ? most(last(row) - window, 0) : 0; }
    DEV size_t slot(int key) const { return (size_t)(key % capacity) * kv_heads * head_dim; }
    DEV float capped(float score) const { return cap > 0 ? cap * tanhf(score / cap) : score; }
};

// What scores have that do not count.
constexpr float LOWEST = -INFINITY;

// What the way back keeps of each row of a head: its highest score, the inverse of the sum of exponentials, and sum(P dP).
constexpr int ROW_FACTS = 3;

#define FACTS int m, int heads, int kv_heads, int head_dim, float scale, float softcap, int window, int capacity, const int *pos_at, int pos
#define MAKE_FACTS Facts{heads, kv_heads, head_dim, scale, softcap, window, capacity, position(pos_at, pos)}
