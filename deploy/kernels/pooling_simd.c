#include "deploy/kernels/pooling.h"
#include "deploy/kernels/vec.h"

#include <float.h>

void VEC_NAME(pooling_max)(const struct pooling_args *a, int first, int last) {
    for (int c = first; c < last; c += VEC_LANES) {
        const float *in = a->x + c / PANEL * a->x_panel + c % PANEL;
        float *out = a->y + c / PANEL * a->y_panel + c % PANEL;
        for (int i = 0; i < a->y_height; i++) {
            int top, bottom;
            pooling_window(a, i, a->x_height, &top, &bottom);
            for (int j = 0; j < a->y_width; j++) {
                int left, right;
                pooling_window(a, j, a->x_width, &left, &right);
                vec best = vec_set1(-FLT_MAX);
                for (int y = top; y < bottom; y++)
                    for (int x = left; x < right; x++) best = vec_max(vec_load(in + y * a->x_line + x * PANEL), best);
                vec_store(out + i * a->y_line + j * PANEL, best);
            }
        }
    }
}

void VEC_NAME(pooling_mean)(const struct pooling_args *a, int first, int last) {
    const vec share = vec_set1(1 / (float)(a->x_height * a->x_width));
    for (int c = first; c < last; c += VEC_LANES) {
        const float *in = a->x + c / PANEL * a->x_panel + c % PANEL;
        vec sum = vec_zero();
        for (int i = 0; i < a->x_height; i++) {
            vec line = vec_zero();
            for (int j = 0; j < a->x_width; j++) line = vec_add(line, vec_load(in + i * a->x_line + j * PANEL));
            sum = vec_add(sum, line);
        }
        vec_store(a->y + c / PANEL * a->y_panel + c % PANEL, vec_mul(sum, share));
    }
}
