/* Value by value over panels of channels; see conv.h for the layout. Lanes
 * past the last channel are written with unspecified values. */
#ifndef ESPALIER_KERNELS_POINTWISE_H
#define ESPALIER_KERNELS_POINTWISE_H

#include "deploy/kernels/conv.h"

struct pointwise_affine_args {
    const float *x; /* (0, 0) of panel 0 */
    ptrdiff_t x_line, x_panel;
    float *y;
    ptrdiff_t y_line, y_panel;
    int height, width;
    const float *scale, *shift; /* [channels rounded up to 16] */
};

/* y = scale[c] * x + shift[c], channels [first, last), `first` a multiple of
 * 16. y may be x. */
typedef void pointwise_affine_fn(const struct pointwise_affine_args *args, int first, int last);
pointwise_affine_fn pointwise_affine_ref, pointwise_affine_sse2, pointwise_affine_avx2, pointwise_affine_avx512, pointwise_affine_neon;

/* The shortcut: y = act(alpha * own + beta * from), where `from` has a value:
 * own (i, j) meets from (i*step/every, j*step/every) where `every` divides i and j. */
struct pointwise_add_args {
    const float *own;
    ptrdiff_t own_line, own_panel;
    const float *from;
    ptrdiff_t from_line, from_panel;
    int from_channels, from_height, from_width;
    int step, every; /* Darknet's sampling: one of them is 1 */
    float *y;        /* shares no memory with own or from */
    ptrdiff_t y_line, y_panel;
    int height, width;
    float alpha, beta;
    enum activation activation;
};

/* Channels [first, last), `first` a multiple of 16. */
typedef void pointwise_add_fn(const struct pointwise_add_args *args, int first, int last);
pointwise_add_fn pointwise_add_ref, pointwise_add_sse2, pointwise_add_avx2, pointwise_add_avx512, pointwise_add_neon;

/* The place in `from` that meets own line (or column) i, or -1. */
static inline int pointwise_add_place(const struct pointwise_add_args *a, int i, int length) {
    int place = i / a->every * a->step;
    return i % a->every == 0 && place < length ? place : -1;
}

#endif
