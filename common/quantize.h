/* What a value becomes on a link: float16, and 8 or 4 bits affine, per channel
 * or per tensor (deploy/codec.h says how maps are laid out). Here, because the
 * trainer measures what it costs in accuracy.
 *
 * Affine: value = lo + q * step, q in 0..top, with lo and step chosen so that 0
 * is hit exactly whenever it lies in the range of the channel (or tensor), for
 * what a ReLU zeroed must stay zero. NaN becomes 0; values beyond +-1e37 are clamped. */
#ifndef ESPALIER_QUANTIZE_H
#define ESPALIER_QUANTIZE_H

#include "common/plan.h"

#include <math.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

/* Rounds to nearest even, saturates at +-65504; NaN becomes 0. */
static inline uint16_t quantize_half(float x) {
    uint32_t u;
    memcpy(&u, &x, 4);
    uint16_t sign = (uint16_t)(u >> 16 & 0x8000);
    u &= 0x7fffffff;
    if (u > 0x7f800000) return 0; /* NaN */
    if (u >= 0x477fe000) return sign | 0x7bff;
    if (u >= 0x38800000) { /* normal as a half: round to even at bit 13 */
        u += 0xfff + (u >> 13 & 1);
        return sign | (uint16_t)((u - 0x38000000) >> 13);
    }
    /* Subnormal: 0.5's last place is the half's smallest step, so the addition rounds. */
    float magnitude;
    memcpy(&magnitude, &u, 4);
    magnitude += 0.5f;
    memcpy(&u, &magnitude, 4);
    return sign | (uint16_t)(u - 0x3f000000);
}

/* The half's bits read as a float's are the value times 2^-112. Infinities,
 * which quantize_half() never makes, become 65536 and more. */
static inline float quantize_from_half(uint16_t h) {
    uint32_t u = (uint32_t)(h & 0x7fff) << 13;
    float x;
    memcpy(&x, &u, 4);
    x *= 0x1p112f;
    return h & 0x8000 ? -x : x;
}

struct quantize_affine {
    float lo, step, inverse; /* step 0: all values are lo */
};

static inline float quantize_clean(float x) {
    const float largest = 1e37f; /* differences of clamped values stay finite */
    if (x != x) return 0;
    return x > largest ? largest : x < -largest ? -largest : x;
}

/* To n > 0 values, `stride` apart. */
static inline struct quantize_affine quantize_fit(const float *x, int n, ptrdiff_t stride, int top) {
    float lo = quantize_clean(x[0]), hi = lo;
    for (int i = 1; i < n; i++) {
        float v = quantize_clean(x[i * stride]);
        lo = v < lo ? v : lo;
        hi = v > hi ? v : hi;
    }
    bool straddles = lo < 0 && hi >= 0;
    struct quantize_affine a = { lo, (hi - lo) / (float)(straddles ? top - 1 : top), 0 };
    if (a.step < 0x1p-120f) { /* too close to tell apart: 1/step would overflow */
        a.step = 0;
        if (lo <= 0 && hi >= 0) a.lo = 0;
        return a;
    }
    a.inverse = 1 / a.step;
    /* One step is kept spare so that lo can move down to a whole number of steps below 0. */
    if (straddles) a.lo = -(ceilf(-lo * a.inverse) * a.step);
    return a;
}

static inline int quantize_code(struct quantize_affine a, float x, int top) {
    float q = (quantize_clean(x) - a.lo) * a.inverse + 0.5f;
    return q < 0 ? 0 : q > (float)top ? top : (int)q;
}

static inline float quantize_value(struct quantize_affine a, int code) {
    return a.lo + (float)code * a.step;
}

struct quantize_form {
    int bits; /* of a value: 32, 16, 8, 4 */
    bool tensor; /* 8 and 4 bits: one scale for the tensor, not one a channel */
    bool zlib;
};
struct quantize_form quantize_form(enum codec codec);

/* A map [positions, channels] becomes what it is behind the link. */
void quantize_round(enum codec codec, float *map, int positions, int channels);

#endif
