#include <math.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <xnnpack.h>

#include "engine.h"

struct state {
    struct layer layer;
    xnn_operator_t operator;
    float *input, *output; /* [h, w, c] */
};

static pthreadpool_t pool;

static void open_(int threads) {
    engine_need(xnn_initialize(NULL) == xnn_status_success, "XNNPACK does not run here");
    if (threads > 1) pool = pthreadpool_create((size_t)threads);
}

static void *create(const struct layer *l, const float *input, const float *weights) {
    struct state *s = calloc(1, sizeof *s);
    const size_t taps = (size_t)l->size * (size_t)l->size, each = (size_t)(l->c / l->groups);
    engine_need(s != NULL, "out of memory");
    s->layer = *l;
    s->input = engine_floats((size_t)l->c * (size_t)l->h * (size_t)l->w);
    s->output = engine_floats((size_t)l->filters * (size_t)l->out_h * (size_t)l->out_w);
    for (int c = 0; c < l->c; c++)
        for (int i = 0; i < l->h * l->w; i++) s->input[i * l->c + c] = input[c * l->h * l->w + i];
    float *kernel = engine_floats((size_t)l->filters * taps * each); /* [filters, taps, c]; depthwise: [taps, c] */
    const int depthwise = l->groups == l->c && l->groups > 1;
    for (size_t f = 0; f < (size_t)l->filters; f++)
        for (size_t c = 0; c < each; c++)
            for (size_t t = 0; t < taps; t++)
                kernel[depthwise ? t * (size_t)l->filters + f : (f * taps + t) * each + c] = weights[(f * each + c) * taps + t];
    enum xnn_status status;
    if (l->connected)
        status = xnn_create_fully_connected_nc_f32((size_t)l->c, (size_t)l->filters, (size_t)l->c, (size_t)l->filters,
                                                   kernel, NULL, 0, INFINITY, 0, &s->operator);
    else
        status = xnn_create_convolution2d_nhwc_f32(
            (uint32_t)l->pad, (uint32_t)l->pad, (uint32_t)l->pad, (uint32_t)l->pad, (uint32_t)l->size, (uint32_t)l->size,
            (uint32_t)l->stride, (uint32_t)l->stride, 1, 1, (uint32_t)l->groups, each, (size_t)(l->filters / l->groups),
            (size_t)l->c, (size_t)l->filters, kernel, NULL, 0, INFINITY, depthwise ? XNN_FLAG_DEPTHWISE_CONVOLUTION : 0,
            &s->operator);
    engine_need(status == xnn_status_success, "XNNPACK does not take this layer");
    if (l->connected) status = xnn_setup_fully_connected_nc_f32(s->operator, 1, s->input, s->output, pool);
    else status = xnn_setup_convolution2d_nhwc_f32(s->operator, 1, (size_t)l->h, (size_t)l->w, s->input, s->output, pool);
    engine_need(status == xnn_status_success, "XNNPACK does not take this layer's shape");
    free(kernel);
    return s;
}

static void run(void *state) {
    struct state *s = state;
    engine_need(xnn_run_operator(s->operator, pool) == xnn_status_success, "XNNPACK has failed");
}

static float output(void *state, int filter, int y, int x) {
    const struct state *s = state;
    return s->output[(y * s->layer.out_w + x) * s->layer.filters + filter];
}

const struct engine engine = {open_, create, run, output};
