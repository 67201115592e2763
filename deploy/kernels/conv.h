/* Convolution, and everything that is one in disguise (connected layers,
 * grouped convolutions), over prefixes of channels.
 *
 * Layouts. Activations lie in panels of 16 channels: [C/16][lines][columns][16]
 * f32, with a border of zeros that the kernel reads as padding. Weights are
 * packed once for all levels: per panel of 16 outputs, per chunk of input
 * channels, [KH*KW][rows][16]. A level is the first panels, the first chunks
 * and, in the last chunk, the first rows; nothing is moved.
 *
 *   y[o][i][j] = act(scale[o] * sum_{chunk, ky, kx, r} w * x + shift[o] + residual[o][i][j])
 *
 * The channels in [channels, next vector) of the last panel are written with
 * unspecified values: who reads a tensor reads no lane past its count. */
#ifndef ESPALIER_KERNELS_CONV_H
#define ESPALIER_KERNELS_CONV_H

#include "common/activation.h"

#include <stddef.h>

enum { PANEL = 16 };

/* A run of input values that lie side by side in memory: up to 16 channels of
 * a panel, or, where a map has its channels interleaved (an image), all
 * columns and channels of one line of taps. */
struct conv_chunk {
    const float *x;  /* the run's first value where output (0, 0) meets tap (0, 0) */
    const float *w;  /* tap 0, row 0 of panel 0 */
    ptrdiff_t w_tap; /* floats from tap to tap: 16 x rows as packed */
    int rows;        /* values of the run to read */
};

struct conv_args {
    const struct conv_chunk *chunks; /* none: the sum is 0 */
    int nchunks;
    int kh, kw;
    /* Floats of input between: taps side by side; taps one below the other;
     * outputs side by side; outputs one below the other. */
    ptrdiff_t x_tap, x_tap_line, x_column, x_line;
    ptrdiff_t w_panel; /* floats between panels of weights */
    float *y;          /* output (0, 0) of panel 0; shares no memory with x or residual */
    ptrdiff_t y_line, y_panel;
    int width;          /* outputs in a line */
    const float *scale; /* [channels rounded up to 16] */
    const float *shift;
    enum activation activation;
    /* Added before the activation to the first `residual_channels` channels; NULL: none. */
    const float *residual;
    ptrdiff_t residual_line, residual_panel;
    int residual_channels;
};

/* Channels [first, last) of lines [top, bottom). `first` is a multiple of the
 * set's lanes (kernels.lanes) and, if another call computes the channels from
 * `last` on, `last` too. */
typedef void conv_fn(const struct conv_args *args, int first, int last, int top, int bottom);
conv_fn conv_ref, conv_sse2, conv_avx2, conv_avx512, conv_neon;

/* Output o at line i, column j, by the definition. */
void conv_ref_one(const struct conv_args *args, int o, int i, int j);

#endif
