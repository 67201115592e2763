/* Elementwise loops and those that move values about. */
#include "train/ops_cpu.h"
#include "train/ops_onednn.h"

#include <math.h>
#include <omp.h>
#include <string.h>
#ifdef __x86_64__
#include <immintrin.h>
#endif

enum { SERIAL = 16384 }; /* values: below, starting the threads costs more */

void ops_parallel(const struct ops *ops, size_t count, size_t grain, size_t cost, ops_loop *loop, const void *args) {
    if (count == 0) return;
    if (ops->nthreads == 1 || count * cost < SERIAL || omp_in_parallel()) {
        loop(args, 0, count, 0);
        return;
    }
    size_t grains = (count + grain - 1) / grain, parts = (size_t)ops->nthreads;
#pragma omp parallel for schedule(static, 1) num_threads(ops->nthreads)
    for (size_t t = 0; t < parts; t++) {
        size_t first = grains * t / parts * grain, last = grains * (t + 1) / parts * grain;
        if (last > count) last = count;
        if (first < last) loop(args, first, last, (int)t);
    }
}

struct span { /* of an elementwise loop */
    const float *x, *g;
    float *y;
    struct ops_rectifier r;
    enum activation activation;
    uint64_t seed;
    uint32_t keep; /* dropout: threshold of the draw */
    float scale;
};

static void zero(const void *args, size_t first, size_t last, int thread) {
    const struct span *s = args;
    memset(s->y + first, 0, (last - first) * sizeof *s->y);
}

void ops_zero(struct ops *ops, float *values, size_t count) {
    ops_parallel(ops, count, 16, 1, zero, &(struct span){ .y = values });
}

static void copy(const void *args, size_t first, size_t last, int thread) {
    const struct span *s = args;
    memcpy(s->y + first, s->x + first, (last - first) * sizeof *s->y);
}

void ops_copy(struct ops *ops, const float *x, size_t count, float *y) {
    ops_parallel(ops, count, 16, 1, copy, &(struct span){ .x = x, .y = y });
}

OPS_CLONES static void add(const void *args, size_t first, size_t last, int thread) {
    const struct span *s = args;
    const float *restrict x = s->x;
    float *restrict y = s->y;
    for (size_t i = first; i < last; i++) y[i] += x[i];
}

void ops_add(struct ops *ops, const float *x, size_t count, float *y) {
    ops_parallel(ops, count, 16, 2, add, &(struct span){ .x = x, .y = y });
}

/* ---- activations ---- */

const struct ops_rectifier ops_linear = { 1, INFINITY };

bool ops_rectifier_of(enum activation activation, struct ops_rectifier *r) {
    switch (activation) {
    case ACTIVATION_LINEAR: *r = ops_linear; return true;
    case ACTIVATION_RELU: *r = (struct ops_rectifier){ 0, INFINITY }; return true;
    case ACTIVATION_RELU6: *r = (struct ops_rectifier){ 0, 6 }; return true;
    case ACTIVATION_LEAKY: *r = (struct ops_rectifier){ 0.1f, INFINITY }; return true;
    case ACTIVATION_RELIE: *r = (struct ops_rectifier){ 0.01f, INFINITY }; return true;
    default: return false;
    }
}

OPS_CLONES static void rectify(const void *args, size_t first, size_t last, int thread) {
    const struct span *s = args;
    const float *x = s->x;
    float *y = s->y, slope = s->r.slope, cap = s->r.cap;
#pragma GCC ivdep
    for (size_t i = first; i < last; i++) {
        float above = x[i] < cap ? x[i] : cap;
        y[i] = x[i] > 0 ? above : slope * x[i];
    }
}

/* y (here x) and z agree on the sides of both kinks. */
OPS_CLONES static void rectify_backward(const void *args, size_t first, size_t last, int thread) {
    const struct span *s = args;
    const float *y = s->x, *dy = s->g;
    float *dx = s->y, slope = s->r.slope, cap = s->r.cap;
#pragma GCC ivdep
    for (size_t i = first; i < last; i++) {
        float side = y[i] > 0 ? 1.0f : slope;
        dx[i] = dy[i] * (y[i] >= cap ? 0.0f : side);
    }
}

void ops_rectify_backward(struct ops *ops, struct ops_rectifier r, const float *y, const float *dy, size_t count,
                          float *dx) {
    if (r.slope == 1 && isinf(r.cap)) {
        if (dx != dy) ops_copy(ops, dy, count, dx);
        return;
    }
    ops_parallel(ops, count, 16, 2, rectify_backward, &(struct span){ .x = y, .g = dy, .y = dx, .r = r });
}

static void activate(const void *args, size_t first, size_t last, int thread) {
    const struct span *s = args;
    for (size_t i = first; i < last; i++) s->y[i] = activation_apply(s->activation, s->x[i]);
}

void ops_activate(struct ops *ops, enum activation activation, const float *x, size_t count, float *y) {
    struct ops_rectifier r;
    if (ops_rectifier_of(activation, &r)) {
        ops_parallel(ops, count, 16, 2, rectify, &(struct span){ .x = x, .y = y, .r = r });
        return;
    }
    ops_parallel(ops, count, 16, 16, activate, &(struct span){ .x = x, .y = y, .activation = activation });
}

static void activate_backward(const void *args, size_t first, size_t last, int thread) {
    const struct span *s = args;
    for (size_t i = first; i < last; i++) s->y[i] = s->g[i] * activation_derivative(s->activation, s->x[i]);
}

void ops_activate_backward(struct ops *ops, enum activation activation, const float *x, const float *dy, size_t count,
                           float *dx) {
    ops_parallel(ops, count, 16, 16, activate_backward,
                 &(struct span){ .x = x, .g = dy, .y = dx, .activation = activation });
}

/* ---- dropout ---- */

/* The draw of element i: the finalizer of MurmurHash3 over its number and the
 * two halves of the seed. */
static inline uint32_t draw(uint32_t i, uint32_t low, uint32_t high) {
    uint32_t h = (i ^ low) * 0x9e3779b1u;
    h ^= h >> 16;
    h = (h ^ high) * 0x85ebca6bu;
    h ^= h >> 13;
    h *= 0xc2b2ae35u;
    return h ^ h >> 16;
}

OPS_CLONES static void drop(const void *args, size_t first, size_t last, int thread) {
    const struct span *s = args;
    uint32_t low = (uint32_t)s->seed, high = (uint32_t)(s->seed >> 32), keep = s->keep;
    const float *x = s->x;
    float *y = s->y, scale = s->scale;
#pragma GCC ivdep
    for (size_t i = first; i < last; i++) y[i] = x[i] * (draw((uint32_t)i, low, high) < keep ? scale : 0.0f);
}

void ops_dropout(struct ops *ops, const float *x, size_t count, float probability, uint64_t seed, float *y) {
    double keep = (1.0 - (double)probability) * 4294967296.0;
    struct span s = { .x = x, .y = y, .seed = seed, .scale = 1 / (1 - probability) };
    s.keep = keep >= 4294967295.0 ? UINT32_MAX : (uint32_t)keep;
    ops_parallel(ops, count, 16, 2, drop, &s);
}

/* ---- channels and layouts ---- */

struct channels {
    const float *x;
    float *y;
    size_t x_c, y_c, count;
    bool add;
};

static void copy_channels(const void *args, size_t first, size_t last, int thread) {
    const struct channels *s = args;
    for (size_t r = first; r < last; r++) {
        const float *restrict x = s->x + r * s->x_c;
        float *restrict y = s->y + r * s->y_c;
        if (s->add)
            for (size_t c = 0; c < s->count; c++) y[c] += x[c];
        else
            for (size_t c = 0; c < s->count; c++) y[c] = x[c];
    }
}

void ops_copy_channels(struct ops *ops, const float *x, int x_c, int x_first, float *y, int y_c, int y_first, int count,
                       size_t rows, bool sum) {
    struct channels s = { x + x_first, y + y_first, (size_t)x_c, (size_t)y_c, (size_t)count, sum };
    ops_parallel(ops, rows, 1, (size_t)count, copy_channels, &s);
}

struct planar {
    const float *x;
    float *y;
    size_t c, positions;
};

static void from_planar(const void *args, size_t first, size_t last, int thread) {
    const struct planar *s = args;
    for (size_t i = first; i < last; i++)
        for (size_t c = 0; c < s->c; c++) {
            const float *x = s->x + (i * s->c + c) * s->positions;
            float *y = s->y + i * s->positions * s->c + c;
            for (size_t p = 0; p < s->positions; p++) y[p * s->c] = x[p];
        }
}

void ops_from_planar(struct ops *ops, const float *x, int n, int c, int h, int w, float *y) {
    struct planar s = { x, y, (size_t)c, (size_t)h * (size_t)w };
    ops_parallel(ops, (size_t)n, 1, s.c * s.positions, from_planar, &s);
}

static void to_planar(const void *args, size_t first, size_t last, int thread) {
    const struct planar *s = args;
    for (size_t i = first; i < last; i++)
        for (size_t c = 0; c < s->c; c++) {
            const float *x = s->x + i * s->positions * s->c + c;
            float *y = s->y + (i * s->c + c) * s->positions;
            for (size_t p = 0; p < s->positions; p++) y[p] = x[p * s->c];
        }
}

void ops_to_planar(struct ops *ops, const float *x, int n, int c, int h, int w, float *y) {
    struct planar s = { x, y, (size_t)c, (size_t)h * (size_t)w };
    ops_parallel(ops, (size_t)n, 1, s.c * s.positions, to_planar, &s);
}

/* ---- pooling of whole maps ---- */

struct average {
    const float *x;
    float *y;
    size_t positions, c;
};

OPS_CLONES static void average(const void *args, size_t first, size_t last, int thread) {
    const struct average *s = args;
    float share = 1 / (float)s->positions;
    for (size_t i = first; i < last; i++) {
        float *restrict y = s->y + i * s->c;
        memset(y, 0, s->c * sizeof *y);
        for (size_t p = 0; p < s->positions; p++) {
            const float *restrict x = s->x + (i * s->positions + p) * s->c;
            for (size_t c = 0; c < s->c; c++) y[c] += x[c];
        }
        for (size_t c = 0; c < s->c; c++) y[c] *= share;
    }
}

void ops_average(struct ops *ops, const float *x, int n, int positions, int c, float *y) {
    struct average s = { x, y, (size_t)positions, (size_t)c };
    ops_parallel(ops, (size_t)n, 1, s.positions * s.c, average, &s);
}

OPS_CLONES static void average_backward(const void *args, size_t first, size_t last, int thread) {
    const struct average *s = args;
    float share = 1 / (float)s->positions;
    for (size_t i = first; i < last; i++)
        for (size_t p = 0; p < s->positions; p++) {
            const float *restrict dy = s->x + i * s->c;
            float *restrict dx = s->y + (i * s->positions + p) * s->c;
            for (size_t c = 0; c < s->c; c++) dx[c] = dy[c] * share;
        }
}

void ops_average_backward(struct ops *ops, const float *dy, int n, int positions, int c, float *dx) {
    struct average s = { dy, dx, (size_t)positions, (size_t)c };
    ops_parallel(ops, (size_t)n, 1, s.positions * s.c, average_backward, &s);
}

/* ---- rounding ---- */

struct rounding {
    const float *x;
    uint16_t *y;
};

static uint16_t rounded(float x) {
    uint32_t bits;
    memcpy(&bits, &x, sizeof bits);
    uint32_t nearest = bits + 0x7fff + (bits >> 16 & 1);
    return (uint16_t)(((bits & 0x7fffffff) > 0x7f800000 ? bits | 0x400000 : nearest) >> 16);
}

#ifdef __x86_64__
/* By the instruction, which takes a quarter of the time. */
__attribute__((target("avx512f,avx512bf16"))) static size_t round_vectors(const float *x, size_t first, size_t last,
                                                                          uint16_t *y) {
    for (; first + 32 <= last; first += 32) {
        __m512 low = _mm512_loadu_ps(x + first), high = _mm512_loadu_ps(x + first + 16);
        _mm512_storeu_si512(y + first, (__m512i)_mm512_cvtne2ps_pbh(high, low));
    }
    return first;
}
#else
static size_t round_vectors(const float *x, size_t first, size_t last, uint16_t *y) { return first; }
#endif

static void round_bf16(const void *args, size_t first, size_t last, int thread) {
    const struct rounding *s = args;
    if (ops_has_bf16()) first = round_vectors(s->x, first, last, s->y);
    for (size_t i = first; i < last; i++) s->y[i] = rounded(s->x[i]);
}

void ops_round_bf16(const struct ops *ops, const float *x, size_t count, uint16_t *y) {
    ops_parallel(ops, count, 32, 1, round_bf16, &(struct rounding){ x, y });
}
