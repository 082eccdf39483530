// Runs CUDA kernels on the CPU: what src/kernels/cuda/common.cuh takes from nvcc, for any C++ compiler.
//
// A grid's blocks run one after the other. The threads of a block are fibers: each runs until it must wait for others (a barrier, a shuffle, a
// product of a warp), then another goes on, chosen by a seeded generator: what depends on the order of threads gives other results with
// another seed. Shared memory is all ones (NaN as floats) when a block begins, and each array is its own allocation, so that ASan sees its
// ends. What a GPU would not survive ends the process with a message: misaligned loads, threads that wait for threads that have left,
// lanes of a warp that wait in different places.
#pragma once

#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <string>
#include <vector>

#include "../../src/kernels/cuda/words.cuh"

#define DEV inline
#define CONST static constexpr
#define KERNEL(threads, name, ...) \
    static void name(__VA_ARGS__); \
    static const shim::Kernel kernel_##name(#name, threads, &name); \
    static void name(__VA_ARGS__)
// The address of `site` says which array: as with nvcc, every instance of a function has its own.
#define SHARED(type, name, len) \
    static char site_of_##name; \
    type *name = (type *)shim::shared(&site_of_##name, sizeof(type) * (len))

namespace shim {

struct Dim {
    unsigned x, y, z;
};

[[noreturn]] inline void die(const std::string &why);

// ---- Kernels

// A kernel, by name, with the sizes of its arguments.
struct Kernel {
    std::string name;
    int threads;
    std::vector<size_t> sizes;
    // Calls it with pointers to its arguments, in the fiber of a thread.
    void (*call)(void *function, void *const *args);
    void *function;

    static std::vector<Kernel> &all() {
        static std::vector<Kernel> kernels;
        return kernels;
    }
    template <class... A>
    Kernel(const char *name, int threads, void (*f)(A...))
        : name(name), threads(threads), sizes{sizeof(A)...}, call(&invoke<A...>), function((void *)f) {
        all().push_back(*this);
    }
    template <class... A, size_t... I>
    static void spread(void (*f)(A...), void *const *args, std::index_sequence<I...>) {
        f(*(A *)args[I]...);
    }
    template <class... A>
    static void invoke(void *f, void *const *args) {
        spread((void (*)(A...))f, args, std::index_sequence_for<A...>{});
    }
};

// Runs a kernel on a grid.
void launch(const Kernel &kernel, Dim grid, Dim block, void *const *args);

// ---- What a thread knows and does

struct Copy {
    void *to;
    unsigned char bytes[16];
    int group;
};

struct Thread {
    Dim index;
    int warp, lane;
    // Copies to shared memory that are under way, and the number of the group that they are in.
    std::vector<Copy> copies;
    int group = 0;
};

struct Place {
    Dim block, grid, threads;
};

extern Place place;
extern Thread *me;

void *shared(const void *site, size_t bytes);
void barrier();
// Waits until all lanes of the warp are here, each with `bytes` at `mine`; what lane i has is at result + i * SLOT.
constexpr size_t SLOT = 64;
const unsigned char *meet(const char *what, unsigned mask, const void *mine, size_t bytes);

template <class T>
const T &from_lane(const unsigned char *all, int lane) {
    return *(const T *)(all + lane * SLOT);
}

inline void aligned(const void *p, size_t to) {
    if ((uintptr_t)p % to) die("a load or store of " + std::to_string(to) + " bytes at an address that is no multiple of it");
}

[[noreturn]] inline void die(const std::string &why) {
    if (me)
        fprintf(stderr, "cuda on cpu: block (%u, %u, %u), thread %u: %s\n", place.block.x, place.block.y, place.block.z, me->index.x,
                why.c_str());
    else
        fprintf(stderr, "cuda on cpu: %s\n", why.c_str());
    abort();
}

}  // namespace shim

#define threadIdx (shim::me->index)
#define blockIdx (shim::place.block)
#define blockDim (shim::place.threads)
#define gridDim (shim::place.grid)

inline void __syncthreads() { shim::barrier(); }
inline void __syncwarp(unsigned mask = 0xffffffffu) { shim::meet("__syncwarp", mask, nullptr, 0); }

template <class T>
T __shfl_xor_sync(unsigned mask, T v, int lanes) {
    static_assert(sizeof(T) == 4, "a shuffle moves 4 bytes");
    return shim::from_lane<T>(shim::meet("a shuffle", mask, &v, 4), shim::me->lane ^ lanes);
}
template <class T>
T __shfl_sync(unsigned mask, T v, int lane) {
    static_assert(sizeof(T) == 4, "a shuffle moves 4 bytes");
    return shim::from_lane<T>(shim::meet("a shuffle", mask, &v, 4), lane % 32);
}

// ---- Numbers

inline float half_to_float(uint16_t h) {
    _Float16 v;
    memcpy(&v, &h, 2);
    return (float)v;
}
inline uint16_t float_to_half(float f) {
    _Float16 v = (_Float16)f;
    uint16_t h;
    memcpy(&h, &v, 2);
    return h;
}
inline float bits_to_float(unsigned bits) {
    float f;
    memcpy(&f, &bits, 4);
    return f;
}
inline unsigned float_to_bits(float f) {
    unsigned bits;
    memcpy(&bits, &f, 4);
    return bits;
}
inline unsigned bytes_of(unsigned a, unsigned b, unsigned which) {
    uint64_t both = (uint64_t)b << 32 | a;
    unsigned out = 0;
    for (int i = 0; i < 4; i++) {
        unsigned n = which >> 4 * i & 15, byte = (unsigned)(both >> 8 * (n & 7)) & 255;
        // A nibble with its highest bit chooses the sign of the byte, eight times.
        if (n & 8) byte = byte & 128 ? 255 : 0;
        out |= byte << 8 * i;
    }
    return out;
}
inline int dot4(unsigned a, unsigned b, int sum) {
    for (int i = 0; i < 4; i++) sum += (signed char)(a >> 8 * i) * (signed char)(b >> 8 * i);
    return sum;
}
inline float fused(float a, float b, float c) { return __builtin_fmaf(a, b, c); }
inline float times(float a, float b) { return a * b; }
inline float quiet_nan() { return __builtin_nanf(""); }
inline unsigned long long high_product(unsigned long long a, unsigned long long b) {
    return (unsigned long long)((unsigned __int128)a * b >> 64);
}

// No thread goes on while another is at it.
template <class T>
T atomicAdd(T *to, T v) {
    shim::aligned(to, sizeof(T));
    T old = *to;
    *to = old + v;
    return old;
}

// ---- Loads

inline Quad load16(const void *p) {
    shim::aligned(p, 16);
    Quad v;
    memcpy(&v, p, 16);
    return v;
}
inline Quad stream16(const void *p) { return load16(p); }
inline Duo load8(const void *p) {
    shim::aligned(p, 8);
    Duo v;
    memcpy(&v, p, 8);
    return v;
}
inline unsigned load4(const void *p) {
    shim::aligned(p, 4);
    return *(const unsigned *)p;
}
inline uint16_t load2(const void *p) {
    shim::aligned(p, 2);
    return *(const uint16_t *)p;
}
template <class T>
T *aligned16(T *p) {
    shim::aligned(p, 16);
    return p;
}

// ---- Tensor cores: each lane computes its four of the 16 x 8 results.

inline void mma_halves(float c[4], const unsigned a[4], const unsigned b[2]) {
    unsigned mine[6] = {a[0], a[1], a[2], a[3], b[0], b[1]};
    const unsigned char *all = shim::meet("mma", 0xffffffffu, mine, sizeof mine);
    auto half = [](unsigned v, int which) { return half_to_float((uint16_t)(v >> 16 * which)); };
    int g = shim::me->lane / 4, t = shim::me->lane % 4;
    for (int i = 0; i < 4; i++) {
        int lower = i / 2, column = 2 * t + i % 2;
        for (int k = 0; k < 16; k++) {
            // Column k of A and row k of B are in register k / 8 of lane k % 8 / 2 of a row or column.
            const unsigned *row = &shim::from_lane<unsigned>(all, 4 * g + k % 8 / 2), *col = &shim::from_lane<unsigned>(all, 4 * column + k % 8 / 2);
            c[i] += half(row[k / 8 * 2 + lower], k % 2) * half(col[4 + k / 8], k % 2);
        }
    }
}

inline void mma_bytes(int c[4], const unsigned a[4], const unsigned b[2], int from) {
    unsigned mine[6] = {a[0], a[1], a[2], a[3], b[0], b[1]};
    const unsigned char *all = shim::meet("mma", 0xffffffffu, mine, sizeof mine);
    int g = shim::me->lane / 4, t = shim::me->lane % 4;
    for (int i = 0; i < 4; i++) {
        int lower = i / 2, column = 2 * t + i % 2;
        c[i] = from;
        // Columns 16 p + 4 l and up of A and rows of B are in register p of lane l of a row or column.
        for (int p = 0; p < 2; p++)
            for (int l = 0; l < 4; l++)
                c[i] = dot4((&shim::from_lane<unsigned>(all, 4 * g + l))[2 * p + lower], (&shim::from_lane<unsigned>(all, 4 * column + l))[4 + p], c[i]);
    }
}

inline void load_matrices(unsigned r[4], const void *row) {
    shim::aligned(row, 16);
    const unsigned char *all = shim::meet("ldmatrix", 0xffffffffu, &row, sizeof row);
    int g = shim::me->lane / 4, t = shim::me->lane % 4;
    for (int j = 0; j < 4; j++) memcpy(&r[j], (const char *)shim::from_lane<const void *>(all, 8 * j + g) + 4 * t, 4);
    // Nobody writes what others still read.
    shim::meet("ldmatrix", 0xffffffffu, nullptr, 0);
}
inline void load_matrices_turned(unsigned r[4], const void *row) {
    shim::aligned(row, 16);
    const unsigned char *all = shim::meet("ldmatrix", 0xffffffffu, &row, sizeof row);
    int g = shim::me->lane / 4, t = shim::me->lane % 4;
    for (int j = 0; j < 4; j++) {
        uint16_t v[2];
        for (int i = 0; i < 2; i++) memcpy(&v[i], (const char *)shim::from_lane<const void *>(all, 8 * j + 2 * t + i) + 2 * g, 2);
        r[j] = v[0] | (unsigned)v[1] << 16;
    }
    shim::meet("ldmatrix", 0xffffffffu, nullptr, 0);
}

// ---- Copies to shared memory: there when they are waited for, not before.

inline void copy16(void *to, const void *from, bool there) {
    shim::aligned(to, 16);
    shim::aligned(from, 16);
    shim::Copy copy{to, {}, shim::me->group};
    if (there) memcpy(copy.bytes, from, 16);
    memset(to, 255, 16);
    shim::me->copies.push_back(copy);
}
inline void copies_end() { shim::me->group++; }
template <int but>
void copies_wait() {
    std::vector<shim::Copy> later;
    for (const shim::Copy &copy : shim::me->copies) {
        if (copy.group < shim::me->group - but)
            memcpy(copy.to, copy.bytes, 16);
        else
            later.push_back(copy);
    }
    shim::me->copies.swap(later);
}
