/* Buffers for storages. Two storages may share one if they do not live at the
 * same time and have the same geometry: then the zeros of the border, written
 * once, stay where they are. */
#include "deploy/engine_internal.h"

#include <stdlib.h>

struct buffer {
    int h, w, border, pitch, panels;
    int busy_until; /* the last operation that reads it */
    size_t offset;
};

static int panels_of(const struct storage *s) { return s->pitch == PANEL ? (s->channels + PANEL - 1) / PANEL : 1; }

static bool fits(const struct buffer *b, const struct storage *s) {
    return b->h == s->h && b->w == s->w && b->border == s->border && b->pitch == s->pitch && b->busy_until < s->born;
}

/* The free buffer whose size is nearest; otherwise a new one. */
static int choose(struct buffer *buffers, int *nbuffers, const struct storage *s) {
    int best = -1, panels = panels_of(s);
    for (int i = 0; i < *nbuffers; i++)
        if (fits(&buffers[i], s) &&
            (best < 0 || abs(buffers[i].panels - panels) < abs(buffers[best].panels - panels)))
            best = i;
    if (best < 0) {
        best = (*nbuffers)++;
        buffers[best] = (struct buffer){s->h, s->w, s->border, s->pitch, panels, 0, 0};
    }
    if (buffers[best].panels < panels) buffers[best].panels = panels;
    buffers[best].busy_until = s->dies;
    return best;
}

/* Floats of one panel. */
static size_t panel_size(const struct buffer *b) {
    return (size_t)(b->h + 2 * b->border) * (size_t)(b->w + 2 * b->border) * (size_t)b->pitch;
}

static struct layout layout_in(const struct buffer *b, float *memory) {
    const ptrdiff_t line = (ptrdiff_t)(b->w + 2 * b->border) * b->pitch;
    return (struct layout){.origin = memory + b->offset + b->border * line + (ptrdiff_t)b->border * b->pitch,
                           .line = line,
                           .panel = (ptrdiff_t)panel_size(b),
                           .pitch = b->pitch,
                           .h = b->h,
                           .w = b->w};
}

enum status engine_memory(struct engine *e, struct err *err) {
    enum status status = STATUS_OK;
    int nbuffers = 0;
    struct buffer *buffers = calloc((size_t)e->nstorages, sizeof *buffers);
    int *chosen = calloc((size_t)e->nstorages, sizeof *chosen);
    if (!buffers || !chosen) {
        status = err_memory(err, "engine's buffers");
        goto done;
    }
    for (int i = 0; i < e->nstorages; i++) chosen[i] = choose(buffers, &nbuffers, &e->storages[i]);
    size_t total = 0;
    for (int i = 0; i < nbuffers; i++) {
        buffers[i].offset = total;
        /* To the next cache line. */
        total += ((size_t)buffers[i].panels * panel_size(&buffers[i]) + PANEL - 1) / PANEL * PANEL;
    }
    float *memory = engine_alloc(e, total, sizeof *memory);
    if (!memory) {
        status = err_memory(err, "engine's buffers");
        goto done;
    }
    for (int i = 0; i < e->nstorages; i++) e->storages[i].layout = layout_in(&buffers[chosen[i]], memory);
done:
    free(buffers);
    free(chosen);
    return status;
}
