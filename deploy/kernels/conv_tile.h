/* The direct convolution's register tiles, for kernels that end in a matrix
 * product of their own. Included by *_simd.c only. */
#ifndef ESPALIER_KERNELS_CONV_TILE_H
#define ESPALIER_KERNELS_CONV_TILE_H

#include "deploy/kernels/conv.h"
#include "deploy/kernels/vec_activation.h"

#if defined(ISA_avx512)
enum { CONV_N = 2, CONV_S = 14, CONV_REGISTERS = 32 };
#elif defined(ISA_neon)
enum { CONV_N = 4, CONV_S = 5, CONV_REGISTERS = 32 };
#else
enum { CONV_N = 2, CONV_S = 6, CONV_REGISTERS = 16 };
#endif

/* What a tile asks for while it computes: 16 cache lines for each chunk and tap,
 * `floats` behind where it reads the input, or the weights; and, unless NULL, from
 * memory to the second cache CONV_FAR lines from `far` on for every four rows. */
struct conv_ahead {
    ptrdiff_t floats;
    int weights;
    const float *far;
};
enum { CONV_FAR = 2 };

/* Where a tile's sums become outputs. */
struct conv_end {
    const struct vec_activation *activation; /* a simple one */
    const float *scale, *shift;              /* of the tile's first channel */
    float *y;                                /* of its first channel, line and column */
    const float *residual;                   /* likewise, for all its channels; NULL: none */
};

/* R lines x S columns by N vectors of channels; x and w are the offsets of the tile in
 * the chunks' input and weights. Without `end` sums go into sums[R][S][N][VEC_LANES],
 * or are added to what is there. */
typedef void conv_tile_fn(const struct conv_args *a, ptrdiff_t x, ptrdiff_t w, float *sums, int add,
                          struct conv_ahead ahead, const struct conv_end *end);

/* Where line `line` of the weights of some panels by chunks [k0, k1) lies; NULL behind the last. */
VEC_INLINE const float *conv_weight_line(const struct conv_args *a, int k0, int k1, int panel, int panels, int line) {
    if (panels <= 0 || k0 >= k1) return NULL;
    const struct conv_chunk *last = &a->chunks[k1 - 1];
    const float *w = a->chunks[k0].w;
    const int lines = (int)((last->w + a->kh * a->kw * last->w_tap - w) / PANEL);
    return line / lines < panels ? w + (panel + line / lines) * a->w_panel + line % lines * PANEL : NULL;
}

/* The tile of one line and 2^log_n <= CONV_N vectors, columns PANEL apart. */
conv_tile_fn *VEC_NAME(conv_tile)(int log_n, int columns);

#endif
