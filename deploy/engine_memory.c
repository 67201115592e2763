/* Buffers for storages. Two storages may share one if they do not live at the
 * same time and have the same geometry: then the zeros of the border, written
 * once, stay where they are. With little memory the geometry does not matter. */
#include "deploy/engine_internal.h"

#include <stdlib.h>
#include <string.h>

struct buffer {
    int h, w, border, pitch, panels;
    int busy_until; /* the last operation that reads it */
    size_t offset;
};

static int panels_of(const struct storage *s) {
    if (s->passing) return 0;
    return s->pitch == PANEL ? (s->channels + PANEL - 1) / PANEL : 1;
}

static bool fits(const struct buffer *b, const struct storage *s) {
    return !s->passing && b->h == s->h && b->w == s->w && b->border == s->border && b->pitch == s->pitch && b->busy_until < s->born;
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

static size_t size_of(const struct buffer *b) {
    return ((size_t)b->panels * panel_size(b) + PANEL - 1) / PANEL * PANEL; /* to the next cache line */
}

/* With little memory storages of any shape share it, and borders are cleared
 * anew in each run: the first place that is free as long as storage i lives. */
static size_t place(const struct engine *e, const struct buffer *buffers, int i) {
    const struct storage *s = &e->storages[i];
    size_t offset = 0;
    for (bool moved = true; moved;) {
        moved = false;
        for (int k = 0; k < i; k++) {
            const struct storage *other = &e->storages[k];
            const size_t begin = buffers[k].offset, end = begin + size_of(&buffers[k]);
            if (other->dies < s->born || s->dies < other->born) continue;
            if (offset >= end || offset + size_of(&buffers[i]) <= begin) continue;
            offset = end;
            moved = true;
        }
    }
    return offset;
}

static size_t place_all(const struct engine *e, struct buffer *buffers) {
    size_t total = 0;
    for (int i = 0; i < e->nstorages; i++) {
        const struct storage *s = &e->storages[i];
        buffers[i] = (struct buffer){s->h, s->w, s->border, s->pitch, panels_of(s), s->dies, 0};
        buffers[i].offset = place(e, buffers, i);
        if (buffers[i].offset + size_of(&buffers[i]) > total) total = buffers[i].offset + size_of(&buffers[i]);
    }
    return total;
}

void engine_clear_borders(const struct engine *e, int op) {
    for (int i = 0; i < e->nstorages; i++) {
        const struct storage *s = &e->storages[i];
        const struct layout *l = &s->layout;
        if (s->born != op || s->border == 0) continue;
        const size_t line = (size_t)l->line, edge = (size_t)s->border * (size_t)l->pitch;
        for (int panel = 0; panel < panels_of(s); panel++) {
            float *first = l->origin + panel * l->panel - edge; /* of line 0, with its border */
            memset(first - (size_t)s->border * line, 0, (size_t)s->border * line * sizeof *first);
            for (int y = 0; y < l->h; y++, first += line) {
                memset(first, 0, edge * sizeof *first);
                memset(first + line - edge, 0, edge * sizeof *first);
            }
            memset(first, 0, (size_t)s->border * line * sizeof *first);
        }
    }
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
    size_t total = e->low_memory ? place_all(e, buffers) : 0;
    for (int i = 0; i < e->nstorages; i++)
        chosen[i] = e->low_memory ? i : choose(buffers, &nbuffers, &e->storages[i]);
    for (int i = 0; i < nbuffers; i++) {
        buffers[i].offset = total;
        total += size_of(&buffers[i]);
    }
    float *memory = engine_alloc(e, total, sizeof *memory);
    if (!memory) {
        status = err_memory(err, "engine's buffers");
        goto done;
    }
    e->maps = memory;
    e->maps_bytes = total * sizeof *memory;
    for (int i = 0; i < e->nstorages; i++) e->storages[i].layout = layout_in(&buffers[chosen[i]], memory);
done:
    free(buffers);
    free(chosen);
    return status;
}
