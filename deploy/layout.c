#include "deploy/layout.h"

#include <stdio.h>
#include <string.h>

_Static_assert((int)CLUSTER_MAX_REPLICAS == (int)WIRE_MAX_REPLICAS && (int)CLUSTER_MAX_WORKERS <= (int)WIRE_MAX_STAGES,
               "a cluster's stages fit a layout");

void layout_choose(const struct cluster *c, const bool *alive, struct layout_places *places) {
    int spare = c->nworkers;
    *places = (struct layout_places){ 0 };
    for (int s = 0; s < c->nworkers; s++) {
        struct layout_stage *stage = &places->stage[places->nstages];
        stage->count = 0;
        for (int i = 0; i < c->nall; i++)
            if (c->worker[i].stage == s && alive[i]) stage->worker[stage->count++] = i;
        while (stage->count == 0 && spare < c->nall) {
            if (c->worker[spare].stage < 0 && alive[spare]) stage->worker[stage->count++] = spare;
            spare++;
        }
        places->nstages += stage->count > 0;
    }
}

static bool has(const struct layout_stage *stage, int worker) {
    for (int i = 0; i < stage->count; i++)
        if (stage->worker[i] == worker) return true;
    return false;
}

bool layout_serves(const struct layout_places *present, const struct layout_places *wanted, const bool *alive) {
    if (present->nstages != wanted->nstages) return false;
    for (int s = 0; s < wanted->nstages; s++) {
        const struct layout_stage *p = &present->stage[s], *w = &wanted->stage[s];
        for (int i = 0; i < w->count; i++)
            if (!has(p, w->worker[i])) return false;
        for (int i = 0; i < p->count; i++)
            if (alive[p->worker[i]] && !has(w, p->worker[i])) return false;
    }
    return true;
}

void layout_text(const struct cluster *c, const struct layout_places *places, char *text, size_t size) {
    size_t n = 0;
    text[0] = '\0';
    for (int s = 0; s < places->nstages; s++) {
        const struct layout_stage *stage = &places->stage[s];
        for (int i = 0; i < stage->count && n < size; i++)
            n += (size_t)snprintf(text + n, size - n, "%s%s", i ? " " : s ? " | " : "",
                                  c->worker[stage->worker[i]].name);
    }
}
