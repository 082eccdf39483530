// Block formats: how 32 elements come out of a matrix's planes. src/quant defines the formats, docs/cuda.md the planes.
#pragma once
#include "common.cuh"

// 32 elements of a packed format. Element 4i+j is byte j of q[i], signed; its value is d[i/4] q + m[i/4], exactly (no product here has more
// than 24 bits). Formats whose codes lie around a middle keep the codes and put the middle into m.
struct Codes {
    u32 q[8];
    float d[2], m[2];
};

// The planes of a matrix of `blocks` blocks: each at the next multiple of 256 bytes.
struct Planes {
    const u8 *p[4];
};

template <class F>
DEV Planes planes_of(const void *w, size_t blocks) {
    Planes planes;
    const u8 *at = (const u8 *)w;
#pragma unroll
    for (int i = 0; i < 4; i++) {
        planes.p[i] = at;
        at += (blocks * F::length(i) + 255) / 256 * 256;
    }
    return planes;
}

constexpr u32 LOW = 0x0f0f0f0fu;
constexpr u32 ONES = 0x01010101u;

// Bit i of four, in byte i.
DEV u32 spread(u32 bits) { return (bits & 15) * 0x00204081u & ONES; }

// Low and high halves of 16 bytes: elements 0 to 15 and 16 to 31.
DEV void nibbles(const Quad &v, Codes &c) {
#pragma unroll
    for (int i = 0; i < 4; i++) {
        c.q[i] = v.x[i] & LOW;
        c.q[4 + i] = v.x[i] >> 4 & LOW;
    }
}

DEV void all_alike(Codes &c, float d, float m) {
    c.d[0] = c.d[1] = d;
    c.m[0] = c.m[1] = m;
}

// Values of 16 codes, in four words.
struct Table {
    u32 x[4];
};

// The table's values for the eight codes of `v`: of its low halves and of its high halves.
DEV void look_up(const Table &t, u32 v, u32 &low, u32 &high) {
    // Selectors are a nibble each. A byte comes from the table's first or second half, by the code's highest bit.
    u32 r[2];
#pragma unroll
    for (int i = 0; i < 2; i++) {
        u32 codes = v >> 16 * i & 0xffff;
        u32 first = bytes_of(t.x[0], t.x[1], codes & 0x7777), second = bytes_of(t.x[2], t.x[3], codes & 0x7777);
        r[i] = bytes_of(first, second, 0x3210 | (codes & 0x8888) >> 1);
    }
    low = bytes_of(r[0], r[1], 0x6420);
    high = bytes_of(r[0], r[1], 0x7531);
}

DEV void from_table(const Table &t, const Quad &v, Codes &c) {
#pragma unroll
    for (int i = 0; i < 4; i++) look_up(t, v.x[i], c.q[i], c.q[4 + i]);
}

DEV Table iq4_values() { return Table{{0xbfad9881u, 0xf6eaddcfu, 0x26190d01u, 0x71594535u}}; }
DEV Table fp4_values() { return Table{{0x03020100u, 0x0c080604u, 0xfdfeff00u, 0xf4f8fafcu}}; }

// Each format: LEN elements of a block, `length` of its planes, whether its m are not all zero, whether its halves differ; if they do not, the
// MIDDLE of its codes, where m is -MIDDLE d and nothing else. `load` gets what the
// 32 elements with this index in the matrix are made of, `codes` makes them: apart, so that loads can be on their way while something else is
// computed.

// A block of 16 bytes of codes and a half is all there is.
struct NibblesAndScale {
    Quad q;
    u16 d;
};
DEV NibblesAndScale nibbles_and_scale(const Planes &p, size_t b) { return {stream16(p.p[0] + b * 16), load2(p.p[1] + b * 2)}; }

struct Q4_0 {
    static constexpr int LEN = 32;
    static constexpr bool MINS = true, HALVES = false;
    static constexpr int MIDDLE = 8;
    CONST int length(int i) { return i == 0 ? 16 : i == 1 ? 2 : 0; }
    typedef NibblesAndScale Raw;
    static DEV Raw load(const Planes &p, size_t b) { return nibbles_and_scale(p, b); }
    static DEV Codes codes(const Raw &r, int) {
        Codes c;
        nibbles(r.q, c);
        float d = half_to_float(r.d);
        all_alike(c, d, -8 * d);
        return c;
    }
};

struct Q4_1 {
    static constexpr int LEN = 32;
    static constexpr bool MINS = true, HALVES = false;
    static constexpr int MIDDLE = 0;
    CONST int length(int i) { return i == 0 ? 16 : i == 1 ? 4 : 0; }
    struct Raw {
        Quad q;
        u32 dm;
    };
    static DEV Raw load(const Planes &p, size_t b) { return {stream16(p.p[0] + b * 16), load4(p.p[1] + b * 4)}; }
    static DEV Codes codes(const Raw &r, int) {
        Codes c;
        nibbles(r.q, c);
        all_alike(c, low_half(r.dm), high_half(r.dm));
        return c;
    }
};

DEV void fifth_bits(u32 qh, Codes &c) {
#pragma unroll
    for (int i = 0; i < 8; i++) c.q[i] |= spread(qh >> 4 * i) << 4;
}

struct Q5_0 {
    static constexpr int LEN = 32;
    static constexpr bool MINS = true, HALVES = false;
    static constexpr int MIDDLE = 16;
    CONST int length(int i) { return i == 0 ? 16 : i == 1 ? 4 : i == 2 ? 2 : 0; }
    struct Raw {
        Quad q;
        u32 qh;
        u16 d;
    };
    static DEV Raw load(const Planes &p, size_t b) {
        return {stream16(p.p[0] + b * 16), load4(p.p[1] + b * 4), load2(p.p[2] + b * 2)};
    }
    static DEV Codes codes(const Raw &r, int) {
        Codes c;
        nibbles(r.q, c);
        fifth_bits(r.qh, c);
        float d = half_to_float(r.d);
        all_alike(c, d, -16 * d);
        return c;
    }
};

struct Q5_1 {
    static constexpr int LEN = 32;
    static constexpr bool MINS = true, HALVES = false;
    static constexpr int MIDDLE = 0;
    CONST int length(int i) { return i == 0 ? 16 : i == 1 || i == 2 ? 4 : 0; }
    struct Raw {
        Quad q;
        u32 qh, dm;
    };
    static DEV Raw load(const Planes &p, size_t b) {
        return {stream16(p.p[0] + b * 16), load4(p.p[1] + b * 4), load4(p.p[2] + b * 4)};
    }
    static DEV Codes codes(const Raw &r, int) {
        Codes c;
        nibbles(r.q, c);
        fifth_bits(r.qh, c);
        all_alike(c, low_half(r.dm), high_half(r.dm));
        return c;
    }
};

struct Q8_0 {
    static constexpr int LEN = 32;
    static constexpr bool MINS = false, HALVES = false;
    static constexpr int MIDDLE = 0;
    CONST int length(int i) { return i == 0 ? 32 : i == 1 ? 2 : 0; }
    struct Raw {
        Quad q[2];
        u16 d;
    };
    static DEV Raw load(const Planes &p, size_t b) {
        return {{stream16(p.p[0] + b * 32), stream16(p.p[0] + b * 32 + 16)}, load2(p.p[1] + b * 2)};
    }
    static DEV Codes codes(const Raw &r, int) {
        Codes c;
#pragma unroll
        for (int i = 0; i < 8; i++) c.q[i] = r.q[i / 4].x[i % 4];
        all_alike(c, half_to_float(r.d), 0);
        return c;
    }
};

struct IQ4_NL {
    static constexpr int LEN = 32;
    static constexpr bool MINS = false, HALVES = false;
    static constexpr int MIDDLE = 0;
    CONST int length(int i) { return Q4_0::length(i); }
    typedef NibblesAndScale Raw;
    static DEV Raw load(const Planes &p, size_t b) { return nibbles_and_scale(p, b); }
    static DEV Codes codes(const Raw &r, int) {
        Codes c;
        from_table(iq4_values(), r.q, c);
        all_alike(c, half_to_float(r.d), 0);
        return c;
    }
};

struct MXFP4 {
    static constexpr int LEN = 32;
    static constexpr bool MINS = false, HALVES = false;
    static constexpr int MIDDLE = 0;
    CONST int length(int i) { return i == 0 ? 16 : i == 1 ? 1 : 0; }
    struct Raw {
        Quad q;
        u8 e;
    };
    static DEV Raw load(const Planes &p, size_t b) { return {stream16(p.p[0] + b * 16), p.p[1][b]}; }
    static DEV Codes codes(const Raw &r, int) {
        Codes c;
        from_table(fp4_values(), r.q, c);
        // 2^(e - 128), a denormal for e 0 and 1.
        u32 e = r.e;
        all_alike(c, bits_to_float(e < 2 ? 0x00200000u << e : (e - 1) << 23), 0);
        return c;
    }
};

// 32 bytes of which each has a part of a code.
struct Bytes {
    Quad q[2];
    DEV u32 operator[](int i) const { return q[i / 4].x[i % 4]; }
};
DEV Bytes load32(const u8 *p) { return {{load16(p), load16(p + 16)}}; }

// `mask` of each byte, from bit `shift` on.
DEV void take_bits(const Bytes &bytes, int shift, u32 mask, Codes &c) {
#pragma unroll
    for (int i = 0; i < 8; i++) c.q[i] = bytes[i] >> shift & mask;
}
// As bits `to` and up of the codes.
DEV void more_bits(const Bytes &bytes, int shift, u32 mask, int to, Codes &c) {
#pragma unroll
    for (int i = 0; i < 8; i++) c.q[i] |= (bytes[i] >> shift & mask) << to;
}
constexpr u32 TWO_BITS = 0x03030303u;

struct Q2_K {
    static constexpr int LEN = 256;
    static constexpr bool MINS = true, HALVES = true;
    CONST int length(int i) { return i == 0 ? 64 : i == 1 ? 16 : i == 2 ? 4 : 0; }
    struct Raw {
        Bytes q;
        u16 s;
        u32 dm;
    };
    static DEV Raw load(const Planes &p, size_t b) {
        size_t block = b / 8;
        int sub = (int)(b % 8);
        return {load32(p.p[0] + block * 64 + sub / 4 * 32), load2(p.p[1] + block * 16 + sub * 2), load4(p.p[2] + block * 4)};
    }
    static DEV Codes codes(const Raw &r, int sub) {
        Codes c;
        take_bits(r.q, sub % 4 * 2, TWO_BITS, c);
        float d = low_half(r.dm), dmin = high_half(r.dm);
#pragma unroll
        for (int i = 0; i < 2; i++) {
            c.d[i] = times(d, (float)(r.s >> 8 * i & 15));
            c.m[i] = -times(dmin, (float)(r.s >> (8 * i + 4) & 15));
        }
        return c;
    }
};

struct Q3_K {
    static constexpr int LEN = 256;
    static constexpr bool MINS = true, HALVES = true;
    CONST int length(int i) { return i == 0 ? 64 : i == 1 ? 32 : i == 2 ? 12 : 2; }
    struct Raw {
        Bytes q, high;
        // Low and upper bits of the two scales.
        u8 low[2], upper[2];
        u16 d;
    };
    static DEV Raw load(const Planes &p, size_t b) {
        size_t block = b / 8;
        int sub = (int)(b % 8), g = 2 * sub;
        const u8 *s = p.p[2] + block * 12;
        return {load32(p.p[0] + block * 64 + sub / 4 * 32),
                load32(p.p[1] + block * 32),
                {s[g % 8], s[g % 8 + 1]},
                {s[8 + g % 4], s[8 + g % 4 + 1]},
                load2(p.p[3] + block * 2)};
    }
    static DEV Codes codes(const Raw &r, int sub) {
        Codes c;
        take_bits(r.q, sub % 4 * 2, TWO_BITS, c);
        more_bits(r.high, sub, ONES, 2, c);
        float d = half_to_float(r.d);
#pragma unroll
        for (int i = 0; i < 2; i++) {
            int low = r.low[i] >> sub / 4 * 4 & 15, upper = r.upper[i] >> sub / 2 * 2 & 3;
            c.d[i] = times(d, (float)((low | upper << 4) - 32));
            c.m[i] = -4 * c.d[i];
        }
        return c;
    }
};

// Scale and minimum of Q4_K and Q5_K, whose blocks begin with both halves and 12 bytes of 6-bit numbers.
DEV void scale_and_min(const Quad &head, int sub, Codes &c) {
    int at = sub % 4 * 8;
    u32 a = head.x[1] >> at & 255, b = head.x[2] >> at & 255, s = head.x[3] >> at & 255;
    u32 scale = sub < 4 ? a & 63 : (s & 15) | a >> 6 << 4;
    u32 min = sub < 4 ? b & 63 : s >> 4 | b >> 6 << 4;
    all_alike(c, times(low_half(head.x[0]), (float)scale), -times(high_half(head.x[0]), (float)min));
}

struct Q4_K {
    static constexpr int LEN = 256;
    static constexpr bool MINS = true, HALVES = false;
    static constexpr int MIDDLE = 0;
    CONST int length(int i) { return i == 0 ? 144 : 0; }
    struct Raw {
        Bytes q;
        Quad head;
    };
    static DEV Raw load(const Planes &p, size_t b) {
        const u8 *block = p.p[0] + b / 8 * 144;
        return {load32(block + 16 + b % 8 / 2 * 32), load16(block)};
    }
    static DEV Codes codes(const Raw &r, int sub) {
        Codes c;
        take_bits(r.q, sub % 2 * 4, LOW, c);
        scale_and_min(r.head, sub, c);
        return c;
    }
};

struct Q5_K {
    static constexpr int LEN = 256;
    static constexpr bool MINS = true, HALVES = false;
    static constexpr int MIDDLE = 0;
    CONST int length(int i) { return i == 0 ? 176 : 0; }
    struct Raw {
        Bytes q, high;
        Quad head;
    };
    static DEV Raw load(const Planes &p, size_t b) {
        const u8 *block = p.p[0] + b / 8 * 176;
        return {load32(block + 48 + b % 8 / 2 * 32), load32(block + 16), load16(block)};
    }
    static DEV Codes codes(const Raw &r, int sub) {
        Codes c;
        take_bits(r.q, sub % 2 * 4, LOW, c);
        more_bits(r.high, sub, ONES, 4, c);
        scale_and_min(r.head, sub, c);
        return c;
    }
};

struct Q6_K {
    static constexpr int LEN = 256;
    static constexpr bool MINS = true, HALVES = true;
    CONST int length(int i) { return i == 0 ? 128 : i == 1 ? 64 : i == 2 ? 16 : 2; }
    struct Raw {
        Bytes q, high;
        u16 s, d;
    };
    static DEV Raw load(const Planes &p, size_t b) {
        size_t block = b / 8;
        int sub = (int)(b % 8), side = sub / 4;
        return {load32(p.p[0] + block * 128 + side * 64 + sub % 2 * 32), load32(p.p[1] + block * 64 + side * 32),
                load2(p.p[2] + block * 16 + sub * 2), load2(p.p[3] + block * 2)};
    }
    static DEV Codes codes(const Raw &r, int sub) {
        Codes c;
        take_bits(r.q, sub % 4 / 2 * 4, LOW, c);
        more_bits(r.high, sub % 4 * 2, TWO_BITS, 4, c);
        float d = half_to_float(r.d);
#pragma unroll
        for (int i = 0; i < 2; i++) {
            c.d[i] = times(d, (float)(i8)(r.s >> 8 * i));
            c.m[i] = -32 * c.d[i];
        }
        return c;
    }
};

struct IQ4_XS {
    static constexpr int LEN = 256;
    static constexpr bool MINS = false, HALVES = false;
    static constexpr int MIDDLE = 0;
    CONST int length(int i) { return i == 0 ? 128 : i == 1 ? 8 : 0; }
    struct Raw {
        Quad q;
        Duo head;
    };
    static DEV Raw load(const Planes &p, size_t b) { return {stream16(p.p[0] + b * 16), load8(p.p[1] + b / 8 * 8)}; }
    static DEV Codes codes(const Raw &r, int sub) {
        Codes c;
        from_table(iq4_values(), r.q, c);
        int low = r.head.x[1] >> 4 * sub & 15, high = r.head.x[0] >> (16 + 2 * sub) & 3;
        all_alike(c, times(low_half(r.head.x[0]), (float)((low | high << 4) - 32)), 0);
        return c;
    }
};

// The values of 32 elements.
template <class F>
DEV void values_of(const Codes &c, float v[32]) {
    // A byte u in the low bits of 2^23 is the float 2^23 + u: cheaper than a conversion. Signed codes are moved up by 128 first.
    constexpr u32 up = F::MINS ? 0 : 0x80808080u;
    constexpr float off = F::MINS ? 8388608.0f : 8388608.0f + 128;
#pragma unroll
    for (int i = 0; i < 8; i++) {
#pragma unroll
        for (int j = 0; j < 4; j++) {
            float q = bits_to_float(bytes_of(c.q[i] ^ up, 0x4b000000u, 0x7440 | j)) - off;
            v[4 * i + j] = F::MINS ? fused(c.d[i / 4], q, c.m[i / 4]) : times(c.d[i / 4], q);
        }
    }
}

// A matrix of rows of k elements: its 32 elements from 32 b on of a row; zeros behind the row.
template <class F>
struct Matrix {
    Planes planes;
    size_t groups;
    DEV Matrix(const void *w, int rows, int k)
        : planes(planes_of<F>(w, (size_t)rows * (k / F::LEN))), groups(k / 32) {}
    DEV typename F::Raw load(int row, int b) const { return F::load(planes, row * groups + b); }
    DEV void values(int row, int b, float v[32]) const { values_of<F>(F::codes(load(row, b), b % 8), v); }
};

// Dense formats: elements of SIZE bytes; rows may have any length.
struct F32 {
    static constexpr int SIZE = 4;
    static DEV float value(const u8 *p) { return bits_to_float(load4(p)); }
    static DEV void sixteen(const u8 *p, float *v) {
        Quad q = stream16(p);
#pragma unroll
        for (int i = 0; i < 4; i++) v[i] = bits_to_float(q.x[i]);
    }
};
struct F16 {
    static constexpr int SIZE = 2;
    static DEV float value(const u8 *p) { return load_half(p); }
    static DEV void sixteen(const u8 *p, float *v) {
        Quad q = stream16(p);
#pragma unroll
        for (int i = 0; i < 4; i++) {
            v[2 * i] = low_half(q.x[i]);
            v[2 * i + 1] = high_half(q.x[i]);
        }
    }
};
struct BF16 {
    static constexpr int SIZE = 2;
    static DEV float value(const u8 *p) { return bits_to_float((u32)load2(p) << 16); }
    static DEV void sixteen(const u8 *p, float *v) {
        Quad q = stream16(p);
#pragma unroll
        for (int i = 0; i < 4; i++) {
            v[2 * i] = bits_to_float(q.x[i] << 16);
            v[2 * i + 1] = bits_to_float(q.x[i] & 0xffff0000u);
        }
    }
};

template <class F>
struct Dense {
    const u8 *w;
    int k;
    bool whole;
    DEV Dense(const void *w, int, int k) : w((const u8 *)w), k(k), whole(k % (16 / F::SIZE) == 0) {}
    DEV void values(int row, int b, float v[32]) const {
        const u8 *p = w + ((size_t)row * k + b * 32) * F::SIZE;
        if (whole && b * 32 + 32 <= k) {
#pragma unroll
            for (int i = 0; i < 2 * F::SIZE; i++) F::sixteen(p + 16 * i, v + 16 / F::SIZE * i);
        } else {
#pragma unroll
            for (int i = 0; i < 32; i++) v[i] = b * 32 + i < k ? F::value(p + i * F::SIZE) : 0;
        }
    }
};
template <>
struct Matrix<F32> : Dense<F32> {
    using Dense::Dense;
};
template <>
struct Matrix<F16> : Dense<F16> {
    using Dense::Dense;
};
template <>
struct Matrix<BF16> : Dense<BF16> {
    using Dense::Dense;
};

// X(name in kernels, format) for each; those with one scale for 32 elements (not HALVES) alone.
#define FORMATS_OF_32(X) \
    X(q4_0, Q4_0) X(q4_1, Q4_1) X(q5_0, Q5_0) X(q5_1, Q5_1) X(q8_0, Q8_0) X(q4_k, Q4_K) X(q5_k, Q5_K) X(iq4_nl, IQ4_NL) X(iq4_xs, IQ4_XS) \
    X(mxfp4, MXFP4)
#define PACKED_FORMATS(X) FORMATS_OF_32(X) X(q2_k, Q2_K) X(q3_k, Q3_K) X(q6_k, Q6_K)
#define FORMATS(X) X(f32, F32) X(f16, F16) X(bf16, BF16) PACKED_FORMATS(X)
