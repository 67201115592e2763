/* Random changes of training images: Darknet's random crop (angle, aspect,
 * scale), flip and hue/saturation/exposure, and pad-and-crop for small images.
 *
 * Source: Darknet's load_data_augment (behaviour, not code). Every draw comes
 * from the seed that is passed in. Thread-safe: no state of its own. */
#ifndef ESPALIER_AUGMENT_H
#define ESPALIER_AUGMENT_H

#include "common/cfg.h"
#include "common/err.h"
#include "common/image.h"

#include <stdbool.h>
#include <stdint.h>

struct augment {
    bool flip;                       /* mirror every second image */
    int pad;                         /* black border, then a random crop back to the input's size; 0: none */
    int min_crop, max_crop;          /* Darknet: the shorter side after a random resize, from which the input is
                                      * cut; 0: fitted to the input's size as the model's preprocessing does */
    float angle, aspect;             /* degrees; ratio, 1 none (with min_crop, max_crop only) */
    float hue, saturation, exposure; /* 0, 1, 1: none */
};

/* No change at all. */
struct augment augment_none(void);
/* Reads flip (1), pad_crop (0), min_crop, max_crop, angle, aspect, hue,
 * saturation and exposure of the cfg's [net], with Darknet's defaults: min_crop
 * the input's width and max_crop twice that; where pad_crop is given, 0 for both. */
enum status augment_from_cfg(struct augment *augment, const struct cfg *cfg, struct err *err) MUST_CHECK;
/* The shorter side that an image must be decoded to (for image_decode). */
int augment_want_side(const struct augment *augment, const struct image_preproc *preproc);

/* Room that augment_apply needs: zeroed to begin with, made as needed, reused
 * from image to image, one per thread. */
struct augment_scratch {
    struct image fitted;
};
void augment_scratch_free(struct augment_scratch *scratch);

/* One image to one input: augmented, normalised, [C, H, W] of `preproc`.
 * `in` has preproc->c channels. */
enum status augment_apply(const struct augment *augment, const struct image_preproc *preproc,
                          const struct image_u8 *in, uint64_t seed, struct augment_scratch *scratch, float *out,
                          struct err *err) MUST_CHECK;

#endif
