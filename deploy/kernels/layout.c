/* Line by line within a panel, so that the line being scattered or gathered
 * stays in the nearest cache. */
#include "deploy/kernels/layout.h"

enum { PANEL_CHANNELS = 16 };

static float *channel(const struct layout *l, int c) {
    return l->origin + c / PANEL_CHANNELS * l->panel + c % PANEL_CHANNELS;
}

static int panel_end(int c, int channels) { return c + PANEL_CHANNELS < channels ? c + PANEL_CHANNELS : channels; }

void layout_from_planar(const struct layout *l, const float *planar, int channels) {
    const ptrdiff_t map = (ptrdiff_t)l->h * l->w;
    for (int panel = 0; panel < channels; panel += PANEL_CHANNELS)
        for (int i = 0; i < l->h; i++)
            for (int c = panel; c < panel_end(panel, channels); c++) {
                float *to = channel(l, c) + i * l->line;
                const float *from = planar + c * map + (ptrdiff_t)i * l->w;
                for (int j = 0; j < l->w; j++) to[j * l->pitch] = from[j];
            }
}

void layout_to_planar(const struct layout *l, float *planar, int channels) {
    const ptrdiff_t map = (ptrdiff_t)l->h * l->w;
    for (int panel = 0; panel < channels; panel += PANEL_CHANNELS)
        for (int i = 0; i < l->h; i++)
            for (int c = panel; c < panel_end(panel, channels); c++) {
                const float *from = channel(l, c) + i * l->line;
                float *to = planar + c * map + (ptrdiff_t)i * l->w;
                for (int j = 0; j < l->w; j++) to[j] = from[j * l->pitch];
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
