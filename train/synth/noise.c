#include "train/synth/noise.h"

#include <math.h>

/* A bit mixer of multiplications and shifts (as in MurmurHash3's finaliser). */
static float lattice(uint32_t seed, int32_t x, int32_t y) {
    uint32_t h = seed ^ ((uint32_t)x * 0x9e3779b1u) ^ ((uint32_t)y * 0x85ebca77u);
    h = (h ^ (h >> 16)) * 0x85ebca6bu;
    h = (h ^ (h >> 13)) * 0xc2b2ae35u;
    return (float)(h >> 8) * 0x1p-24f;
}

float noise_at(uint32_t seed, float x, float y) {
    float fx = floorf(x), fy = floorf(y), u = x - fx, v = y - fy;
    int32_t ix = (int32_t)fx, iy = (int32_t)fy;
    u = u * u * (3 - 2 * u);
    v = v * v * (3 - 2 * v);
    float top = lattice(seed, ix, iy) * (1 - u) + lattice(seed, ix + 1, iy) * u;
    float bottom = lattice(seed, ix, iy + 1) * (1 - u) + lattice(seed, ix + 1, iy + 1) * u;
    return top * (1 - v) + bottom * v;
}

float noise_sum(uint32_t seed, float x, float y, int octaves) {
    float sum = 0, weight = 1, total = 0;
    for (int i = 0; i < octaves; i++) {
        sum += weight * noise_at(seed + (uint32_t)i * 101u, x, y);
        total += weight;
        weight *= .5f;
        x *= 2;
        y *= 2;
    }
    return sum / total;
}
