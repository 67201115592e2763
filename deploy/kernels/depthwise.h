/* Depthwise convolution (one channel per group) over panels; see conv.h for
 * the layouts. Weights: [C/16][K*K][16].
 *
 *   y[c][i][j] = act(scale[c] * sum_{ky, kx} w[c][ky][kx] * x[c][i*stride + ky][j*stride + kx] + shift[c])
 *
 * Lanes past the last channel are written with unspecified values. */
#ifndef ESPALIER_KERNELS_DEPTHWISE_H
#define ESPALIER_KERNELS_DEPTHWISE_H

#include "deploy/kernels/conv.h"

struct depthwise_args {
    const float *x; /* where output (0, 0) of panel 0 meets tap (0, 0) */
    ptrdiff_t x_line, x_panel;
    int size, stride;
    const float *w;
    float *y; /* shares no memory with x */
    ptrdiff_t y_line, y_panel;
    int width;
    const float *scale, *shift; /* [channels rounded up to 16] */
    enum activation activation;
};

/* Channels [first, last), `first` a multiple of 16, of lines [top, bottom). */
typedef void depthwise_fn(const struct depthwise_args *args, int first, int last, int top, int bottom);
depthwise_fn depthwise_ref, depthwise_sse2, depthwise_avx2, depthwise_avx512, depthwise_neon;

#endif
