/* One training step: draw the plans, run each forward and backward over the
 * same images, update what was reached.
 *
 * With subdivisions the step's images are worked off in that many parts, as in
 * Darknet: batch norm sees a part, the update all of them. */
#ifndef ESPALIER_STEP_H
#define ESPALIER_STEP_H

#include "common/err.h"
#include "common/model.h"
#include "train/loader.h"
#include "train/network.h"
#include "train/reach.h"
#include "train/robust.h"
#include "train/sgd.h"
#include "train/soft_mask.h"
#include "train/sparsity.h"

#include <stdint.h>

struct step_config {
    struct robust_config robust;
    int robust_begin; /* the steps before it are plain */
    int allocate_at;  /* up to it, each group of a random plan has a level of its own, so that all counts are trained */
    struct sgd_config sgd; /* its rate is set per step */
    float label_smoothing;
    int batch, subdivisions; /* images of a step; parts, a divisor of batch */
    uint64_t seed;
};

struct step {
    struct step_config config;
    struct network *network; /* borrowed, as is the model */
    const struct model *model;
    struct sgd *sgd;
    struct reach *reach;
    struct sparsity_mask *mask; /* weights held at zero; NULL: none */
    struct soft_mask *soft;    /* borrowed; NULL: none. While it is soft, levels are uniform */
    int soft_level[ROBUST_MAX_PASSES]; /* a pass's mask; 0: none */
    struct robust_pass passes[ROBUST_MAX_PASSES];
    float *logits, *dlogits, *target; /* [batch / subdivisions, classes] */
    float temperature;                /* of the network's softmax */
};

/* Of the first pass of a step: full width, unless the step had none. */
struct step_result {
    double loss; /* mean over the images, against the labels */
    int correct, images;
    int passes;
};

enum status step_create(struct step **step, const struct step_config *config, struct network *network,
                        const struct model *model, struct err *err) MUST_CHECK;
void step_destroy(struct step **step);
/* From now on the weights that are zero stay zero. */
enum status step_keep_zeros(struct step *step, struct err *err) MUST_CHECK;
/* Step `index` from 0. A loss that is not finite, or absurd, is STATUS_FORMAT,
 * naming step and layer, and leaves the parameters as they were. */
enum status step_run(struct step *step, struct loader *images, int index, float rate, struct step_result *result,
                     struct err *err) MUST_CHECK;

/* That all parameters are numbers behind step `index`; STATUS_FORMAT names a
 * tensor where they are not. */
enum status step_check(const struct step *step, int index, struct err *err) MUST_CHECK;

#endif
