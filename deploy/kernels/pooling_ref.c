#include "deploy/kernels/pooling.h"

#include <float.h>

void pooling_max_ref(const struct pooling_args *a, int first, int last) {
    for (int c = first; c < last; c++)
        for (int i = 0; i < a->y_height; i++)
            for (int j = 0; j < a->y_width; j++) {
                int top, bottom, left, right;
                pooling_window(a, i, a->x_height, &top, &bottom);
                pooling_window(a, j, a->x_width, &left, &right);
                float best = -FLT_MAX;
                for (int y = top; y < bottom; y++)
                    for (int x = left; x < right; x++) {
                        float value = a->x[c / PANEL * a->x_panel + y * a->x_line + x * PANEL + c % PANEL];
                        if (value > best) best = value;
                    }
                a->y[c / PANEL * a->y_panel + i * a->y_line + j * PANEL + c % PANEL] = best;
            }
}

void pooling_mean_ref(const struct pooling_args *a, int first, int last) {
    for (int c = first; c < last; c++) {
        float sum = 0;
        for (int i = 0; i < a->x_height; i++)
            for (int j = 0; j < a->x_width; j++)
                sum += a->x[c / PANEL * a->x_panel + i * a->x_line + j * PANEL + c % PANEL];
        a->y[c / PANEL * a->y_panel + c % PANEL] = sum / (float)(a->x_height * a->x_width);
    }
}
