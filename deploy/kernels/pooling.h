/* Pooling over panels of channels; see conv.h for the layout. Lanes past the
 * last channel are written with unspecified values. */
#ifndef ESPALIER_KERNELS_POOLING_H
#define ESPALIER_KERNELS_POOLING_H

#include "deploy/kernels/conv.h"

struct pooling_args {
    const float *x; /* (0, 0) of panel 0 */
    ptrdiff_t x_line, x_panel;
    int x_height, x_width;
    float *y; /* shares no memory with x */
    ptrdiff_t y_line, y_panel;
    int y_height, y_width;
    int size, stride;
    int before; /* lines and columns of padding in front */
};

/* The largest value of each window's part inside the map (every window has
 * one), channels [first, last), `first` a multiple of 16. */
typedef void pooling_max_fn(const struct pooling_args *args, int first, int last);
pooling_max_fn pooling_max_ref, pooling_max_sse2, pooling_max_avx2, pooling_max_avx512, pooling_max_neon;

/* The mean of each map into one value per channel: y, y_panel; size, stride,
 * before and y's shape are not used. Channels as above. */
typedef void pooling_mean_fn(const struct pooling_args *args, int first, int last);
pooling_mean_fn pooling_mean_ref, pooling_mean_sse2, pooling_mean_avx2, pooling_mean_avx512, pooling_mean_neon;

/* The part [*begin, *end) of a window that lies inside the map. */
static inline void pooling_window(const struct pooling_args *a, int output, int length, int *begin, int *end) {
    int start = output * a->stride - a->before;
    *begin = start > 0 ? start : 0;
    *end = start + a->size < length ? start + a->size : length;
}

#endif
