#include "deploy/kernels/layout.h"

enum { PANEL_CHANNELS = 16 };

static float *channel(const struct layout *l, int c) {
    return l->origin + c / PANEL_CHANNELS * l->panel + c % PANEL_CHANNELS;
}

void layout_from_planar(const struct layout *l, const float *planar, int channels) {
    for (int c = 0; c < channels; c++) {
        float *to = channel(l, c);
        for (int i = 0; i < l->h; i++, planar += l->w)
            for (int j = 0; j < l->w; j++) to[i * l->line + j * l->pitch] = planar[j];
    }
}

void layout_to_planar(const struct layout *l, float *planar, int channels) {
    for (int c = 0; c < channels; c++) {
        const float *from = channel(l, c);
        for (int i = 0; i < l->h; i++, planar += l->w)
            for (int j = 0; j < l->w; j++) planar[j] = from[i * l->line + j * l->pitch];
    }
}

void layout_copy(const struct layout *to, int to_first, const struct layout *from, int from_first, int channels) {
    for (int c = 0; c < channels; c++) {
        float *out = channel(to, to_first + c);
        const float *in = channel(from, from_first + c);
        for (int i = 0; i < to->h; i++)
            for (int j = 0; j < to->w; j++) out[i * to->line + j * to->pitch] = in[i * from->line + j * from->pitch];
    }
}
