/* Training a network so that it survives pruning: the whole way from images
 * and a cfg to one model file.
 *
 * Steps over random plans (robust.h); under way the channels put in order
 * (order.h), and the level table allocated (allocate.h) if asked for (behind
 * plain training: at its end); the batch-norm rows re-estimated (calibrate.h);
 * the accuracy of plans measured on held-out images and the accuracy model
 * fitted (measure.h); the file written atomically. Everything follows from seed, data, cfg and options, given the
 * number of threads: two runs write the same bytes. */
#ifndef ESPALIER_TRAINER_H
#define ESPALIER_TRAINER_H

#include "common/err.h"
#include "train/calibrate.h"
#include "train/order.h"
#include "train/robust.h"
#include "train/setup.h"

#include <signal.h>
#include <stdbool.h>

struct trainer_config {
    struct setup_config setup;
    const char *output; /* the model file; checkpoints go to "<output>.checkpoint" */
    const char *log;    /* JSON lines, or NULL */
    struct robust_config robust;
    enum order_criterion order;
    int order_every;      /* epochs between orderings in the first half of the run; 0: none */
    enum ops_precision precision;
    bool allocate;        /* the level table by sensitivity (allocate.h), not uniform */
    double allocate_from; /* share of the steps before that; each group of a random plan has a level of its own then */
    int epochs;           /* -1: the cfg's */
    bool soft_mask;       /* importance is learnt (soft_mask.h) in the first half of what is not plain */
    bool keep_zeros;      /* weights that are zero in setup.from stay zero; only with ROBUST_NONE */
    int begin_epoch;      /* the run begins behind that epoch of the schedule, with the weights of setup.from */
    const char *keep;     /* where the weights behind epoch `keep_epoch` go, as a model file; or NULL */
    int keep_epoch;
    bool resume, json, quiet; /* quiet: no table of levels */
    int checkpoint_every; /* steps; 0: once an epoch */
    struct calibrate_config calibrate;
    int measure_plans;    /* random plans that test the accuracy model; 0: none is fitted */
    int cache_mib;        /* memory for decoded images */
    const volatile sig_atomic_t *stop; /* set: write a checkpoint and return; may be NULL */
};

/* Defaults for that way of making a network robust: plain training is ordered
 * by l1 afterwards; under drop and sandwich the order trains itself. */
struct trainer_config trainer_defaults(enum robust_mode mode);

/* Trains, writes the model, prints the table of levels on stdout, removes the
 * checkpoint. STATUS_CANCELLED if stopped: a checkpoint was written. */
enum status trainer_run(const struct trainer_config *config, struct err *err) MUST_CHECK;

#endif
