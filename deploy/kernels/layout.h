/* Between planar maps [c, h, w], as callers have them, and panels of 16
 * channels or interleaved pixels, as kernels want them. */
#ifndef ESPALIER_KERNELS_LAYOUT_H
#define ESPALIER_KERNELS_LAYOUT_H

#include <stddef.h>

/* Where a map's values lie: channel c of pixel (i, j) is
 * origin[c / 16 * panel + i * line + j * pitch + c % 16]; with fewer than 16
 * channels and pitch < 16 pixels are interleaved. */
struct layout {
    float *origin;
    ptrdiff_t line, panel;
    int pitch, h, w;
};

/* The first `channels` channels; other lanes are left as they are. */
void layout_from_planar(const struct layout *layout, const float *planar, int channels);
void layout_to_planar(const struct layout *layout, float *planar, int channels);
/* Channels [from_first, +channels) of one map to [to_first, +channels) of
 * another of the same height and width. */
void layout_copy(const struct layout *to, int to_first, const struct layout *from, int from_first, int channels);

#endif
