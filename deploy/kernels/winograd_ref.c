/* The definition: the convolution itself, at the places of the tiles. */
#include "deploy/kernels/winograd.h"

void winograd_input_ref(const struct winograd_args *args, int first, int last, int top, int bottom, float *v) {
    (void)args, (void)first, (void)last, (void)top, (void)bottom, (void)v;
}

void winograd_output_ref(const struct winograd_args *args, int first, int last, const float *v, float *scratch) {
    (void)v, (void)scratch;
    const int columns = winograd_columns(args), m = args->m;
    for (int o = first; o < last; o++)
        for (int t = args->first; t < args->end; t++)
            for (int k = 0; k < m * m; k++) {
                const int i = t / columns * m + k / m, j = t % columns * m + k % m;
                if (i < args->height && j < args->conv->width) conv_ref_one(args->conv, o, i, j);
            }
}
