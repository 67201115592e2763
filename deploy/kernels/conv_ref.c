#include "deploy/kernels/conv.h"

static float sum(const struct conv_args *a, int o, int i, int j) {
    float total = 0;
    for (int k = 0; k < a->nchunks; k++) {
        const struct conv_chunk *chunk = &a->chunks[k];
        for (int tap = 0; tap < a->kh * a->kw; tap++) {
            const float *x = chunk->x + i * a->x_line + j * a->x_column + tap / a->kw * a->x_tap_line +
                             tap % a->kw * a->x_tap;
            const float *w = chunk->w + o / PANEL * a->w_panel + tap * chunk->w_tap + o % PANEL;
            for (int r = 0; r < chunk->rows; r++) total += x[r] * w[r * PANEL];
        }
    }
    return total;
}

void conv_ref_one(const struct conv_args *a, int o, int i, int j) {
    float y = a->scale[o] * sum(a, o, i, j) + a->shift[o];
    if (a->residual && o < a->residual_channels)
        y += a->residual[o / PANEL * a->residual_panel + i * a->residual_line + j * PANEL + o % PANEL];
    a->y[o / PANEL * a->y_panel + i * a->y_line + j * PANEL + o % PANEL] = activation_apply(a->activation, y);
}

void conv_ref(const struct conv_args *a, int first, int last, int top, int bottom) {
    for (int o = first; o < last; o++)
        for (int i = top; i < bottom; i++)
            for (int j = 0; j < a->width; j++) conv_ref_one(a, o, i, j);
}
