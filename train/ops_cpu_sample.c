/* Loops over positions of maps: shortcuts between maps of different sizes, and
 * crops. */
#include "train/ops_cpu.h"
#include "train/ops_onednn.h"

#include <string.h>

/* ---- shortcuts ---- */

enum joining { JOIN_ADD, JOIN_BACK, JOIN_BACK_ADD, JOIN_SCALE };

struct joined {
    const struct ops_join *join;
    enum joining what;
    const float *in;
    float *out;
};

/* Steps between the positions that meet: the larger map is sampled. */
static int step(int own, int other) { return own > other ? own / other : 1; }
static int smaller(int a, int b) { return a < b ? a : b; }

static size_t at(struct ops_map m, size_t image, int row, int column) {
    return ((image * (size_t)m.h + (size_t)row) * (size_t)m.w + (size_t)column) * (size_t)m.c;
}

static void join_run(const struct joined *s, const struct ops_run *run, const float *restrict in, float *restrict out) {
    float alpha = s->join->alpha, beta = s->join->beta;
    bool zeros = run->x_first < 0;
    switch (s->what) {
    case JOIN_ADD:
        for (int c = 0; c < run->count; c++) out[c] = alpha * out[c] + (zeros ? 0 : beta * in[c]);
        break;
    case JOIN_BACK:
        for (int c = 0; c < run->count && !zeros; c++) out[c] = beta * in[c];
        break;
    case JOIN_BACK_ADD:
        for (int c = 0; c < run->count && !zeros; c++) out[c] += beta * in[c];
        break;
    case JOIN_SCALE:
        for (int c = 0; c < run->count; c++) out[c] *= alpha;
        break;
    }
}

static void join_loop(const void *args, size_t first, size_t last, int thread) {
    const struct joined *s = args;
    struct ops_map x = s->join->x, y = s->join->y;
    int x_row = step(x.h, y.h), y_row = step(y.h, x.h), x_column = step(x.w, y.w), y_column = step(y.w, x.w);
    int h = smaller(x.h, y.h), w = smaller(x.w, y.w);
    bool back = s->what == JOIN_BACK || s->what == JOIN_BACK_ADD;
    for (size_t image = first; image < last; image++) {
        if (s->what == JOIN_BACK) memset(s->out + at(x, image, 0, 0), 0, at(x, 1, 0, 0) * sizeof *s->out);
        for (int i = 0; i < h; i++)
            for (int j = 0; j < w; j++)
                for (int r = 0; r < s->join->nruns; r++) {
                    const struct ops_run *run = &s->join->runs[r];
                    size_t x_at = at(x, image, i * x_row, j * x_column) + (size_t)(run->x_first < 0 ? 0 : run->x_first);
                    size_t y_at = at(y, image, i * y_row, j * y_column) + (size_t)run->y_first;
                    join_run(s, run, s->in + (back ? y_at : x_at), s->out + (back ? x_at : y_at));
                }
    }
}

static void join_all(struct ops *ops, const struct joined *s) {
    size_t cost = at(s->join->y, 1, 0, 0) + at(s->join->x, 1, 0, 0);
    ops_parallel(ops, (size_t)s->join->n, 1, cost, join_loop, s);
}

void ops_join(struct ops *ops, const struct ops_join *join, const float *x, float *y) {
    join_all(ops, &(struct joined){ join, JOIN_ADD, x, y });
}

void ops_join_backward(struct ops *ops, const struct ops_join *join, const float *dy, float *dx, bool add) {
    join_all(ops, &(struct joined){ join, add ? JOIN_BACK_ADD : JOIN_BACK, dy, dx });
}

void ops_join_scale(struct ops *ops, const struct ops_join *join, float *dy) {
    join_all(ops, &(struct joined){ join, JOIN_SCALE, dy, dy });
}

/* ---- crops ---- */

struct cropped {
    const struct ops_crop *crop;
    const float *x;
    float *y;
};

/* Where in the input the output's position lies, in values. */
static size_t crop_source(const struct ops_crop *s, size_t image, int row, int column) {
    int j = s->left[image] + (s->flip[image] ? s->ow - 1 - column : column);
    struct ops_map map = { s->c, s->ih, s->iw };
    return at(map, image, s->top[image] + row, j);
}

static void crop_loop(const void *args, size_t first, size_t last, int thread) {
    const struct cropped *k = args;
    const struct ops_crop *s = k->crop;
    for (size_t n = first; n < last; n++)
        for (int i = 0; i < s->oh; i++)
            for (int j = 0; j < s->ow; j++) {
                const float *x = k->x + crop_source(s, n, i, j);
                float *y = k->y + at((struct ops_map){ s->c, s->oh, s->ow }, n, i, j);
                for (int c = 0; c < s->c; c++) y[c] = x[c] * s->scale + s->shift;
            }
}

static void crop_backward_loop(const void *args, size_t first, size_t last, int thread) {
    const struct cropped *k = args;
    const struct ops_crop *s = k->crop;
    size_t image = at((struct ops_map){ s->c, s->ih, s->iw }, 1, 0, 0);
    memset(k->y + first * image, 0, (last - first) * image * sizeof *k->y);
    for (size_t n = first; n < last; n++)
        for (int i = 0; i < s->oh; i++)
            for (int j = 0; j < s->ow; j++) {
                const float *dy = k->x + at((struct ops_map){ s->c, s->oh, s->ow }, n, i, j);
                float *dx = k->y + crop_source(s, n, i, j);
                for (int c = 0; c < s->c; c++) dx[c] = dy[c] * s->scale;
            }
}

void ops_crop(struct ops *ops, const struct ops_crop *crop, const float *x, float *y) {
    struct cropped k = { crop, x, y };
    ops_parallel(ops, (size_t)crop->n, 1, at((struct ops_map){ crop->c, crop->oh, crop->ow }, 1, 0, 0), crop_loop, &k);
}

void ops_crop_backward(struct ops *ops, const struct ops_crop *crop, const float *dy, float *dx) {
    struct cropped k = { crop, dy, dx };
    ops_parallel(ops, (size_t)crop->n, 1, at((struct ops_map){ crop->c, crop->ih, crop->iw }, 1, 0, 0),
                 crop_backward_loop, &k);
}
