/* Who serves which slice. In order of the pipeline every stage has at least
 * one worker; what is left of a cluster after a fault gets the best layout that
 * it can still carry:
 *
 * - a stage goes on with those of its workers that are there;
 * - one without any gets a spare;
 * - without a spare the model is cut into fewer slices: what was the stage's
 *   is merged into its neighbours', for the cuts are chosen anew.
 *
 * It depends on who is there alone, so a worker that comes back is used again. */
#ifndef ESPALIER_LAYOUT_H
#define ESPALIER_LAYOUT_H

#include "deploy/cluster.h"
#include "deploy/wire.h"

#include <stdbool.h>
#include <stddef.h>

struct layout_places {
    int nstages; /* 0: nobody is there */
    struct layout_stage {
        int count;
        int worker[WIRE_MAX_REPLICAS]; /* indices into cluster->worker */
    } stage[WIRE_MAX_STAGES];
};

/* alive: [cluster->nall] */
void layout_choose(const struct cluster *cluster, const bool *alive, struct layout_places *places);
/* Whether nothing is gained by going from `present` to `wanted`: the same stages, with no
 * worker that is not in place already, and no living one too many. */
bool layout_serves(const struct layout_places *present, const struct layout_places *wanted, const bool *alive);
/* "w1 | w2 w4 | w3" */
void layout_text(const struct cluster *cluster, const struct layout_places *places, char *text, size_t size);

#endif
