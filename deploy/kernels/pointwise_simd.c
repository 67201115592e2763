#include "deploy/kernels/pointwise.h"
#include "deploy/kernels/vec_activation.h"

void VEC_NAME(pointwise_affine)(const struct pointwise_affine_args *a, int first, int last) {
    for (int c = first; c < last; c += VEC_LANES) {
        const vec scale = vec_load(a->scale + c), shift = vec_load(a->shift + c);
        for (int i = 0; i < a->height; i++) {
            const float *x = a->x + c / PANEL * a->x_panel + c % PANEL + i * a->x_line;
            float *y = a->y + c / PANEL * a->y_panel + c % PANEL + i * a->y_line;
            for (int j = 0; j < a->width; j++)
                vec_store(y + j * PANEL, vec_fma(vec_load(x + j * PANEL), scale, shift));
        }
    }
}

void VEC_NAME(pointwise_add)(const struct pointwise_add_args *a, int first, int last) {
    const struct vec_activation activation = vec_activation(a->activation);
    const vec alpha = vec_set1(a->alpha), beta = vec_set1(a->beta);
    for (int c = first; c < last; c += VEC_LANES) {
        const int common = a->from_channels - c;
        for (int i = 0; i < a->height; i++) {
            const float *own = a->own + c / PANEL * a->own_panel + c % PANEL + i * a->own_line;
            const int line = common > 0 ? pointwise_add_place(a, i, a->from_height) : -1;
            const float *from = line < 0 ? NULL : a->from + c / PANEL * a->from_panel + c % PANEL + line * a->from_line;
            float *y = a->y + c / PANEL * a->y_panel + c % PANEL + i * a->y_line;
            for (int j = 0; j < a->width; j++) {
                vec value = vec_mul(alpha, vec_load(own + j * PANEL));
                const int column = from ? pointwise_add_place(a, j, a->from_width) : -1;
                if (column >= 0) {
                    const float *p = from + column * PANEL;
                    value = vec_fma(beta, common >= VEC_LANES ? vec_load(p) : vec_load_n(p, common), value);
                }
                vec_activation_store(&activation, y + j * PANEL, value, last - c);
            }
        }
    }
}
