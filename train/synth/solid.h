/* Lit round shapes: the hull of two balls, which is what trunks, rocks and the
 * limbs of animals are made of. */
#ifndef ESPALIER_SYNTH_SOLID_H
#define ESPALIER_SYNTH_SOLID_H

#include "train/synth/canvas.h"

#include <stdint.h>

/* Pixels; x to the right, y down, z towards the viewer. */
struct point {
    float x, y, z;
};

struct solid {
    struct point a, b;
    float ra, rb;             /* radii at a and b */
    struct colour top, under; /* of what faces up and down */
    float texture;            /* strength of the grain, 0 to 1 */
    bool shines;              /* shows its colour whatever the light: eyes at night */
};

struct light {
    struct point towards;  /* unit vector to the lamp or sun */
    float ambient, direct; /* shares of brightness */
    struct colour tint;
};

/* `depth`: [h, w], the nearest z so far, for solids that hide one another; NULL: simply painted over. */
void solid_draw(struct canvas *canvas, float *depth, const struct solid *solid, const struct light *light,
                uint32_t grain);

#endif
