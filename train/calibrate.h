/* Batch-norm rows for pruned widths: mean and variance of every batch-norm
 * input, re-estimated per (own level, incoming level) of its block.
 *
 * Statistics come from NETWORK_STATS passes over training images: every level
 * throughout, for the rows whose levels are the same, then plans of several
 * slices, for the others, drawn so that each pair of each block is met about
 * equally often. A row's mean and mean square are averaged
 * over its batches, per channel over those that computed it (cumulative, as
 * slimmable networks' calibration does it; Yu, Huang 2019), and the variance
 * taken from both, so that it holds between batches too.
 *
 * Where a pair was not met the row is that of (own, own), and a channel that a
 * row never computed has its values at full width. */
#ifndef ESPALIER_CALIBRATE_H
#define ESPALIER_CALIBRATE_H

#include "common/err.h"
#include "common/model.h"
#include "train/loader.h"
#include "train/network.h"

#include <stdint.h>

struct calibrate_config {
    int uniform;  /* passes of every level throughout */
    int coverage; /* passes that every pair of different levels of every block should get */
    int batches;  /* but at most so many in all */
    uint64_t seed;
};

struct calibrate_config calibrate_defaults(void);

/* Fills mean and var of all rows of the model, which must have nlevels^2 rows.
 * `images`: an endless (training) loader. `*missed`: pairs of blocks not met
 * within `batches`. */
enum status calibrate_run(struct network *network, struct model *model, struct loader *images,
                          const struct calibrate_config *config, int *missed, struct err *err) MUST_CHECK;
/* Fills only the row of `level` used throughout, from `batches` passes: for a
 * quick look at accuracy during training. */
enum status calibrate_uniform(struct network *network, struct model *model, struct loader *images, int level,
                              int batches, struct err *err) MUST_CHECK;

#endif
