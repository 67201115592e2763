/* The accuracy model: expected top-1 accuracy of any plan, additive in what
 * each block costs, and at each cut the change of level and the codec.
 *
 *   accuracy(plan) = base - sum_b block[b][level_b]
 *                         - sum_cuts (missing[b][a_b - level_b] + narrow[b][level_b]
 *                                     or surplus[b][level_b - a_b]
 *                                     + codec[b][codec_b])
 *
 * with the cuts at the entrances of blocks 1, 2, ... and a_b the level of what
 * arrives there, max(level_b-1, link_b): of channels that the block would read, some
 * are missing if that is higher than its own, the larger a share of them the
 * narrower the block is; if it is lower, some are not read.
 * Fitted by least squares with non-negative, non-decreasing costs to uniform,
 * single-block, single-step and random plans; `held_out_error` is the mean
 * absolute error on random plans that the fit did not see. Accuracies are
 * shares, 0 to 1. */
#ifndef ESPALIER_ACCURACY_H
#define ESPALIER_ACCURACY_H

#include "common/err.h"
#include "common/plan.h"

#include <stdbool.h>

struct accuracy {
    int nblocks, nlevels;
    double base;
    double *block; /* [nblocks][nlevels], block[.][0] = 0 */
    double *missing; /* [nblocks][nlevels]: cost of what arrives being so many levels higher */
    double *narrow;  /* [nblocks][nlevels]: cost, on top, of the block's own level where any are missing */
    double *surplus; /* [nblocks][nlevels]: cost of its being so many levels lower */
    double *codec; /* [nblocks][CODEC_COUNT]: cost of the codec at the entrance of the block */
    bool links, codecs; /* whether any plan measured had a capped link, one of 8 or 4 bits */
    int samples;   /* images measured on */
    double fit_error, held_out_error, held_out_worst; /* mean, mean, largest absolute error */
};

struct accuracy_sample {
    const struct plan *plan;
    double accuracy;
};

enum status accuracy_create(struct accuracy **accuracy, int nblocks, int nlevels, struct err *err) MUST_CHECK;
void accuracy_destroy(struct accuracy **accuracy);
/* The sum as it stands, not clipped to [0, 1]. */
double accuracy_predict(const struct accuracy *accuracy, const struct plan *plan);
/* What it costs block b to run at `own` when `arriving` comes in. */
double accuracy_step(const struct accuracy *accuracy, int b, int own, int arriving);
/* Fits base and costs to samples; fit_error is set. What no
 * sample uses costs as much as the next lower level or finer codec; a codec
 * with zlib costs what it costs without. */
enum status accuracy_fit(struct accuracy *accuracy, const struct accuracy_sample *samples, int nsamples,
                         struct err *err) MUST_CHECK;
/* Mean absolute error of the predictions; *worst (may be NULL) the largest. */
double accuracy_error(const struct accuracy *accuracy, const struct accuracy_sample *samples, int nsamples,
                      double *worst);
/* JSON text as kept in model files, malloc'ed; NULL if memory ran out. The parser checks every length and number. */
char *accuracy_json(const struct accuracy *accuracy);
enum status accuracy_parse(struct accuracy **accuracy, const char *json, int nblocks, int nlevels,
                           struct err *err) MUST_CHECK;
/* The part for blocks [first, first + nblocks), for a slice file. */
enum status accuracy_slice(struct accuracy **part, const struct accuracy *whole, int first, int nblocks,
                           struct err *err) MUST_CHECK;

#endif
