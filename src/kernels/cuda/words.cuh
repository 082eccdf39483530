// What one load takes.
#pragma once

struct alignas(16) Quad {
    unsigned int x[4];
};
struct alignas(8) Duo {
    unsigned int x[2];
};
struct alignas(16) Floats {
    float x[4];
};
