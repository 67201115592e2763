#include "deploy/kernels/pooling.h"
#include "deploy/kernels/vec.h"

#include <float.h>

VEC_INLINE vec largest(const int height, const int width, const float *x, ptrdiff_t line) {
    vec best = vec_set1(-FLT_MAX);
    _Pragma("GCC unroll 3") for (int i = 0; i < height; i++)
        _Pragma("GCC unroll 3") for (int j = 0; j < width; j++) best = vec_max(vec_load(x + i * line + j * PANEL), best);
    return best;
}

/* Outputs [begin, end) of a line, whose windows are whole. */
VEC_INLINE void whole_windows(const int size, const float *x, ptrdiff_t line, ptrdiff_t step, float *y, int begin, int end) {
    for (int j = begin; j < end; j++) vec_store(y + j * PANEL, largest(size, size, x + j * step, line));
}

void VEC_NAME(pooling_max)(const struct pooling_args *a, int first, int last) {
    const ptrdiff_t step = (ptrdiff_t)a->stride * PANEL;
    const int begin = (a->before + a->stride - 1) / a->stride;
    const int inside = a->x_width + a->before - a->size < 0 ? 0 : (a->x_width + a->before - a->size) / a->stride + 1;
    const int end = inside < a->y_width ? inside : a->y_width;
    for (int c = first; c < last; c += VEC_LANES) {
        const float *in = a->x + c / PANEL * a->x_panel + c % PANEL;
        for (int i = 0; i < a->y_height; i++) {
            float *out = a->y + c / PANEL * a->y_panel + c % PANEL + i * a->y_line;
            int top, bottom, j = 0;
            pooling_window(a, i, a->x_height, &top, &bottom);
            const float *x = in + top * a->x_line - a->before * PANEL;
            while (j < a->y_width) {
                if (j == begin && begin < end && bottom - top == a->size && (a->size == 2 || a->size == 3)) {
                    if (a->size == 2) whole_windows(2, x, a->x_line, step, out, begin, end);
                    else if (a->size == 3) whole_windows(3, x, a->x_line, step, out, begin, end);
                    j = end;
                    continue;
                }
                int left, right;
                pooling_window(a, j, a->x_width, &left, &right);
                vec_store(out + j * PANEL, largest(bottom - top, right - left, in + top * a->x_line + left * PANEL, a->x_line));
                j++;
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
