/* Batch norm over [rows, c].
 *
 * Channels are few (4 to 64) in small networks, less than a vector. So m rows
 * are taken as one wide row of m * c values, and what belongs to a channel is
 * repeated m times: every loop runs over full vectors whatever c is.
 *
 * Sums: single precision over a short chunk, double precision over chunks and
 * threads. Variance is taken about the first row, which keeps the cancellation
 * of the one-pass formula harmless where the mean is far from zero. */
#include "train/ops_cpu.h"
#include "train/ops_onednn.h"

#include <math.h>
#include <string.h>

enum { WIDE = 128, CHUNK = 64, MAX_TABLES = 6 };

struct wide {
    const float *x, *g;
    float *y;
    size_t rows, tail;         /* wide rows, and values of a last, shorter one */
    size_t width, c;           /* values of a wide row: a multiple of c */
    float *table[MAX_TABLES];  /* [width]: per channel, repeated */
    float *partial;            /* [threads][2][width] */
    double *sums;              /* [threads][2][c] */
    struct ops_rectifier r, ra, rb;
};

/* Tables that are NULL become scales of 1 (even ones) and shifts of 0. */
static enum status widen(struct ops *ops, size_t rows, int c, const float *const *channels, int ntables, struct wide *w,
                         struct err *err) {
    size_t m = 1, threads = (size_t)ops->nthreads;
    w->c = (size_t)c;
    while (w->c * m < WIDE) m *= 2;
    w->width = w->c * m;
    w->rows = rows / m;
    w->tail = rows % m * w->c;
    float *p;
    size_t tables = ((size_t)ntables * w->width + 15) / 16 * 16, partial = threads * 2 * w->width;
    partial = (partial + 15) / 16 * 16;
    enum status status =
        ops_scratch(ops, OPS_SCRATCH_NORM, tables + partial + threads * 2 * w->c * (sizeof(double) / sizeof(float)), &p, err);
    if (status) return status;
    for (int t = 0; t < ntables; t++) {
        w->table[t] = p + (size_t)t * w->width;
        for (size_t i = 0; i < w->width && !channels[t]; i++) w->table[t][i] = t % 2 ? 0 : 1;
        for (size_t i = 0; i < m && channels[t]; i++) memcpy(w->table[t] + i * w->c, channels[t], w->c * sizeof(float));
    }
    w->partial = p + tables;
    w->sums = (double *)(void *)(p + tables + partial);
    memset(w->sums, 0, threads * 2 * w->c * sizeof *w->sums);
    return STATUS_OK;
}

/* Runs a loop over the wide rows, the short last one among them. */
static void run(struct ops *ops, const struct wide *w, ops_loop *loop) {
    ops_parallel(ops, w->rows + (w->tail > 0), 1, w->width, loop, w);
}

static inline size_t row_width(const struct wide *w, size_t row) { return row < w->rows ? w->width : w->tail; }

/* Adds a thread's partial sums [2][width] to its totals [2][c]. */
static void fold(const struct wide *w, int thread) {
    float *partial = w->partial + (size_t)thread * 2 * w->width;
    double *sums = w->sums + (size_t)thread * 2 * w->c;
    for (int k = 0; k < 2; k++)
        for (size_t i = 0; i < w->width; i += w->c)
            for (size_t c = 0; c < w->c; c++) sums[(size_t)k * w->c + c] += (double)partial[(size_t)k * w->width + i + c];
}

/* Totals of all threads into those of the first. */
static const double *total(const struct ops *ops, struct wide *w) {
    for (int t = 1; t < ops->nthreads; t++)
        for (size_t i = 0; i < 2 * w->c; i++) w->sums[i] += w->sums[(size_t)t * 2 * w->c + i];
    return w->sums;
}

/* ---- statistics ---- */

OPS_CLONES static void moments_loop(const void *args, size_t first, size_t last, int thread) {
    const struct wide *w = args;
    const float *restrict pivot = w->table[0];
    float *restrict s1 = w->partial + (size_t)thread * 2 * w->width, *restrict s2 = s1 + w->width;
    for (size_t chunk = first; chunk < last; chunk += CHUNK) {
        size_t end = chunk + CHUNK < last ? chunk + CHUNK : last, row = chunk;
        memset(s1, 0, 2 * w->width * sizeof *s1);
        for (; row + 4 <= end && row + 4 <= w->rows; row += 4) {
            const float *restrict x = w->x + row * w->width;
            size_t n = w->width;
#pragma GCC ivdep
            for (size_t i = 0; i < n; i++) {
                float a = x[i] - pivot[i], b = x[n + i] - pivot[i];
                float c = x[2 * n + i] - pivot[i], d = x[3 * n + i] - pivot[i];
                s1[i] += (a + b) + (c + d);
                s2[i] += (a * a + b * b) + (c * c + d * d);
            }
        }
        for (; row < end; row++) {
            const float *restrict x = w->x + row * w->width;
            size_t n = row_width(w, row);
#pragma GCC ivdep
            for (size_t i = 0; i < n; i++) {
                float a = x[i] - pivot[i];
                s1[i] += a;
                s2[i] += a * a;
            }
        }
        fold(w, thread);
    }
}

/* Moments of these rows, joined to those so far (Chan, Golub, LeVeque: Updating
 * formulae and a pairwise algorithm for computing sample variances, 1979). */
enum status ops_norm_moments(struct ops *ops, const float *x, size_t rows, int c, struct ops_moments *m, struct err *err) {
    struct wide w = { .x = x };
    enum status status = widen(ops, rows, c, (const float *[]){ x }, 1, &w, err);
    if (status) return status;
    run(ops, &w, moments_loop);
    const double *sums = total(ops, &w);
    double n = (double)rows, before = m->count, count = before + n;
    for (int i = 0; i < c; i++) {
        double mean = sums[i] / n, square = sums[c + i] - sums[i] * mean;
        double step = mean + (double)w.table[0][i] - m->mean[i];
        m->mean[i] += step * n / count;
        m->square[i] += (square < 0 ? 0 : square) + step * step * before * n / count;
    }
    m->count = count;
    return STATUS_OK;
}

/* ---- forward ---- */

OPS_CLONES static void apply_loop(const void *args, size_t first, size_t last, int thread) {
    const struct wide *w = args;
    const float *restrict scale = w->table[0], *restrict shift = w->table[1];
    float slope = w->r.slope, cap = w->r.cap;
    for (size_t row = first; row < last; row++) {
        const float *x = w->x + row * w->width;
        float *y = w->y + row * w->width;
        size_t n = row_width(w, row);
#pragma GCC ivdep
        for (size_t i = 0; i < n; i++) {
            float z = x[i] * scale[i] + shift[i];
            float above = z < cap ? z : cap;
            y[i] = z > 0 ? above : slope * z;
        }
    }
}

enum status ops_norm_apply(struct ops *ops, const float *x, size_t rows, int c, const float *scale, const float *shift,
                           struct ops_rectifier r, float *y, struct err *err) {
    struct wide w = { .x = x, .y = y, .r = r };
    enum status status = widen(ops, rows, c, (const float *[]){ scale, shift }, 2, &w, err);
    if (!status) run(ops, &w, apply_loop);
    return status;
}

/* ---- backward ---- */

static inline float gradient(float x, float dy, float scale, float shift, float slope, float cap) {
    float z = x * scale + shift;
    float side = z > 0 ? 1.0f : slope;
    return dy * (z >= cap ? 0.0f : side);
}

OPS_CLONES static void sums_loop(const void *args, size_t first, size_t last, int thread) {
    const struct wide *w = args;
    const float *restrict scale = w->table[0], *restrict shift = w->table[1], *restrict mean = w->table[2];
    float *restrict s1 = w->partial + (size_t)thread * 2 * w->width, *restrict s2 = s1 + w->width;
    float slope = w->r.slope, cap = w->r.cap;
    for (size_t chunk = first; chunk < last; chunk += CHUNK) {
        size_t end = chunk + CHUNK < last ? chunk + CHUNK : last, row = chunk;
        memset(s1, 0, 2 * w->width * sizeof *s1);
        for (; row + 2 <= end && row + 2 <= w->rows; row += 2) {
            const float *restrict x = w->x + row * w->width, *restrict dy = w->g + row * w->width;
            size_t n = w->width;
#pragma GCC ivdep
            for (size_t i = 0; i < n; i++) {
                float a = gradient(x[i], dy[i], scale[i], shift[i], slope, cap);
                float b = gradient(x[n + i], dy[n + i], scale[i], shift[i], slope, cap);
                s1[i] += a + b;
                s2[i] += a * (x[i] - mean[i]) + b * (x[n + i] - mean[i]);
            }
        }
        for (; row < end; row++) {
            const float *restrict x = w->x + row * w->width, *restrict dy = w->g + row * w->width;
            size_t n = row_width(w, row);
#pragma GCC ivdep
            for (size_t i = 0; i < n; i++) {
                float a = gradient(x[i], dy[i], scale[i], shift[i], slope, cap);
                s1[i] += a;
                s2[i] += a * (x[i] - mean[i]);
            }
        }
        fold(w, thread);
    }
}

enum status ops_norm_sums(struct ops *ops, const float *x, const float *dy, size_t rows, int c, const float *mean,
                          const float *scale, const float *shift, struct ops_rectifier r, double *sum_g, double *sum_gx,
                          struct err *err) {
    struct wide w = { .x = x, .g = dy, .r = r };
    enum status status = widen(ops, rows, c, (const float *[]){ scale, shift, mean }, 3, &w, err);
    if (status) return status;
    run(ops, &w, sums_loop);
    const double *sums = total(ops, &w);
    for (int i = 0; i < c; i++) {
        sum_g[i] += sums[i];
        sum_gx[i] += sums[c + i];
    }
    return STATUS_OK;
}

OPS_CLONES static void backward_loop(const void *args, size_t first, size_t last, int thread) {
    const struct wide *w = args;
    const float *restrict scale = w->table[0], *restrict shift = w->table[1];
    const float *restrict a = w->table[2], *restrict b = w->table[3], *restrict d = w->table[4];
    float slope = w->r.slope, cap = w->r.cap;
    for (size_t row = first; row < last; row++) {
        const float *x = w->x + row * w->width, *dy = w->g + row * w->width;
        float *dx = w->y + row * w->width;
        size_t n = row_width(w, row);
#pragma GCC ivdep
        for (size_t i = 0; i < n; i++) {
            float g = gradient(x[i], dy[i], scale[i], shift[i], slope, cap);
            dx[i] = a[i] * g + b[i] * x[i] + d[i];
        }
    }
}

enum status ops_norm_backward(struct ops *ops, const float *x, const float *dy, size_t rows, int c, const float *scale,
                              const float *shift, struct ops_rectifier r, const float *a, const float *b,
                              const float *d, float *dx, struct err *err) {
    struct wide w = { .x = x, .g = dy, .y = dx, .r = r };
    enum status status = widen(ops, rows, c, (const float *[]){ scale, shift, a, b, d }, 5, &w, err);
    if (!status) run(ops, &w, backward_loop);
    return status;
}

/* ---- sums of values still to be normalised ---- */

OPS_CLONES static void add_lazy_loop(const void *args, size_t first, size_t last, int thread) {
    const struct wide *w = args;
    const float *restrict a_scale = w->table[0], *restrict a_shift = w->table[1];
    const float *restrict b_scale = w->table[2], *restrict b_shift = w->table[3];
    struct ops_rectifier r = w->r, ra = w->ra, rb = w->rb;
    for (size_t row = first; row < last; row++) {
        const float *restrict a = w->x + row * w->width, *restrict b = w->g + row * w->width;
        float *restrict y = w->y + row * w->width;
        size_t n = row_width(w, row);
#pragma GCC ivdep
        for (size_t i = 0; i < n; i++) {
            float za = a[i] * a_scale[i] + a_shift[i], ya = za < ra.cap ? za : ra.cap;
            float zb = b[i] * b_scale[i] + b_shift[i], yb = zb < rb.cap ? zb : rb.cap;
            float z = (za > 0 ? ya : ra.slope * za) + (zb > 0 ? yb : rb.slope * zb), above = z < r.cap ? z : r.cap;
            y[i] = z > 0 ? above : r.slope * z;
        }
    }
}

enum status ops_add_lazy(struct ops *ops, const struct ops_lazy *a, const struct ops_lazy *b, size_t rows, int c,
                         struct ops_rectifier r, float *y, struct err *err) {
    struct wide w = { .x = a->values, .g = b->values, .y = y, .r = r, .ra = a->r, .rb = b->r };
    enum status status = widen(ops, rows, c, (const float *[]){ a->scale, a->shift, b->scale, b->shift }, 4, &w, err);
    if (!status) run(ops, &w, add_lazy_loop);
    return status;
}
