/* An animal in a pose: species to a set of solids, seen from some side. */
#ifndef ESPALIER_SYNTH_ANIMAL_H
#define ESPALIER_SYNTH_ANIMAL_H

#include "common/random.h"
#include "train/synth/solid.h"
#include "train/synth/species.h"

enum { ANIMAL_MAX_PARTS = 72 };

struct animal {
    int nparts;
    struct solid parts[ANIMAL_MAX_PARTS];
    float left, right, top, bottom; /* what it covers, in pixels around its foot point at (0, 0) */
    float heading;                  /* -1 to 1: how much it goes to the right across the picture */
};

/* Draws pose, heading and coat. Its extent, the middle between the larger of
 * width and height and their geometric mean, becomes about `size` pixels, so
 * that long animals are not painted smaller. At night its eyes shine. */
void animal_choose(struct animal *animal, const struct species *species, struct random *random, float size, bool night);

#endif
