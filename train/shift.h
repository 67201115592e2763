/* A portfolio from sparse training.
 *
 * Source: Eccles, Rodgers, Kilpatrick, Spence, Varghese, DNNShifter: an
 * efficient DNN pruning system for edge computing, arXiv 2309.06973, and its
 * published code. From there: the network is trained; for each sparsity, one
 * after the other, the smallest weights of all layers together are zeroed and the others rewound
 * to their values of early in training, from where they train again; channels
 * that have become zero are cut out of the sparse networks without training.
 * Other than there: a few sparsities instead of 25 rounds of 20%; part of
 * the pruning is by whole channels (magnitude.h); residual groups are cut, too, and
 * what a channel still emitted is carried on, so that the network computes the same
 * (common/constants.h); then those channels go that images show to be removable
 * (removable.h).
 *
 * Every finished training stays in the folder "<output>.rounds", with its log,
 * so that an interrupted run goes on from there, and sparse networks and
 * variants can be compared. */
#ifndef ESPALIER_SHIFT_H
#define ESPALIER_SHIFT_H

#include "common/err.h"
#include "train/trainer.h"

enum { SHIFT_MAX_SPARSITIES = 31 };

struct shift_config {
    struct trainer_config train; /* setup, epochs, precision, stop, cache_mib, json */
    const char *output;          /* the portfolio */
    int nsparsities;
    double sparsities[SHIFT_MAX_SPARSITIES]; /* rising, in (0, 1) */
    int rewind;                  /* epoch behind which the weights are rewound to */
    double share;                /* of pruning that is by whole channels: magnitude.h */
    double tolerance;            /* removable.h */
};
struct shift_config shift_defaults(void);

/* STATUS_CANCELLED if stopped: the same command goes on. */
enum status shift_run(const struct shift_config *config, struct err *err) MUST_CHECK;

#endif
