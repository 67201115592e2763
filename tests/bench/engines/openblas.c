/* Convolution as it is done with a BLAS: image to columns, then a matrix
 * product for each group. */
#include <cblas.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include "engine.h"

struct state {
    struct layer layer;
    float *input, *weights, *columns, *output;
};

static void open_(int threads) { openblas_set_num_threads(threads); }

static float *copy(const float *from, size_t n) {
    float *to = engine_floats(n);
    memcpy(to, from, n * sizeof *to);
    return to;
}

static size_t pixels(const struct layer *l) { return (size_t)l->out_h * (size_t)l->out_w; }
static size_t rows(const struct layer *l) { return (size_t)(l->c / l->groups) * (size_t)l->size * (size_t)l->size; }
static int as_it_is(const struct layer *l) { return l->size == 1 && l->stride == 1 && l->pad == 0; }

static void *create(const struct layer *l, const float *input, const float *weights) {
    struct state *s = calloc(1, sizeof *s);
    engine_need(s != NULL, "out of memory");
    s->layer = *l;
    s->input = copy(input, (size_t)l->c * (size_t)l->h * (size_t)l->w);
    s->weights = copy(weights, (size_t)l->filters * rows(l));
    s->columns = engine_floats(as_it_is(l) ? 1 : rows(l) * pixels(l));
    s->output = engine_floats((size_t)l->filters * pixels(l));
    return s;
}

/* [c, size, size, out_h, out_w] of c channels. */
static void to_columns(const struct layer *l, const float *input, int channels, float *columns) {
    for (int c = 0; c < channels; c++)
        for (int i = 0; i < l->size; i++)
            for (int j = 0; j < l->size; j++)
                for (int y = 0; y < l->out_h; y++, columns += l->out_w) {
                    const int iy = y * l->stride - l->pad + i, shift = j - l->pad;
                    const float *line = input + ((ptrdiff_t)c * l->h + iy) * l->w + shift;
                    /* Columns whose pixel is in the image: 0 <= x * stride + shift < w. */
                    int first = shift < 0 ? (-shift + l->stride - 1) / l->stride : 0;
                    int last = (l->w - shift + l->stride - 1) / l->stride;
                    if (last > l->out_w) last = l->out_w;
                    if (iy < 0 || iy >= l->h || first > last) first = last = 0;
                    for (int x = 0; x < first; x++) columns[x] = 0;
                    if (l->stride == 1) memcpy(columns + first, line + first, (size_t)(last - first) * sizeof *columns);
                    else
                        for (int x = first; x < last; x++) columns[x] = line[x * l->stride];
                    for (int x = last; x < l->out_w; x++) columns[x] = 0;
                }
}

static void run(void *state) {
    const struct state *s = state;
    const struct layer *l = &s->layer;
    if (l->connected) {
        cblas_sgemv(CblasRowMajor, CblasNoTrans, l->filters, l->c, 1, s->weights, l->c, s->input, 1, 0, s->output, 1);
        return;
    }
    const int m = l->filters / l->groups, n = (int)pixels(l), k = (int)rows(l), channels = l->c / l->groups;
    for (int g = 0; g < l->groups; g++) {
        const float *input = s->input + (size_t)g * (size_t)channels * (size_t)l->h * (size_t)l->w, *columns = input;
        if (!as_it_is(l)) {
            to_columns(l, input, channels, s->columns);
            columns = s->columns;
        }
        cblas_sgemm(CblasRowMajor, CblasNoTrans, CblasNoTrans, m, n, k, 1, s->weights + (size_t)g * (size_t)m * (size_t)k, k,
                    columns, n, 0, s->output + (size_t)g * (size_t)m * (size_t)n, n);
    }
}

static float output(void *state, int filter, int y, int x) {
    const struct state *s = state;
    return s->output[((ptrdiff_t)filter * s->layer.out_h + y) * s->layer.out_w + x];
}

const struct engine engine = {open_, create, run, output};
