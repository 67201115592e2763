/* Batch norm for pruned widths: mean and variance of every batch-norm input,
 * re-estimated for each level, and corrections for plans of several slices
 * (common/bn.h).
 *
 * Statistics come from NETWORK_STATS passes over training images. Every level
 * throughout, first: a row's mean and mean square are averaged over its batches
 * (cumulative, as slimmable networks' calibration does it; Yu, Huang 2019), and
 * the variance taken from both, so that it holds between batches too. Then random
 * plans of several slices: how their statistics deviate is regressed on what is
 * missing of the sums that arrive and on how wide the blocks before were, by ridge regression, per channel over the
 * passes that computed it.
 *
 * A channel that a level never computed has its values at full width. */
#ifndef ESPALIER_CALIBRATE_H
#define ESPALIER_CALIBRATE_H

#include "common/err.h"
#include "common/model.h"
#include "train/loader.h"
#include "train/network.h"

#include <stdint.h>

struct calibrate_config {
    int uniform; /* passes of every level throughout */
    int mixed;   /* passes under random plans, for each correction of a channel (4 slots of 7, and 2: 30) */
    uint64_t seed;
};

struct calibrate_config calibrate_defaults(void);

/* Fills mean and var of the model, which must have bn_rows() rows. `images`: an
 * endless (training) loader. */
enum status calibrate_run(struct network *network, struct model *model, struct loader *images,
                          const struct calibrate_config *config, struct err *err) MUST_CHECK;
/* Fills only the row of `level` used throughout, from `batches` passes: for a
 * quick look at accuracy during training. */
enum status calibrate_uniform(struct network *network, struct model *model, struct loader *images, int level,
                              int batches, struct err *err) MUST_CHECK;

#endif
