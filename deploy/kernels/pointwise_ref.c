#include "deploy/kernels/pointwise.h"

void pointwise_affine_ref(const struct pointwise_affine_args *a, int first, int last) {
    for (int c = first; c < last; c++)
        for (int i = 0; i < a->height; i++)
            for (int j = 0; j < a->width; j++)
                a->y[c / PANEL * a->y_panel + i * a->y_line + j * PANEL + c % PANEL] =
                    a->scale[c] * a->x[c / PANEL * a->x_panel + i * a->x_line + j * PANEL + c % PANEL] + a->shift[c];
}

void pointwise_add_ref(const struct pointwise_add_args *a, int first, int last) {
    for (int c = first; c < last; c++)
        for (int i = 0; i < a->height; i++)
            for (int j = 0; j < a->width; j++) {
                int y = pointwise_add_place(a, i, a->from_height), x = pointwise_add_place(a, j, a->from_width);
                float value = a->alpha * a->own[c / PANEL * a->own_panel + i * a->own_line + j * PANEL + c % PANEL];
                if (c < a->from_channels && y >= 0 && x >= 0)
                    value += a->beta * a->from[c / PANEL * a->from_panel + y * a->from_line + x * PANEL + c % PANEL];
                a->y[c / PANEL * a->y_panel + i * a->y_line + j * PANEL + c % PANEL] =
                    activation_apply(a->activation, value);
            }
}
