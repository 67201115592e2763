/* One picture of the data set: a scene, an animal in it or none, a camera. */
#ifndef ESPALIER_SYNTH_PICTURE_H
#define ESPALIER_SYNTH_PICTURE_H

#include "common/err.h"
#include "common/random.h"
#include "train/synth/canvas.h"
#include "train/synth/species.h"

#include <stdint.h>

/* Room to paint in, for one thread, used from picture to picture. */
struct painter {
    struct canvas picture, animal, cover, scratch;
    float *depth;   /* [h, w] */
    uint8_t *bytes; /* [h, w, 3]: the finished picture */
};

enum status painter_init(struct painter *painter, int w, int h, struct err *err) MUST_CHECK;
void painter_fini(struct painter *painter);
/* Fills painter->bytes. `species` NULL: no animal. */
void painter_draw(struct painter *painter, const struct species *species, struct random random);

#endif
