#include "deploy/kernels/depthwise.h"

void depthwise_ref(const struct depthwise_args *a, int first, int last, int top, int bottom) {
    for (int c = first; c < last; c++)
        for (int i = top; i < bottom; i++)
            for (int j = 0; j < a->width; j++) {
                float sum = 0;
                for (int tap = 0; tap < a->size * a->size; tap++) {
                    int line = i * a->stride + tap / a->size, column = j * a->stride + tap % a->size;
                    sum += a->w[(c / PANEL * a->size * a->size + tap) * PANEL + c % PANEL] *
                           a->x[c / PANEL * a->x_panel + line * a->x_line + column * PANEL + c % PANEL];
                }
                a->y[c / PANEL * a->y_panel + i * a->y_line + j * PANEL + c % PANEL] =
                    activation_apply(a->activation, a->scale[c] * sum + a->shift[c]);
            }
}
