/* 3x3 convolution of stride 1 by Winograd's minimal filtering F(m x m, 3 x 3)
 * (Lavin and Gray, Fast Algorithms for Convolutional Neural Networks, CVPR
 * 2016): tiles of m x m outputs from (m+2) x (m+2) inputs, transformed so that
 * the convolution is one matrix product for each of the (m+2)^2 points.
 *
 * Arguments are those of the direct kernel (conv.h), packed weights and chunks
 * included: weights are transformed on the way, a block at a time, so that
 * they lie in memory once and every level is a prefix of them. It needs kh =
 * kw = 3, x_column = PANEL, x_line = x_tap_line, and chunks of at most 16 rows.
 *
 * Tiles are numbered line by line. Two steps: winograd_input fills `v` for a
 * range of tiles and chunks; winograd_output computes channels of those tiles. */
#ifndef ESPALIER_KERNELS_WINOGRAD_H
#define ESPALIER_KERNELS_WINOGRAD_H

#include "deploy/kernels/conv.h"

#include <stdbool.h>

enum { WINOGRAD_MAX = 8 }; /* the largest m + 2 */

struct winograd_args {
    const struct conv_args *conv;
    int m;          /* 4 or 6 */
    int height;     /* outputs; the input has height + 2 lines of width + 2 */
    int first, end; /* the tiles that v holds */
};

static inline int winograd_columns(const struct winograd_args *a) { return (a->conv->width + a->m - 1) / a->m; }
static inline int winograd_tiles(const struct winograd_args *a) {
    return (a->height + a->m - 1) / a->m * winograd_columns(a);
}

/* Maps of so few tiles of 4 x 4 have their weights transformed in registers. */
enum { WINOGRAD_FEW = 4 };
static inline bool winograd_few(const struct winograd_args *a) {
    return a->m == 4 && winograd_tiles(a) <= WINOGRAD_FEW && a->conv->nchunks > 0;
}

/* The tiles of v are dealt out evenly to groups of at most 14, each of which is
 * multiplied at once. What one product reads lies together; between points
 * there is an odd number of cache lines, lest they meet in the same set of a
 * cache when a transform writes them.
 *
 *   v: [groups][(m+2)^2]{ [chunks][14][16] and a line }
 *
 * With few tiles:
 *
 *   v: [chunks][36][WINOGRAD_FEW][16] */
enum { WINOGRAD_GROUP = 14 };
static inline int winograd_groups(int tiles) { return (tiles + WINOGRAD_GROUP - 1) / WINOGRAD_GROUP; }
static inline ptrdiff_t winograd_v_point(int chunks) { return (ptrdiff_t)chunks * WINOGRAD_GROUP * PANEL + PANEL; }
static inline size_t winograd_v_floats(int m, int tiles, int chunks) {
    return (size_t)((m + 2) * (m + 2)) * (size_t)winograd_groups(tiles) * (size_t)winograd_v_point(chunks);
}

/* A thread's scratch: a block of transformed weights, and its products:
 *
 *   u: [(m+2)^2]{ [winograd_in][WINOGRAD_OUT][16 rows][16] and a line }
 *   sums: [groups][(m+2)^2]{ [14][WINOGRAD_OUT * 16] and a line } */
enum { WINOGRAD_OUT = 2, WINOGRAD_IN = 8, WINOGRAD_SUMS = WINOGRAD_GROUP * WINOGRAD_OUT * PANEL + PANEL };
/* Chunks in a block: many, so that sums are added to seldom, unless tiles are so few that
 * each weight is used once or twice, and should be near. */
static inline int winograd_in(int tiles, int chunks) {
    return chunks <= WINOGRAD_IN / 2 || tiles <= 2 * WINOGRAD_GROUP ? WINOGRAD_IN / 2 : WINOGRAD_IN;
}
static inline ptrdiff_t winograd_u_point(int in) { return in * WINOGRAD_OUT * PANEL * PANEL + PANEL; }
static inline size_t winograd_scratch_floats(int m, int tiles, int chunks) {
    return (size_t)((m + 2) * (m + 2)) *
           ((size_t)winograd_u_point(winograd_in(tiles, chunks)) + (size_t)winograd_groups(tiles) * WINOGRAD_SUMS);
}

/* Transforms chunks [first, last) for tiles [top, bottom), within those that v holds. */
typedef void winograd_input_fn(const struct winograd_args *args, int first, int last, int top, int bottom, float *v);
winograd_input_fn winograd_input_ref, winograd_input_sse2, winograd_input_avx2, winograd_input_avx512, winograd_input_neon;

/* Channels [first, last) of all tiles that v holds; `first` a multiple of 16. */
typedef void winograd_output_fn(const struct winograd_args *args, int first, int last, const float *v, float *scratch);
winograd_output_fn winograd_output_ref, winograd_output_sse2, winograd_output_avx2, winograd_output_avx512, winograd_output_neon;

#endif
