// Weights to planes, activations to what products read.
#pragma once
#include "acts.cuh"

KERNEL(256, planes, u8 *raw, u8 *w, i64 first, i64 count, i64 total, int bytes, int fields, int off0, int len0, int off1, int len1, int off2,
       int len2, int off3, int len3, int back) {
    i64 at = (i64)blockIdx.x * 256 + threadIdx.x;
    if (at >= count * bytes) return;
    const int off[4] = {off0, off1, off2, off3}, len[4] = {len0, len1, len2, len3};
    i64 block = at / bytes;
    int byte = (int)(at % bytes);
    u8 *plane = w;
#pragma unroll
    for (int i = 0; i < 4; i++) {
        if (i < fields && byte >= off[i] && byte < off[i] + len[i]) {
            u8 *to = plane + (first + block) * len[i] + (byte - off[i]);
            if (back)
                raw[at] = *to;
            else
                *to = raw[at];
            return;
        }
        plane += (total * len[i] + 255) / 256 * 256;
    }
}

// A warp packs a block, a lane an element.
KERNEL(256, pack_i, const float *x, int m, int k, void *acts) {
    size_t b = (size_t)blockIdx.x * 8 + threadIdx.x / 32;
    if (b < (size_t)m * (k / 32)) pack_block(Acts(acts, m, k), b, x[b * 32 + threadIdx.x % 32]);
}

KERNEL(256, pack_h, const float *x, int m, int k, void *acts) {
    SHARED(u32, parts, 8);
    int row = blockIdx.x, tid = threadIdx.x, kp = padded(k);
    const float *from = x + (size_t)row * k;
    u16 *to = (u16 *)acts + (size_t)row * kp;
    u32 bits = 0;
    for (int i = tid; i < k; i += blockDim.x) {
        u32 v = float_to_bits(from[i]) & 0x7fffffffu;
        bits = bits > v ? bits : v;
    }
    bits = largest_bits_of(bits);
    if (tid % 32 == 0) parts[tid / 32] = bits;
    __syncthreads();
    for (int i = 0; i < (int)blockDim.x / 32; i++) bits = bits > parts[i] ? bits : parts[i];
    // 2^e <= largest < 2^(e+1): times 2^(13-e). Where that is no float any more, less will do.
    int e = (int)(bits >> 23) - 127;
    int up = bits == 0 ? 0 : least(13 - e, 126);
    float scale = bits_to_float((u32)(127 - up) << 23), inverse = bits_to_float((u32)(127 + up) << 23);
    bool bad = bits >= 0x7f800000u;
    for (int i = tid; i < kp; i += blockDim.x) to[i] = i < k && !bad ? float_to_half(from[i] * inverse) : (u16)0;
    if (tid == 0) ((float *)((u16 *)acts + (size_t)m * kp))[row] = bad ? quiet_nan() : scale;
}
